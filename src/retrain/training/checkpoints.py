"""The checkpoint of a fine-tuning: one file from which an interrupted run resumes."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrain.backbones import devices
from retrain.data.dataset import Example
from retrain.errors import first_line
from retrain.files import open_regular, write_result
from retrain.head import Head
from retrain.history import FIGURES, Evaluation
from retrain.training import schedule
from retrain.training.recipe import FineTuningPlan


@dataclass(frozen=True)
class FineTuningState:
    """How far a fine-tuning is: steps done, all evaluations, and the arrays of its variables.

    `best` are the weights to keep, `weights` those of now, `optimizer` the optimizer's state of now.
    """

    steps_done: int
    evaluations: Sequence[Evaluation]
    best: Sequence[np.ndarray]
    weights: Sequence[np.ndarray]
    optimizer: Sequence[np.ndarray]


# The names of the arrays in the file, which older versions wrote too.
_ARRAYS = {"best": "best", "now": "weights", "rule": "optimizer"}


@dataclass(frozen=True)
class TrainingCheckpoint:
    """A checkpoint file; `identity` is the fingerprint of the run, and one with another fingerprint is ignored."""

    path: Path
    identity: str
    warn: Callable[[str], None]

    def save(self, state: FineTuningState) -> None:
        """Write how far the training is, whole or not at all.

        Raises:
            ExportError: The file cannot be written.
        """
        arrays = {"identity": np.array(self.identity), "done": np.array(state.steps_done)}
        arrays["history"] = np.array([[getattr(row, name) for name in ("step", *FIGURES)] for row in state.evaluations])
        for name, field in _ARRAYS.items():
            arrays |= {f"{name}_{number}": value for number, value in enumerate(getattr(state, field))}
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        write_result(self.path, content.getvalue())

    def restore(self, strategy: Any, validation_count: int) -> FineTuningState | None:
        """Return how far an interrupted run got, on `validation_count` images an evaluation; None for none.

        All workers of a strategy resume at the same step, or all start again.
        """
        state = self._read(validation_count)
        if not devices.all_replicas_agree(strategy, 0 if state is None else state.steps_done):
            self.warn("The workers were interrupted at different steps: fine-tuning starts again.")
            return None
        if state is not None:
            self.warn(f"Fine-tuning goes on after step {state.steps_done - 1}, from {self.path}.")
        return state

    def _read(self, validation_count: int) -> FineTuningState | None:
        try:
            with open_regular(self.path) as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if str(arrays["identity"]) != self.identity:
                return None
            rows = [
                Evaluation(int(step), **dict(zip(FIGURES, figures, strict=True)), validation_count=validation_count)
                for step, *figures in arrays["history"].tolist()
            ]
            lists = {field: _numbered(arrays, name) for name, field in _ARRAYS.items()}
            return FineTuningState(int(arrays["done"]), rows, **lists)
        except FileNotFoundError:
            return None
        except Exception as error:  # damage in a zip file shows as anything
            self.warn(f"{self.path} is damaged ({first_line(error)}): fine-tuning starts again.")
            return None


def identity_of(
    fingerprint: str, layer: str, plan: FineTuningPlan, *, tag: str, examples: Sequence[Example], head: Head
) -> str:
    """Return 64 hexadecimal digits that change with anything that decides a fine-tuning.

    The text that is hashed is spelt out by hand: its names are a format, and renaming a class or a field must not
    cost anyone an interrupted run.

    Args:
        fingerprint: Of the backbone's source.
        layer: The first layer that is trained.
        plan: How it is trained.
        tag: Of the augmentation.
        examples: All photos, in order.
        head: What the training starts with.
    """
    recipe = plan.recipe
    text = [
        schedule.RECIPE,
        repr(fingerprint),
        repr(layer),
        f"learning_rate={recipe.learning_rate!r}, hidden_units={recipe.hidden_units!r}, "
        f"dropout={recipe.dropout!r}, l2={recipe.l2 or 0.0!r}, label_smoothing={recipe.label_smoothing!r}",
        *map(repr, (plan.steps, plan.batch_size, plan.steps_per_evaluation, plan.seed, tag)),
        f"({', '.join(map(_spelt, examples))})",
        repr([array.tobytes() for dense in head.layers for array in (dense.weights, dense.biases)]),
    ]
    return hashlib.sha256("\n".join(text).encode("utf-8", "surrogateescape")).hexdigest()


def _spelt(example: Example) -> str:
    split = f"<Split.{example.split.name}: {example.split.value!r}>"
    return f"Example(path={example.path!r}, class_id={example.class_id!r}, split={split})"


def _numbered(arrays: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    """Return the arrays `name_0`, `name_1` and so on."""
    count = sum(key.startswith(f"{name}_") for key in arrays)
    return [arrays[f"{name}_{number}"] for number in range(count)]
