"""What a head is and how it is trained: layers, optimizer, schedule, regularisation, and the length of a training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrain.errors import TrainingError

OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam")
SCHEDULES = ("constant", "cosine")
LARGEST_FINE_TUNING_RATE = 1e-3  # of AdamW, above which it destroys
_FEW_PARAMETERS = 10**6
AUTO = "auto"  # the learning rate that `learning_rate.find` finds


@dataclass(frozen=True)
class HeadRecipe:
    """The shape of a head, its optimizer and its regularisation.

    `hidden_units` are the widths of dense layers with ReLU in front of the last. `dropout` is the dropout rate on the
    input of the last layer and of every layer after a hidden one. `l2` times the sum of the squared weights is added
    to the loss; None leaves the factor to `head_training.shrinkage`. `label_smoothing` is the share of each label that
    is spread evenly over all classes. The learning rate is constant, or falls to 0 along half a cosine ("SGDR",
    Loshchilov and Hutter, 2017).
    """

    learning_rate: float = 0.01
    hidden_units: tuple[int, ...] = ()
    dropout: float = 0.0
    l2: float | None = None
    label_smoothing: float = 0.0
    optimizer: str = "sgd"
    schedule: str = "constant"

    @property
    def is_plain_sgd(self) -> bool:
        """Return whether this is one layer, trained by plain gradient descent, as the original's; it may shrink."""
        return self == HeadRecipe(learning_rate=self.learning_rate, l2=self.l2)


@dataclass(frozen=True)
class TrainingPlan:
    """How long to train a head, on how much a step, and when to evaluate it.

    `validation_batch_size` is the number of examples of an evaluation, -1 for all of them, each once. The first and
    the last step are evaluated, and every `eval_step_interval`-th between them. `seed` decides all random draws.
    After `patience` evaluations without a better one the training stops, and the weights of the best are kept: the
    most accurate on validation images, or of equal ones that with the smaller cross-entropy; None to go on.
    After every `checkpoint_every` steps the head is wanted, and evaluated; 0 for never.
    """

    steps: int
    batch_size: int
    validation_batch_size: int
    eval_step_interval: int
    seed: int
    patience: int | None = None
    checkpoint_every: int = 0


@dataclass(frozen=True)
class FineTuningPlan:
    """How to fine-tune a network.

    `start` names the first layer to train, as in `trainable_layers.split_network`; `recipe` has the loss and the
    largest step size. `steps` are those of a training that no deadline ends, `steps_per_evaluation` those from one
    evaluation to the next. `patience` is that of `TrainingPlan`. `checkpoint` is a file that an interrupted run resumes
    from. `strategy` is a tf.distribute.Strategy, from `devices.strategy`.
    """

    start: str
    recipe: HeadRecipe
    steps: int
    batch_size: int
    steps_per_evaluation: int
    seed: int
    patience: int | None
    checkpoint: Path
    strategy: Any


@dataclass(frozen=True)
class FineTuningDefaults:
    """How long to fine-tune, in passes over the training photos, and the largest step size."""

    epochs: int
    learning_rate: float


def fine_tuning_defaults(parameters: int) -> FineTuningDefaults:
    """Return what suits a network with so many parameters: small ones change more, for longer, and take less time."""
    return FineTuningDefaults(20, 5e-4) if parameters < _FEW_PARAMETERS else FineTuningDefaults(10, 3e-4)


def keras_optimizer(recipe: HeadRecipe, steps: int) -> Any:
    """Return an optimizer of Keras with its usual settings; momentum is 0.9, and a cosine reaches 0 after `steps`."""
    import keras

    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, decay_steps=max(1, steps))
    if recipe.optimizer in ("sgd", "momentum"):
        return keras.optimizers.SGD(rate, momentum=0.9 if recipe.optimizer == "momentum" else 0.0)
    return (keras.optimizers.RMSprop if recipe.optimizer == "rmsprop" else keras.optimizers.Adam)(rate)


def divergence(what: str, step: int, flag: str, learning_rate: float) -> TrainingError:
    """Return the error of a training whose weights or figures are no longer finite at a step."""
    return TrainingError(
        f"the {what} diverged before step {step + 1}: its weights or figures are NaN or infinite. "
        f"Try a smaller {flag} than {learning_rate:g}."
    )
