"""What a listing said of many files, kept small: their sorted paths, and their stamps as three columns of numbers."""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from retrain.storage.interface import Listed
from retrain.storage.stamps import Stamp


class Listing:
    """The files of one folder by path; ten million take 24 bytes each beside their paths."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._columns = tuple(array("q") for _ in range(3))

    def add(self, files: Sequence[Listed]) -> None:
        """Append files; those of a listing that does not come sorted are to be sorted by `sort` in the end."""
        self.paths += [file.path for file in files]
        for column, name in zip(self._columns, ("size", "modified", "changed"), strict=True):
            column.extend(getattr(file.stamp, name) for file in files)

    def sort(self) -> None:
        """Sort the files by path, each of which counts once."""
        if all(one < other for one, other in pairwise(self.paths)):
            return
        order = sorted(range(len(self.paths)), key=self.paths.__getitem__)
        order = [row for n, row in enumerate(order) if not n or self.paths[row] != self.paths[order[n - 1]]]
        self.paths = [self.paths[row] for row in order]
        self._columns = tuple(array("q", [column[row] for row in order]) for column in self._columns)

    def stamp(self, path: str) -> Stamp | None:
        """Return the stamp of a file, None for one that was not listed."""
        row = bisect_left(self.paths, path)
        if row == len(self.paths) or self.paths[row] != path:
            return None
        return Stamp(*(column[row] for column in self._columns))

    def below(self, folder: str) -> Sequence[str]:
        """Return the sorted paths of the files below a folder."""
        start, end = bisect_left(self.paths, f"{folder}/"), bisect_left(self.paths, f"{folder}0")  # "0" follows "/"
        return self.paths if (start, end) == (0, len(self.paths)) else self.paths[start:end]
