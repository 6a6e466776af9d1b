"""How fast each node of a cluster is, in words."""

from collections import Counter

_NAMED = 8


def rates(done: Counter[str], seconds: float) -> str:
    """Return the fastest nodes with what each has done a second, and how many more there are: "a 45, b 30"."""
    named = [f"{node} {count / seconds:.0f}" for node, count in done.most_common(_NAMED)]
    more = len(done) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
