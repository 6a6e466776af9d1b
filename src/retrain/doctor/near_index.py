"""Finds which of very many vectors are likely the nearest to each: with an index of usearch, an extra.

A graph whose vectors are linked to others near them, on several levels: Malkov and Yashunin, "Efficient and robust
approximate nearest neighbor search using hierarchical navigable small world graphs", TPAMI 2020. Vectors are added one
after another: threads would add them in an order of their own, and other vectors would be found each time.
"""

import importlib.util

import numpy as np

from retrain.errors import CheckError

MANY = 200_000  # photos, of which more need the index
_LINKS, _TRIED_ADDING, _TRIED = 16, 64, 48  # of each vector, and vectors that are looked at for each
_AT_ONCE = 2**16


def require(count: int) -> None:
    """Refuse to look at so many photos where the index that they need is not installed.

    Raises:
        CheckError: It is not.
    """
    if count > MANY and importlib.util.find_spec("usearch") is None:
        raise CheckError(
            f"{count:,} photos are too many to find copies among them without an index: "
            f"pip install 'retrain-images[doctor]'"
        )


def candidates(vectors: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers int64 [N, `count`] of vectors that are likely the nearest to each, which is not among them.

    The same vectors give the same.

    Args:
        vectors: float32 [N, D] of length 1, more than `count`.
        count: How many for each.

    Raises:
        CheckError: usearch is not installed.
    """
    require(len(vectors))
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1],
        metric="ip",
        dtype="bf16",
        connectivity=_LINKS,
        expansion_add=_TRIED_ADDING,
        expansion_search=_TRIED,
    )
    found = np.empty((len(vectors), count), np.int64)
    blocks = [slice(start, start + _AT_ONCE) for start in range(0, len(vectors), _AT_ONCE)]
    for block in blocks:
        index.add(np.arange(len(vectors))[block], vectors[block], threads=1)
    for block in blocks:
        matches = index.search(vectors[block], count + 1)
        found[block] = _others(matches.keys.astype(np.int64), np.arange(len(vectors))[block])
    return found


def _others(found: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return int64 [n, m]: what was found, [n, m + 1], but for the number of each vector itself, or else the last."""
    is_own = found == own[:, None]
    is_own[~is_own.any(axis=1), -1] = True
    others: np.ndarray = found[~is_own].reshape(len(found), -1)
    return others
