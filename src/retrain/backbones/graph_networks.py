"""Frozen graphs as Keras networks that can be trained: archives, graph files, SavedModels and TF-Hub modules."""

import re
from collections.abc import Callable

from retrain.backbones.keras_networks import Network
from retrain.backbones.sources import BackboneSource
from retrain.errors import BackboneError, GraphError
from retrain.formats.keras_layers import LayerBuilder
from retrain.graphs import editing, folding
from retrain.graphs.freezing import FrozenGraph


def trainable(source: BackboneSource, freeze: Callable[[BackboneSource], FrozenGraph]) -> Network:
    """Return a frozen backbone as a Keras network: image and bottleneck are as they were, the constants are weights.

    Batch normalisation is part of the convolutions by then. 8-bit weights are trained as the float32 ones that they
    stand for.

    Args:
        source: Where the backbone is.
        freeze: Gives it as a frozen graph.

    Raises:
        RetrainError: It cannot be read, or has an operation that there is no layer for.
    """
    import keras

    frozen = freeze(source)
    spec, name = frozen.input, source.spec.architecture
    node = spec.node or ""
    # 8-bit weights have become constants, into which what multiplies their convolution can be folded now.
    plain = folding.simplify(editing.to_portable(frozen.graph_def), keep=[node, frozen.target])
    image = keras.Input((spec.height, spec.width, 3), name="image")
    try:
        builder = LayerBuilder(plain, image, source=node, output=frozen.target)
        model = keras.Model(image, builder.result, name=_scope(name))
        if not model.trainable_variables:
            raise GraphError("none of its operations is a layer with weights")
    except GraphError as error:
        raise BackboneError(
            f"{name} cannot be fine-tuned: {error}. Leave out --fine_tune_from, or choose another --architecture."
        ) from error
    return Network(model, None, spec)


def _scope(name: str) -> str:
    """Return a name as it can be the first part of nodes' names."""
    return re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).strip("_.-") or "network"
