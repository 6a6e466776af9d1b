import zipfile

import h5py
import numpy as np
import pytest
from builders import small_keras

from retrain.backbones import keras_networks
from retrain.errors import GraphError
from retrain.formats import keras as keras_format
from retrain.formats import limits


def bomb(file, change):
    """Replace the first kernel in an HDF5 file by what `change` makes of its name."""
    with h5py.File(file, "a") as opened:
        names = []
        opened.visit(names.append)
        name = next(name for name in names if isinstance(opened[name], h5py.Dataset) and opened[name].ndim == 4)
        del opened[name]
        change(opened, name)


def promised(opened, name):
    opened.create_dataset(name, (2**15, 2**15), "f4", chunks=(256, 256), compression="gzip")


@pytest.mark.parametrize("name", ["m.h5", "m.weights.h5", "m.keras"])
def test_hdf5_that_promises_more_than_it_holds_is_refused(tmp_path, name):
    path, model = tmp_path / name, small_keras(rescaling=True)
    (model.save_weights if "weights" in name else model.save)(path)
    limits.check_weights(path)
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            members = {each: archive.read(each) for each in archive.namelist()}
        inner = tmp_path / "inner.h5"
        inner.write_bytes(members["model.weights.h5"])
        bomb(inner, promised)
        with zipfile.ZipFile(path, "w") as archive:
            for each, content in {**members, "model.weights.h5": inner.read_bytes()}.items():
                archive.writestr(each, content)
    else:
        bomb(path, promised)
    assert path.stat().st_size < 2**20
    with pytest.raises(GraphError, match=r"is refused: it unpacks to 4,294,\d+,\d+ bytes"):
        keras_format.open_model(path)


def test_weights_that_are_kept_in_other_files_are_refused(tmp_path):
    path = tmp_path / "m.h5"
    small_keras(rescaling=True).save(path)
    (tmp_path / "other").write_bytes(bytes(8))
    bomb(path, lambda file, name: file.create_dataset(name, (2,), "f4", external=[(tmp_path / "other", 0, 8)]))
    with pytest.raises(GraphError, match="is kept in other files"):
        keras_format.load_model(path)


def test_an_archive_of_arrays_that_unpacks_to_far_more_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", a=np.zeros(2**27, np.float32))
    with pytest.raises(GraphError, match=r"w\.npz is refused: it unpacks to 536,\d+,\d+ bytes"):
        keras_networks.bundled(tmp_path / "w.npz", height=64, width=64)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + b"\xff" * 18, b"\x89HDF\r\n\x1a\n" + b"\xff" * 90])
def test_damaged_files_are_one_line(tmp_path, content):
    path = tmp_path / "m.h5"
    path.write_bytes(content)
    with pytest.raises(GraphError, match=r"m\.h5[^\n]+\.$"):
        keras_format.load_model(path)
