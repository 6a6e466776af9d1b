"""The variables of a head: as arrays, or as a TensorFlow checkpoint, which the original's `--checkpoint_path` names."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrain.errors import ExportError, first_line
from retrain.files import write_atomically, write_result
from retrain.head import Head


@dataclass(frozen=True)
class CheckpointFiles:
    """Where the variables of a head go: a path without suffixes, and whether TensorFlow is to read them.

    A checkpoint of TensorFlow takes TensorFlow to write, which takes seconds to import.
    """

    prefix: Path
    tensorflow: bool

    @property
    def paths(self) -> list[Path]:
        """Return the files; the file `checkpoint` beside those of TensorFlow names them."""
        endings = (".index", ".data-00000-of-00001") if self.tensorflow else (".npz",)
        return [self.prefix.with_name(self.prefix.name + ending) for ending in endings]


def write(files: CheckpointFiles, *, scope: str, head: Head, step: int) -> None:
    """Write the variables of a head, which `tf.train.load_checkpoint` reads, or `np.load` under the same names.

    Args:
        files: Where they go.
        scope: First part of the variables' names, as in the graph.
        head: Its layers.
        step: Steps trained so far.

    Raises:
        ExportError: The files cannot be written.
    """
    variables: dict[str, Any] = {"global_step": np.int64(step)}
    for name, layer in zip(head.names(scope), head.layers, strict=True):
        variables |= {name.weights: layer.weights, name.biases: layer.biases}
    if files.tensorflow:
        _write_for_tensorflow(files.prefix, variables)
    else:
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **variables)
        write_result(files.paths[0], content.getvalue())


def _write_for_tensorflow(prefix: Path, variables: dict[str, Any]) -> None:
    import tensorflow as tf
    from tensorflow.python.training.checkpoint_state_pb2 import CheckpointState

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
