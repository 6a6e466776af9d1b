"""Refuses archives and HDF5 files that say they hold far more than their own size, before anything allocates it."""

import io
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from retrain.errors import GraphError, RetrainError, first_line

_UNPACKED, _PACKED_AT_MOST = 2**28, 4  # bytes that any file may unpack to; how much larger a large one may get
_HDF5 = b"\x89HDF\r\n\x1a\n"


def check_archive(path: Path) -> None:
    """Refuse a zip archive that unpacks to far more than itself; any other file is passed over.

    Raises:
        GraphError: Says how many bytes it unpacks to.
    """
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        _check_size(path, sum(member.file_size for member in archive.infolist()))


def check_weights(path: Path) -> None:
    """Refuse a file of weights in zip or HDF5, or both, that unpacks to far more than itself; others are passed over.

    Raises:
        GraphError: Says how many bytes it unpacks to, or that it is damaged or refers to other files.
    """
    check_archive(path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in (name for name in archive.namelist() if name.endswith(".h5")):
                    _check_hdf5(path, io.BytesIO(archive.read(name)))
        elif path.is_file():
            with path.open("rb") as file:
                if file.read(len(_HDF5)) == _HDF5:
                    _check_hdf5(path, file)
    except RetrainError:
        raise
    except Exception as error:  # zip and HDF5 raise anything from zlib.error to KeyError on damaged files
        raise GraphError(f"{path} holds damaged weights ({first_line(error)[:200]}).") from error


def _check_hdf5(path: Path, content: Any) -> None:
    import h5py

    sizes = [0]

    def see(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise GraphError(f"{path} is refused: {name!r} in it is kept in other files. Use a whole file.")
            sizes.append(item.id.get_type().get_size() * (item.size or 0))

    with h5py.File(content, "r") as opened:
        opened.visititems(see)
    _check_size(path, sum(sizes))


def _check_size(path: Path, unpacked: int) -> None:
    if unpacked > max(_UNPACKED, _PACKED_AT_MOST * path.stat().st_size):
        raise GraphError(
            f"{path} is refused: it unpacks to {unpacked:,} bytes. Use a model from a source that you trust."
        )
