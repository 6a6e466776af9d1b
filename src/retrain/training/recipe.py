"""What a head is and how it is trained: layers, optimizer, schedule, regularisation."""

from dataclasses import dataclass
from typing import Any

OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam")
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class HeadRecipe:
    """The shape of a head and the rule of its training.

    `hidden_units` are the widths of dense layers with ReLU in front of the last. `dropout` is the share of what the
    last layer of all, and every one behind a hidden layer, takes that is left out at each step. `l2` times the sum
    of the squared weights is added to the loss. `label_smoothing` is the share of each label that is spread evenly
    over all classes. The learning rate is constant, or falls to 0 along half a cosine ("SGDR", Loshchilov and
    Hutter, 2017).
    """

    learning_rate: float = 0.01
    hidden_units: tuple[int, ...] = ()
    dropout: float = 0.0
    l2: float = 0.0
    label_smoothing: float = 0.0
    optimizer: str = "sgd"
    schedule: str = "constant"

    @property
    def plain(self) -> bool:
        """Return whether this is the original's: one layer, plain gradient descent, nothing else."""
        return self == HeadRecipe(learning_rate=self.learning_rate)


def keras_optimizer(name: str, *, learning_rate: float, schedule: str, steps: int) -> Any:
    """Return an optimizer of Keras with its usual settings; momentum is 0.9.

    Args:
        name: One of `OPTIMIZERS`.
        learning_rate: Of the first step.
        schedule: One of `SCHEDULES`.
        steps: Steps of the whole training, at the end of which the cosine reaches 0.
    """
    import keras

    rate: Any = learning_rate
    if schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, decay_steps=max(1, steps))
    if name in ("sgd", "momentum"):
        return keras.optimizers.SGD(rate, momentum=0.9 if name == "momentum" else 0.0)
    return (keras.optimizers.RMSprop if name == "rmsprop" else keras.optimizers.Adam)(rate)
