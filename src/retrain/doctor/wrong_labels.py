"""How likely each label is wrong, from the scores of heads that have not seen the photo; arrays in, arrays out.

A label is taken to be drawn from the head's probabilities, or, with a probability e, to be any other class at random:
symmetric noise, as in Angluin and Laird, "Learning from noisy examples", Machine Learning 2, 1988. The temperature that
calibrates the head (Guo et al., "On calibration of modern neural networks", ICML 2017) and e are those under which the
labels are likeliest. So a head that is often unsure explains its mistakes by that, and of a set whose labels are right,
e is 0. Confident learning (Northcutt et al., 2021) has no such explanation: `README.md` has both on flipped labels.
"""

import numpy as np

_TEMPERATURES = np.geomspace(0.25, 2.5, 24)
_FITTED = 20_000  # labels that decide the temperature, evenly spread
_MOST_NOISE = 0.5  # above which no label would be believed
_HALVINGS = 40
_SMALLEST = 1e-30
_AT_ONCE = 4096


def wrongness(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the probability that each label is wrong, float64 [N].

    Args:
        scores: float32 [N, C], probabilities out of fold, of two classes or more.
        labels: int64 [N], class ids.
    """
    step = -(-len(labels) // _FITTED)
    some, their = scores[::step], labels[::step]
    likelihoods = [_fit(some, their, temperature)[0] for temperature in _TEMPERATURES.tolist()]
    return _fit(scores, labels, float(_TEMPERATURES[int(np.argmax(likelihoods))]))[1]


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


def _fit(scores: np.ndarray, labels: np.ndarray, temperature: float) -> tuple[float, np.ndarray]:
    """Return the logarithm of the labels' likelihood at the likeliest share of noise, and how likely each is wrong."""
    own = _own_probabilities(scores, labels, temperature)
    other = (1 - own) / (scores.shape[1] - 1)
    noise = likeliest_noise(own, other)
    mixed = (1 - noise) * own + noise * other
    return float(np.log(mixed).sum()), noise * other / mixed


def _own_probabilities(scores: np.ndarray, labels: np.ndarray, temperature: float) -> np.ndarray:
    """Return what a head says of each label at a temperature, float64 [N], above 0."""
    own = np.empty(len(labels))
    for start in range(0, len(labels), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        logits = np.log(np.maximum(scores[rows].astype(np.float64), _SMALLEST)) / temperature
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        own[rows] = powers[np.arange(len(powers)), labels[rows]] / powers.sum(axis=1)
    return np.maximum(own, _SMALLEST)
