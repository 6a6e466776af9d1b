"""Whose photo it is: captions from the licence file that lies with a set of photos."""

from pathlib import Path

_LICENCE = "LICENSE.txt"


def caption(image: Path) -> str:
    """Return "daisy/1.jpg CC-BY by A Name" for a photo; its name alone where no LICENSE.txt above it names it.

    Each line of such a file holds a path below it, who made the photo, and after " - " where it was found.
    """
    for folder in image.absolute().parents:
        licence = folder / _LICENCE
        if not licence.is_file():
            continue
        name = image.absolute().relative_to(folder).as_posix()
        for line in licence.read_text("utf-8", "replace").splitlines():
            if line.startswith(f"{name} "):
                return " - ".join(line.split(" - ")[:-1]) or line
    return image.name
