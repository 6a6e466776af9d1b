"""Families of learning curves: fitted to the accuracies at some numbers of photos, each says another one at more."""

from collections.abc import Callable

import numpy as np

# Each is an increasing function of the number of photos n, relative to the largest, for each of some shapes; its height
# and slope are fitted. Mahmood et al., "How much more data do I need? Estimating requirements for downstream tasks",
# CVPR 2022, take these four; their algebraic root has exponents of its own, here one of three.
_SHAPES = np.geomspace(0.03, 3, 16)[:, None]
FAMILIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "power law": lambda n: -(n ** -np.linspace(0.1, 2, 16)[:, None]),
    "logarithm": lambda n: np.log(n + np.concatenate([[[0.0]], _SHAPES])),
    "arctangent": lambda n: np.arctan(n / _SHAPES),
    "algebraic root": lambda n: np.concatenate([n / (_SHAPES**e + n**e) ** (1 / e) for e in (0.5, 1.0, 2.0)]),
}


def extrapolated(accuracies: np.ndarray, sizes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return what each family says of accuracies at other sizes, float64 [F, B, T], none above 1.

    Least squares choose shape, height and slope; slopes are not negative: more photos do no harm. Each size counts as
    much as it has photos, for the end of a curve says most of how it goes on.

    Args:
        accuracies: float64 [B, S], B curves, 0 to 1.
        sizes: float64 [S], numbers of photos that they were measured with, ascending.
        wanted: float64 [T], numbers of photos to say them for.
    """
    weights = sizes / sizes.sum()
    level = accuracies @ weights
    said = []
    for family in FAMILIES.values():
        known, asked = family(sizes / sizes[-1]), family(wanted / sizes[-1])
        middle = known @ weights
        offsets = (known - middle[:, None]) * weights
        spread = (offsets * (known - middle[:, None])).sum(axis=1)
        slopes = np.maximum(accuracies @ offsets.T / spread, 0)  # [B, shapes]
        # The sum of squares is that of the curve itself less what the slope explains.
        chosen = (slopes * (slopes * spread - 2 * accuracies @ offsets.T)).argmin(axis=1)
        slope = np.take_along_axis(slopes, chosen[:, None], axis=1)
        said.append(level[:, None] + slope * (asked[chosen] - middle[chosen, None]))
    return np.minimum(said, 1.0)
