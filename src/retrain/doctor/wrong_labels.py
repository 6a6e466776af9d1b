"""How likely each label is wrong, from the scores of heads that have not seen the photo; arrays in, arrays out.

A label is taken to be drawn from the head's probabilities. Then it is, with a probability of its own for each pair of
classes, what people call that class by mistake; or it is, with a probability e, any other class at random: symmetric
noise, as in Angluin and Laird, "Learning from noisy examples", Machine Learning 2, 1988. The temperature that
calibrates the head (Guo et al., "On calibration of modern neural networks", ICML 2017), the pairs and e are those under
which the labels are likeliest. So a head that is often unsure explains its mistakes by that, and of a set whose labels
are right, all noise is 0. The pairs are found by expectation and maximisation, where one that explains too few labels
drops out, as components do in Figueiredo and Jain, "Unsupervised learning of finite mixture models", PAMI 24, 2002.
Confident learning (Northcutt et al., 2021) has no such explanation: `README.md` has both on flipped labels.
"""

from dataclasses import dataclass

import numpy as np

_TEMPERATURES = np.geomspace(0.25, 2.5, 24)
_FITTED = 500_000  # probabilities of as many labels, evenly spread, decide the temperature and the pairs
_LABELS = 5000, 20_000  # but of no fewer and no more labels
_MOST_NOISE = 0.5  # above which no label would be believed
_HALVINGS = 40
_SMALLEST = 1e-30
_AT_ONCE = 4096
_ROUNDS = 30
_FIRST = 0.02  # share of each class that is called another one, to begin with
# Labels that a pair of classes must explain, and its cost in likelihood (nats): so many, or this share of a class.
# Quick heads of many photos err by pairs, too: without the share, 9,191 of 21,000 made-up photos were named for 210.
_PRICE, _PRICED = 2, 0.01


@dataclass(frozen=True)
class _Noise:
    """The logarithm of the labels' likelihood less the price of pairs, and what makes it so large.

    `called` float64 [C, C] has in row k how likely a photo of class k is called each class by mistake or rightly.
    """

    likelihood: float
    temperature: float
    called: np.ndarray


def wrongness(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the probability that each label is wrong, float64 [N].

    Args:
        scores: float32 [N, C], probabilities out of fold, of two classes or more.
        labels: int64 [N], class ids.
    """
    least, most = _LABELS
    step = -(-len(labels) // min(most, max(least, _FITTED // scores.shape[1])))
    fits = [_fit(scores[::step], labels[::step], temperature) for temperature in _TEMPERATURES.tolist()]
    best = max(fits, key=lambda fit: fit.likelihood)
    right, own, other = (np.empty(len(labels)) for _ in range(3))
    for start in range(0, len(labels), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        powers, given = _probabilities(scores[rows], best.temperature), labels[rows]
        said = powers[np.arange(len(given)), given]
        right[rows] = said * best.called[given, given]
        own[rows] = (powers * best.called[:, given].T).sum(axis=1)
        other[rows] = (1 - said) / (scores.shape[1] - 1)
    own = np.maximum(own, _SMALLEST)
    noise = likeliest_noise(own, other)
    wrong: np.ndarray = 1 - (1 - noise) * right / ((1 - noise) * own + noise * other)
    return wrong.clip(0, 1)


def likeliest_noise(own: np.ndarray, other: np.ndarray) -> float:
    """Return the share e, 0 to 0.5, that makes (1 - e) own + e other likeliest.

    The logarithm of that is concave in e: the sign of its derivative says on which side of a share the best one lies.

    Args:
        own: float64 [N], above 0, the probability of each label if it is right.
        other: float64 [N], if it is wrong.
    """

    def is_too_small(share: float) -> bool:
        return bool(((other - own) / (own + share * (other - own))).sum() > 0)

    if not is_too_small(0):
        return 0.0
    lower, upper = 0.0, _MOST_NOISE
    for _ in range(_HALVINGS):
        middle = (lower + upper) / 2
        lower, upper = (middle, upper) if is_too_small(middle) else (lower, middle)
    return lower


def _fit(scores: np.ndarray, labels: np.ndarray, temperature: float) -> _Noise:
    """Return the likeliest noise at a temperature."""
    powers, classes = _probabilities(scores, temperature), scores.shape[1]
    other = (1 - powers[np.arange(len(labels)), labels]) / (classes - 1)
    called = np.full((classes, classes), _FIRST / (classes - 1))
    np.fill_diagonal(called, 1 - _FIRST)
    price = max(_PRICE, _PRICED * len(labels) / classes)
    likelihood = 0.0
    for _ in range(_ROUNDS):
        shares = powers * called[:, labels].T
        own = np.maximum(shares.sum(axis=1), _SMALLEST)
        noise = likeliest_noise(own, other)
        mixed = (1 - noise) * own + noise * other
        pairs = np.count_nonzero(called) - classes
        likelihood = float(np.log(mixed).sum()) - price * pairs
        if not pairs:
            break
        shares *= ((1 - noise) / mixed)[:, None]
        counts = np.stack([shares[labels == label].sum(axis=0) for label in range(classes)], axis=1)
        rightly = np.maximum(counts.diagonal(), _SMALLEST)
        counts = np.maximum(counts - price, 0)
        np.fill_diagonal(counts, rightly)
        called = counts / counts.sum(axis=1, keepdims=True)
    return _Noise(likelihood, temperature, called)


def _probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return what a head says at a temperature, float64 [N, C]."""
    logits = np.log(np.maximum(scores.astype(np.float64), _SMALLEST)) / temperature
    powers: np.ndarray = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
