"""Downloads an archive of photos and unpacks it: `python -m scripts.download_flowers URL FOLDER`."""

import tarfile
from collections.abc import Sequence
from pathlib import Path

from retrain.backbones import download
from retrain.cli import console
from retrain.terminal import Terminal


def main(arguments: Sequence[str]) -> int:
    """Unpack the .tgz behind a URL into a folder, in which its own top folder appears only once it is whole."""
    url, folder = arguments[0], Path(arguments[1])
    archive = download.fetch(
        url, folder, advance=Terminal().progress("Downloading", "B"), instead="train on the sample photos of make demo"
    )
    name = archive.name.removesuffix(".tgz")
    unpacked = folder / f".{name}.unpacking"
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")
    (unpacked / name).replace(folder / name)
    unpacked.rmdir()
    archive.unlink()
    print(f"The photos are in {folder / name}.")
    return console.DONE


if __name__ == "__main__":
    console.run("download_flowers", main)
