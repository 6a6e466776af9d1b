"""The head as a TensorFlow checkpoint, what the original's `--checkpoint_path` names."""

from pathlib import Path
from typing import Any

import numpy as np

from retrain.errors import ExportError, first_line
from retrain.files import write_atomically
from retrain.head import Head


def paths(prefix: Path) -> list[Path]:
    """Return the files of a checkpoint; the file `checkpoint` beside them names it."""
    return [prefix.with_name(prefix.name + ending) for ending in (".index", ".data-00000-of-00001")]


def write_checkpoint(prefix: Path, *, scope: str, head: Head, step: int) -> None:
    """Write the variables of a head, readable by `tf.train.load_checkpoint`.

    Args:
        prefix: Path without the suffixes `.index` and `.data-00000-of-00001`; the file `checkpoint` beside names it.
        scope: First part of the variables' names, as in the graph.
        head: Its layers.
        step: Steps trained so far.

    Raises:
        ExportError: The files cannot be written.
    """
    import tensorflow as tf
    from tensorflow.python.training.checkpoint_state_pb2 import CheckpointState

    variables: dict[str, Any] = {"global_step": np.int64(step)}
    for name, layer in zip(head.names(scope), head.layers, strict=True):
        variables |= {name.weights: layer.weights, name.biases: layer.biases}
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=list(variables),
            shape_and_slices=[""] * len(variables),
            tensors=[tf.constant(value) for value in variables.values()],
        )
        latest = CheckpointState(model_checkpoint_path=prefix.name, all_model_checkpoint_paths=[prefix.name])
        write_atomically(prefix.with_name("checkpoint"), str(latest).encode())
    except (OSError, tf.errors.OpError) as error:
        raise ExportError(
            f"cannot write the checkpoint {prefix}: {first_line(error)}. Give another --checkpoint_path."
        ) from error
