"""Damaged and hostile weights end in one line that names them."""

import io
import tarfile
import zipfile
from importlib.resources import files

import numpy as np
import pytest
from backbone_checks import loaded

from retrain.errors import BackboneError


def weights_file(path, change):
    """Write the bundled weights with their arrays changed, as bytes of .npy files by name."""
    with zipfile.ZipFile(str(files("retrain") / "backbones" / "weights" / "mobilenet_bundled.npz")) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda members: members.update({"conv1/kernel.npy": b"no array"}),
        lambda members: members.update({"conv_dw_1_bn/gamma.npy": b"no array"}),
        lambda members: members.update({"conv1/kernel.npy": npy(np.float32(1))}),
        # No numbers at all, of a network of 300,000 times the width.
        lambda members: members.update({"conv1/kernel.npy": npy(np.zeros((0, 3, 3, 10**7), np.float32))}),
        lambda members: members.update({"conv1/kernel.npy": npy(np.zeros((3, 3, 3, 10**4), np.float32))}),
        lambda members: members.pop("conv1/kernel.npy"),
    ],
)
def test_damaged_bundled_weights_are_one_line(tmp_path, change):
    path = weights_file(tmp_path / "w.npz", change)
    with pytest.raises(BackboneError, match=r"w\.npz does not hold the weights of a MobileNet v1"):
        loaded("mobilenet_bundled", tmp_path, weights=str(path), height=32, width=32)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_an_archive_whose_graph_is_no_file_is_one_line(tmp_path, kind):
    with tarfile.open(tmp_path / "mobilenet_v1_0.25_128_frozen.tgz", "w:gz") as archive:
        entry = tarfile.TarInfo("mobilenet_v1_0.25_128/frozen_graph.pb")
        entry.type, entry.linkname = kind, "../nowhere"
        archive.addfile(entry)
    with pytest.raises(BackboneError, match=r"has no frozen_graph\.pb inside"):
        loaded("mobilenet_0.25_128", tmp_path)


@pytest.mark.slow
def test_a_module_with_damaged_variables_is_one_line(tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable(tf.ones([3, 3]))
    signature = tf.TensorSpec([None, 16, 16, 3], tf.float32, name="image")
    module.call = tf.function(lambda image: tf.reduce_mean(image, [1, 2]) @ module.weight, [signature])
    tf.saved_model.save(module, str(tmp_path / "module"), signatures=module.call)
    (tmp_path / "module" / "variables" / "variables.index").write_bytes(b"damaged")
    with pytest.raises(BackboneError, match="cannot use the weights .*module: .*delete them and run again"):
        loaded(str(tmp_path / "module"), tmp_path)
