"""The head: dense layers from bottlenecks to probabilities, as plain arrays."""

from dataclasses import dataclass

import numpy as np

# OpenBLAS computes up to so many products on one thread. Its threads cost more than they gain on small heads, and ten
# times the product itself where other processes use the processors.
_ONE_THREAD = 2**18


@dataclass(frozen=True)
class Layer:
    """One dense layer: x @ weights + biases; `weights` float32 [D, C], `biases` float32 [C]."""

    weights: np.ndarray
    biases: np.ndarray


@dataclass(frozen=True)
class LayerNames:
    """The nodes of a layer in a graph: its weights, its biases, and the scope of what is computed."""

    weights: str
    biases: str
    scope: str


@dataclass(frozen=True)
class Head:
    """Dense layers with ReLU between them and softmax behind the last.

    They take raw bottlenecks: the standardisation of the training is folded into the first layer.
    """

    layers: tuple[Layer, ...]

    @property
    def last(self) -> Layer:
        """Return the layer that gives the logits."""
        return self.layers[-1]

    def logits(self, bottlenecks: np.ndarray) -> np.ndarray:
        """Return float32 [N, C], unnormalised, for bottlenecks float32 [N, D]."""
        hidden = bottlenecks
        for layer in self.layers[:-1]:
            hidden = np.maximum(hidden @ layer.weights + layer.biases, 0)
        logits = np.empty((len(hidden), len(self.last.biases)), np.float32)
        multiply(hidden, self.last.weights, out=logits)
        logits += self.last.biases
        return logits

    def probabilities(self, bottlenecks: np.ndarray) -> np.ndarray:
        """Return float32 [N, C], rows that sum to 1, for bottlenecks float32 [N, D]."""
        return softmax(self.logits(bottlenecks))

    def names(self, scope: str) -> list[LayerNames]:
        """Return the node names of each layer, as `layer_names` does."""
        return layer_names(scope, len(self.layers))

    def is_finite(self) -> bool:
        """Return whether all weights and biases are finite."""
        return all(np.isfinite(a).all() for layer in self.layers for a in (layer.weights, layer.biases))


def layer_names(scope: str, count: int) -> list[LayerNames]:
    """Return the node names of each of `count` layers, the last one's as in the original."""
    hidden = [
        LayerNames(f"{scope}/hidden_{n}/weights", f"{scope}/hidden_{n}/biases", f"{scope}/hidden_{n}")
        for n in range(1, count)
    ]
    last = LayerNames(f"{scope}/weights/final_weights", f"{scope}/biases/final_biases", f"{scope}/Wx_plus_b")
    return [*hidden, last]


def linear(weights: np.ndarray, biases: np.ndarray) -> Head:
    """Return a head of one layer."""
    return Head((Layer(weights, biases),))


def multiply(left: np.ndarray, right: np.ndarray, *, out: np.ndarray) -> None:
    """Write left @ right into `out`, in blocks small enough for one thread where the smaller factor is small."""
    rows, columns = out.shape
    if columns > rows:  # the longer side is divided
        left, right, out = right.T, left.T, out.T
        rows, columns = columns, rows
    size = _ONE_THREAD // max(1, right.size) or rows
    if size >= rows:
        np.matmul(left, right, out=out)
        return
    for start in range(0, rows, size):
        block = slice(start, start + size)
        np.matmul(left[block], right, out=out[block])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities float32 [N, C], rows that sum to 1, for logits float32 [N, C]."""
    probabilities: np.ndarray = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities


@dataclass(frozen=True)
class Standardisation:
    """The mean and deviation of each bottleneck dimension, float32 [D]."""

    mean: np.ndarray
    deviation: np.ndarray

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Return (vectors - mean) / deviation, in the memory of `vectors`."""
        vectors -= self.mean
        vectors /= self.deviation
        return vectors

    def unfold(self, head: Head) -> tuple[Layer, ...]:
        """Return the layers that do on standardised bottlenecks what a head does on raw ones."""
        first, *others = head.layers
        return (Layer(first.weights * self.deviation[:, None], first.biases + self.mean @ first.weights), *others)

    def fold(self, layers: tuple[Layer, ...]) -> Head:
        """Return the head that does on raw bottlenecks what `layers` do on standardised ones."""
        first, *others = layers
        weights = first.weights / self.deviation[:, None]
        return Head((Layer(weights, first.biases - self.mean @ weights), *others))
