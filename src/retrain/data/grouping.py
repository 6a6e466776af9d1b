"""Groups of photos by a pattern in their paths; what else groups photos needs their features, and is for others."""

import re
from collections.abc import Iterable

DUPLICATES, EXIF = "duplicates", "exif"  # what `--group_by` takes beside patterns


def is_allowed(text: str) -> bool:
    """Return whether photos can be grouped by a text: one of the two words, or a regular expression."""
    if text in (DUPLICATES, EXIF):
        return True
    try:
        re.compile(text)
    except re.error:
        return False
    return bool(text)


def by_pattern(paths: Iterable[str], pattern: str) -> dict[str, str]:
    """Return the names of groups by path: what the pattern's parts in brackets match, or without any, all of it.

    Paths in which that is nothing, or no more than an empty text, are left out.
    """
    found = ((path, re.search(pattern, path)) for path in paths)
    names = {path: "\0".join(match.groups("")) if match.re.groups else match[0] for path, match in found if match}
    return {path: name for path, name in names.items() if name.strip("\0")}
