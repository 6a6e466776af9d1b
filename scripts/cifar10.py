"""Turns the official CIFAR-10 archive for Python into an image folder: train/ and test/ with ten class folders each.

Source of the format: https://www.cs.toronto.edu/~kriz/cifar.html
"""

import argparse
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrain.backbones import download
from retrain.cli import console, flags
from retrain.errors import DatasetError, first_line, printable
from retrain.terminal import Terminal

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
SIDE = 32
_ALLOWED = {  # all that the archive's pickles are made of; any other name could be a program
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # how Python 3 writes bytes for Python 2
}


class _DataOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no data")
        return super().find_class(module, name)


def unpack(archive: Path, image_dir: Path, advance: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Write every picture of the archive as a PNG file, and return how many there are; `advance` gets that on the way.

    Raises:
        DatasetError: Not that archive.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            batches = {Path(entry.name).name: _content(tar, entry) for entry in tar if entry.isfile()}
        names = [name.decode() for name in batches["batches.meta"][b"label_names"]]
        chosen = [name for name in sorted(batches) if name.startswith(("data_batch", "test_batch"))]
        written, total = 0, sum(len(batches[name][b"labels"]) for name in chosen)
        for name in chosen:
            split = "test" if name.startswith("test") else "train"
            written += _write(batches[name], names, image_dir / split)
            advance(written, total)
    except (tarfile.TarError, pickle.UnpicklingError, EOFError, KeyError, IndexError, ValueError, zlib.error) as error:
        raise DatasetError(f"{archive} is not CIFAR-10's archive for Python: {first_line(error)}.") from error
    except OSError as error:
        raise DatasetError(f"cannot unpack {archive} to {image_dir}: {error.strerror or first_line(error)}.") from error
    return written


def main(arguments: Sequence[str]) -> int:
    """Download the archive if it is not there, and unpack it."""
    parser = argparse.ArgumentParser(prog="cifar10", description="Turns CIFAR-10's archive into an image folder.")
    parser.add_argument("--archive", type=Path, help="cifar-10-python.tar.gz (default: downloaded, 163 MB)")
    parser.add_argument("--image_dir", type=Path, default=Path("tf_files/cifar10"), help="default: %(default)s")
    args = flags.parse(parser, arguments)
    with Terminal() as terminal:
        archive = args.archive or download.fetch(
            URL,
            Path("tf_files"),
            sha256=SHA256,
            advance=terminal.progress("Downloading", "B"),
            instead="name your copy of it with --archive",
        )
        count = unpack(archive, args.image_dir, terminal.progress("Unpacking", "picture"))
    print(printable(f"Wrote {count} pictures of {SIDE} x {SIDE} px to {args.image_dir}."))
    return console.DONE


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Any:
    file = tar.extractfile(entry)
    data = file.read() if file else b""
    if entry.name.endswith(".html"):
        return None
    return _DataOnly(io.BytesIO(data), encoding="bytes").load()


def _write(batch: dict[bytes, Any], names: Sequence[str], folder: Path) -> int:
    pixels = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    for picture, label, file in zip(pixels, batch[b"labels"], batch[b"filenames"], strict=True):
        path = folder / names[label] / Path(file.decode()).name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return len(pixels)


if __name__ == "__main__":
    console.run("cifar10", main)
