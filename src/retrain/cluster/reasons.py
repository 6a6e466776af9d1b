"""Turns Ray's errors, which are pages long, into one line."""

import re

from retrain.errors import first_line

_DETAILS = (
    r"Worker exit detail: (.+?)(?:\. |\.?$)",
    r"The actor died because of an error raised in its creation task.*\n.*?(\w+Error: .+)",
    r"The actor is dead because (.+?)(?:\. |\.?$)",
)


def is_lost(error: BaseException) -> bool:
    """Return whether an error of Ray says that a worker is gone, not that its work went wrong."""
    from ray.exceptions import RayError, RayTaskError

    return isinstance(error, RayError) and not isinstance(error, RayTaskError) and not is_cancelled(error)


def is_cancelled(error: BaseException) -> bool:
    """Return whether a task was taken back before it began."""
    from ray.exceptions import TaskCancelledError

    return isinstance(error, TaskCancelledError)


def reason(error: BaseException) -> str:
    """Return in one line what went wrong."""
    from ray.exceptions import RayTaskError

    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        return first_line(error.cause)
    for pattern in _DETAILS:
        found = re.search(pattern, str(error), re.MULTILINE)
        if found:
            return found[1].strip()
    return first_line(error)


def mismatch(error: BaseException) -> str | None:
    """Return in one line which versions differ, None where the error is not of that kind."""
    found = re.findall(r"Ray: (\S+)\s+Python: (\S+)", str(error))
    if len(found) < 2:
        return None
    cluster, here = (f"Ray {ray} on Python {python}" for ray, python in found[:2])
    return f"it is {cluster}, and this is {here}. Install the same on all nodes"
