"""Frozen TensorFlow graphs: joins backbone and head into one without TensorFlow, and runs such graphs in it."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain.errors import ExportError, GraphError, UsageError, first_line
from retrain.formats.classifier import Classifier, ModelStats, TrainedClassifier, check_image_shape, does_not_run
from retrain.graphs.detection import detect_input, detect_outputs
from retrain.graphs.nodes import (
    GraphDef,
    all_nodes,
    array_of,
    attribute,
    constant_node,
    copy_of,
    count_operations,
    count_parameters,
    data_type,
    in_tensorflow,
    tensor_name,
)
from retrain.graphs.reading import parse_graph, read_graph
from retrain.head import Head, Layer, LayerNames, layer_names
from retrain.metadata import METADATA_NODE, Metadata

HEAD_SCOPE = "final_training_ops"  # what TensorFlow for Poets calls the last layer
_LOOP_LIMIT = 10_000  # ms that a graph with loops may take for a batch
HUB_HEAD_SCOPE = "final_retrain_ops"  # what the retrain.py of TF-Hub calls it
_BOTTLENECK = "BottleneckInputPlaceholder"


def check_output(output: str, *, scope: str, layers: int) -> None:
    """Refuse an output that is called like another node that `join` makes, of a head of so many layers.

    Raises:
        UsageError: It is.
    """
    names = layer_names(scope, layers)
    taken = {node for name in names for node in (name.weights, name.biases)}
    taken |= {f"{name.scope}/{operation}" for name in names for operation in ("MatMul", "add", "Relu")}
    taken |= {METADATA_NODE, *(f"{around}/{_BOTTLENECK}" for around in ("input", "input_1"))}
    # TensorFlow takes names that differ in case alone for the same.
    if output.lower() in {name.lower() for name in taken}:
        raise UsageError(
            f"--final_tensor_name is {output!r}, as another node of the graph is called. Give another name."
        )


def join(classifier: TrainedClassifier, metadata: Metadata) -> bytes:
    """Return the frozen graph of a classifier: images in, probabilities out, and its metadata inside.

    The file begins with the backbone's own, byte for byte; nodes of a second message behind it join those of the first.

    Raises:
        ExportError: The output's name is one that the backbone uses already.
    """
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    backbone = classifier.graph.read_bytes()
    # TensorFlow takes names that differ in case alone for the same.
    taken = {node.name.lower() for node in parse_graph(backbone, name=str(classifier.graph)).node}
    source, output, head = classifier.input.node, classifier.output, classifier.head
    if output.lower() in taken:
        raise ExportError(f"the backbone has a node named {output!r} itself. Give another --final_tensor_name.")

    def free(name: str) -> str:
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
        return next(each for each in names if each.lower() not in taken)

    added = GraphDef()
    # The name that the original's own scopes ended in: with an input node named "input", its scope became input_1.
    around_bottleneck = "input_1" if source == "input" else "input"
    bottleneck = _operation(added, "PlaceholderWithDefault", free(f"{around_bottleneck}/{_BOTTLENECK}"), "dtype")
    bottleneck.input.append(classifier.target)
    for side in (-1, len(head.layers[0].weights)):
        bottleneck.attr["shape"].shape.dim.add(size=side)
    values = bottleneck.name
    for layer, names in zip(head.layers, head.names(classifier.scope), strict=True):
        constants = [constant_node(free(name), value) for name, value in _arrays(names, layer)]
        added.node.extend(constants)
        product = _operation(added, "MatMul", free(f"{names.scope}/MatMul"), "T", values, constants[0].name)
        # Add and not AddV2, which TensorFlow has only since 1.14.
        values = _operation(added, "Add", free(f"{names.scope}/add"), "T", product.name, constants[1].name).name
        if layer is not head.last:
            values = _operation(added, "Relu", free(f"{names.scope}/Relu"), "T", values).name
    _operation(added, "Softmax", output, "T", values)
    complete = replace(metadata, input=classifier.input, output=output, bottleneck=bottleneck.name)
    added.node.append(constant_node(METADATA_NODE, np.array(complete.to_json(), object)))
    return backbone + added.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def _operation(graph_def: GraphDef, operation: str, name: str, kind: str, *inputs: str) -> Any:
    """Add a node of an operation on float32 to a graph and return it; `kind` names the attribute that says float32."""
    node = graph_def.node.add(name=name, op=operation)
    node.input.extend(inputs)
    node.attr[kind].type = data_type(np.dtype(np.float32))
    return node


def _arrays(names: LayerNames, layer: Layer) -> list[tuple[str, np.ndarray]]:
    return [(names.weights, layer.weights), (names.biases, layer.biases)]


def read_head(graph_def: GraphDef, metadata: Metadata) -> Head:
    """Return the head that `join` put into a graph, as its nodes say it: from the output back to the bottleneck.

    Raises:
        GraphError: The graph has another head.
    """
    by_name = {node.name: node for node in graph_def.node}

    def inputs(name: str, operation: str) -> list[str]:
        node = by_name.pop(name)  # a damaged graph may have a loop
        if node.op != operation:
            raise ValueError(f"{name} is a {node.op}, not a {operation}")
        return list(node.input)

    layers: list[Layer] = []
    try:
        (values,) = inputs(metadata.output or "", "Softmax")
        while values != metadata.bottleneck:
            if layers:
                (values,) = inputs(values, "Relu")
            product, biases = inputs(values, "Add")
            values, weights = inputs(product, "MatMul")
            arrays = [array_of(by_name[name].attr["value"].tensor) for name in (weights, biases)]
            layers.insert(0, Layer(*arrays))
    except (LookupError, ValueError, TypeError) as error:
        raise GraphError(f"the graph has another head than was written ({first_line(error)}).") from error
    return Head(tuple(layers))


def describe(path: Path) -> Metadata:
    """Return the metadata of a frozen graph, or else what its nodes show."""
    return metadata_of(read_graph(path), name=str(path))


def metadata_of(graph_def: GraphDef, *, name: str = "the graph") -> Metadata:
    """Return the metadata of a checked graph, or else what its nodes show; `name` is what an error calls it.

    Raises:
        GraphError: They are damaged.
    """
    for node in graph_def.node:
        if node.name == METADATA_NODE:
            try:
                return Metadata.from_json(array_of(attribute(node, "value").tensor).item())
            except (ValueError, TypeError) as error:
                raise GraphError(f"{name} has damaged metadata ({first_line(error)}).") from error
    outputs = detect_outputs(graph_def)
    output = "final_result" if "final_result" in outputs else outputs[0] if len(outputs) == 1 else None
    return Metadata(input=detect_input(graph_def), output=output)


def stats(path: Path) -> ModelStats:
    """Return the operations and parameters of a frozen graph."""
    graph_def = read_graph(path)
    return ModelStats(count_operations(graph_def), count_parameters(graph_def))


def load(path: Path, metadata: Metadata) -> "GraphModel":
    """Return the classifier in a frozen graph file."""
    return GraphModel(read_graph(path), metadata, path=path)


class GraphModel(Classifier):
    """A classifier in a frozen graph, run in TensorFlow."""

    def __init__(self, graph_def: GraphDef, metadata: Metadata, *, path: Path) -> None:
        """Load a checked graph; `path` names it in errors.

        Raises:
            GraphError: It lacks a node that the metadata name.
        """
        import tensorflow as tf

        self.metadata, self.path = metadata, path
        if metadata.output is None:
            raise GraphError(f"{path} gives {', '.join(detect_outputs(graph_def))}. Name one with --output_layer.")
        self._graph = tf.Graph()
        with self._graph.as_default():
            opened = _without_fixed_batch(graph_def, metadata.input.node)
            tf.graph_util.import_graph_def(in_tensorflow(opened), name="")
        # A session runs any part of a graph at once; functions would have to be cut out of it first.
        config = self._options = None
        if any(node.op in ("While", "StatelessWhile", "NextIteration") for node in all_nodes(graph_def)):
            from tensorflow.core.protobuf import config_pb2

            # A loop may be endless. The limit does not hold where TensorFlow computes one while it optimises a graph.
            config, self._options = config_pb2.ConfigProto(), config_pb2.RunOptions(timeout_in_ms=_LOOP_LIMIT)
            config.graph_options.optimizer_options.opt_level = -1
            config.graph_options.rewrite_options.disable_meta_optimizer = True
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        image, output = self._tensor(metadata.input.node), self._tensor(metadata.output)
        if image.op.type == "Placeholder" and image.shape.rank is not None:
            check_image_shape(path, image.shape.as_list())
        self.class_count = output.shape.as_list()[-1] if output.shape.rank else None
        self.last_operation = _last_operation(output.op)

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """Return what the model itself gives for images uint8 [N, H, W, 3]."""
        spec = self.metadata.input
        return self._run(spec.node, self.metadata.output, spec.scale(pixels))

    def bottlenecks(self, pixels: np.ndarray) -> np.ndarray:
        """Return the bottlenecks float32 [N, D] of images uint8 [N, H, W, 3]."""
        spec = self.metadata.input
        return self._run(spec.node, self.metadata.bottleneck, spec.scale(pixels))

    def from_bottlenecks(self, bottlenecks: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for bottlenecks float32 [N, D], without running the backbone."""
        return self._run(self.metadata.bottleneck, self.metadata.output, bottlenecks)

    def _run(self, source: str | None, target: str | None, values: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        try:
            given = self._tensor(source)
            fed = {given: values.astype(given.dtype.as_numpy_dtype, copy=False)}
            result: np.ndarray = self._session.run(self._tensor(target), fed, options=self._options)
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise does_not_run(self.path, values.shape, error) from error
        return result

    def _tensor(self, name: str | None) -> Any:
        try:
            return self._graph.get_tensor_by_name(tensor_name(name or ""))
        except (KeyError, ValueError) as error:
            hint = "Name the nodes with --input_layer and --output_layer."
            raise GraphError(f"{self.path} has no node {name!r}. {hint}") from error


def _last_operation(operation: Any) -> str:
    """Return the operation that gives scores, in lower case, past those that only pass them on or reshape them."""
    while operation.type in ("Identity", "Reshape", "Squeeze", "Cast") and operation.inputs:
        operation = operation.inputs[0].op
    return str(operation.type).lower()


def without_accuracy(graph_def: GraphDef) -> GraphDef:
    """Return the graph without a test accuracy in its metadata, if it has any."""
    changed = copy_of(graph_def)
    for node in changed.node:
        if node.name == METADATA_NODE:
            metadata = replace(metadata_of(graph_def), test_accuracy=None)
            node.CopyFrom(constant_node(METADATA_NODE, np.array(metadata.to_json(), object)))
    return changed


def _without_fixed_batch(graph_def: GraphDef, source: str | None) -> GraphDef:
    """Return the graph with any number of images at its placeholder, which the official MobileNets fix at one."""
    opened = copy_of(graph_def)
    for node in opened.node:
        if node.name == source and node.op == "Placeholder" and len(attribute(node, "shape").shape.dim) == 4:
            node.attr["shape"].shape.dim[0].size = -1
    return opened
