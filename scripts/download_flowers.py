"""Downloads the codelab's photos, flower_photos, and unpacks them: `make flowers`."""

import argparse
import tarfile
from collections.abc import Sequence
from pathlib import Path

from retrain.backbones import download
from retrain.cli import console, flags
from retrain.errors import printable
from retrain.terminal import Terminal

URL = "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz"


def main(arguments: Sequence[str]) -> int:
    """Unpack the .tgz behind a URL into a folder, in which its own top folder appears only once it is whole."""
    parser = argparse.ArgumentParser(prog="download_flowers", description="Downloads the codelab's flower_photos.")
    parser.add_argument("--url", default=URL, help="a .tgz of photos (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("tf_files"), help="where to (default: %(default)s)")
    args = flags.parse(parser, arguments)
    with Terminal() as terminal:
        archive = download.fetch(
            args.url,
            args.folder,
            advance=terminal.progress("Downloading", "B"),
            instead="draw photos instead: python scripts/make_sample_photos.py",
        )
    name = archive.name.removesuffix(".tgz")
    unpacked = args.folder / f".{name}.unpacking"
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")
    (unpacked / name).replace(args.folder / name)
    unpacked.rmdir()
    archive.unlink()
    print(printable(f"The photos are in {args.folder / name}."))
    return console.DONE


if __name__ == "__main__":
    console.run("download_flowers", main)
