"""Finds the files of class folders that cannot be read as photos."""

from retrain.data.marks import Action, Mark
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.photos import Photos
from retrain.errors import printable

_LEAST, _SHARE = 0.2, 4  # a quarter of all files is as bad as can be


def check(photos: Photos) -> list[Finding]:
    """Return one finding that names all files which cannot be read, and why; none where there are none."""
    paths = sorted(photos.rejected)
    if not paths:
        return []
    count, total = len(paths), len(paths) + len(photos.labels)
    which = f"{printable(paths[0])} is" if count == 1 else f"{count} files, {printable(paths[0])} among them, are"
    it = "it" if count == 1 else "them"
    return [
        Finding(
            Kind.QUALITY,
            min(1.0, round(_LEAST + _SHARE * count / total, 4)),
            f"{which} no photo that can be read, of {total:,} files: replace {it}, or take {it} out of the folder.",
            paths,
            {"unreadable": count, "files": total, "reasons": {path: photos.rejected[path] for path in paths}},
            [Mark(path, Action.REMOVE) for path in paths],
        )
    ]
