"""Downloads an archive of photos and unpacks it: `python -m scripts.download_flowers URL FOLDER`."""

import sys
import tarfile
from pathlib import Path

from retrain.backbones import download
from retrain.errors import RetrainError
from retrain.terminal import Terminal


def main(url: str, folder: Path) -> None:
    """Unpack the .tgz behind `url` into `folder`; its own top folder appears only once it is whole.

    Raises:
        RetrainError: It cannot be downloaded.
    """
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


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except RetrainError as error:
        sys.exit(f"download_flowers: {error}")
