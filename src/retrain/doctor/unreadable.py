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
    what, it = ("a photo:", "it") if count == 1 else ("photos, such as", "them")
    sentence = (
        f"{count:,} of {total:,} files cannot be read as {what} {printable(paths[0])}. Replace {it}, or take {it} "
        f"out of the folder."
    )
    return [
        Finding(
            Kind.QUALITY,
            min(1.0, round(_LEAST + _SHARE * count / total, 4)),
            sentence,
            paths,
            {"unreadable": count, "files": total, "reasons": {path: photos.rejected[path] for path in paths}},
            [Mark(path, Action.REMOVE) for path in paths],
        )
    ]
