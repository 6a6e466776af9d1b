"""The optimizer of a fine-tuning, and its step size: over time, and from layer to layer."""

import math
from collections.abc import Sequence
from typing import Any

RECIPE = "layerwise AdamW 3"  # raise it when the same settings train otherwise
WARM_UP = 0.1  # of the training
LARGEST_NORM = 1.0  # of all gradients together, after which they are scaled down
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.1  # where no other is asked for
LOWEST_RATE = 0.2  # of the first layer, over that of the last


def rate_at(progress: float) -> float:
    """Return the share of the largest step size that holds at a progress of 0 to 1.

    It rises from 0 (Goyal et al., 2017, "Accurate, Large Minibatch SGD"), since Adam's first steps are as large as its
    later ones while what it knows of the gradients is noise; by a square, which costs a head that fits its photos
    closely a third of what a line does. It falls to 0 along half a cosine ("SGDR", Loshchilov and Hutter, 2017).
    """
    if progress < WARM_UP:
        return (progress / WARM_UP) ** 2
    return (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


def layer_rates(count: int) -> list[float]:
    """Return the step sizes of the variables of layers, the lowest first, over that of the head.

    Lower layers, which see what all photos have in common, change less (Howard and Ruder, 2018, "Universal Language
    Model Fine-tuning for Text Classification"); each a little more than the one below it.
    """
    return [LOWEST_RATE ** ((count - 1 - number) / max(1, count - 1)) for number in range(count)]


def adamw(rates: Sequence[float]) -> Any:
    """Return AdamW (Loshchilov and Hutter, 2019) with a factor for the step size of each variable that it is built on.

    The step size itself is to be set before each step.
    """
    import keras

    class LayerwiseAdamW(keras.optimizers.AdamW):  # type: ignore[misc]  # Keras has no types
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient, variable, learning_rate * rates[self._get_variable_index(variable)])

    return LayerwiseAdamW(0.0, weight_decay=WEIGHT_DECAY)
