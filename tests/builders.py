"""Builds the small graphs, modules and files that several tests look at."""

import numpy as np

from retrain import files, metadata
from retrain.formats import frozen_graph
from retrain.head import linear

LABELS = ("red", "green", "blue")
RNG = np.random.default_rng(0)


def exported(backbone, path, output="final_result", **fields):
    weights = np.eye(3, dtype=np.float32) * 9
    described = metadata.Metadata(
        labels=LABELS, height=16, width=16, mean=0.0, std=255.0, architecture="mean", **fields
    )
    graph = frozen_graph.join(
        backbone=backbone,
        source="Placeholder",
        target="mean_colour",
        head=linear(weights, np.zeros(3, np.float32)),
        output=output,
        metadata=described,
    )
    files.write_result(path, graph)
    return path


def built(build):
    """Return the GraphDef that `build(tf, image)` makes; its last node is named `out`."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf, tf.compat.v1.placeholder(tf.float32, [None, 9, 9, 3], name="input"))
    return graph.as_graph_def()


def run(graph_def, output="out"):
    import tensorflow as tf

    image = np.random.default_rng(1).normal(size=(2, 9, 9, 3)).astype(np.float32)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.graph_util.import_graph_def(graph_def, name="")
        return session.run(f"{output}:0", {graph.get_tensor_by_name("input:0"): image})


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def colour_module(size=None):
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.scale = tf.Variable([1.0, 2.0, 3.0])

        @tf.function(input_signature=[tf.TensorSpec([None, size, size, 3], tf.float32)])
        def __call__(self, images):
            return tf.reduce_mean(images, [1, 2]) * self.scale

    return Module()
