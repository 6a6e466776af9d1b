import pytest
from backbone_checks import assert_works, loaded
from builders import colour_module, write_tf1_hub_module

from retrain import (
    export,
)
from retrain.backbones import catalogue
from retrain.errors import DownloadError, GraphError


def test_a_tf2_hub_module_takes_zero_to_one(tmp_path):
    import tensorflow as tf

    module = colour_module()
    tf.saved_model.save(module, str(tmp_path / "module"))
    spec = catalogue.from_hub(str(tmp_path / "module"))
    found = loaded(spec, tmp_path, height=32, width=32)
    vectors = assert_works(found, tmp_path, size=32, dimension=3)
    picture = export.probe_image(32, 32)[None] / 255
    assert vectors[:1] == pytest.approx(picture.mean((1, 2)) * [1, 2, 3], abs=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_a_tf1_hub_module_works_and_tells_its_size(tmp_path):
    found = loaded(catalogue.from_hub(str(write_tf1_hub_module(tmp_path / "module"))), tmp_path)
    vectors = assert_works(found, tmp_path, size=24, dimension=3)
    picture = export.probe_image(24, 24)[None] / 255
    assert vectors[:1] == pytest.approx(picture.mean((1, 2)) * [1, 2, 3], abs=1e-4)


def test_a_saved_model_folder_is_an_architecture(tmp_path):
    import tensorflow as tf

    module = colour_module(20)
    tf.saved_model.save(module, str(tmp_path / "module"), signatures=module.__call__.get_concrete_function())
    found = loaded(str(tmp_path / "module"), tmp_path)
    assert_works(found, tmp_path, size=20, dimension=3)


def test_a_saved_model_that_writes_files_is_refused_before_it_is_loaded(tmp_path):
    import tensorflow as tf

    class Evil(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
        def __call__(self, images):
            tf.raw_ops.WriteFile(filename=str(tmp_path / "pwned"), contents="x")
            return tf.reduce_mean(images, [1, 2])

    tf.saved_model.save(Evil(), str(tmp_path / "module"))
    with pytest.raises(GraphError, match="WriteFile"):
        loaded(str(tmp_path / "module"), tmp_path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_would_save_a_file_while_it_is_loaded_is_refused(tmp_path):
    folder = write_tf1_hub_module(tmp_path / "module", initialiser=str(tmp_path / "pwned"))
    with pytest.raises(GraphError, match="writes files when it is loaded"):
        loaded(catalogue.from_hub(str(folder)), tmp_path)
    assert not list(tmp_path.glob("pwned*"))


def test_a_hub_url_without_network_is_one_clear_error(tmp_path):
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1.*efficientnet_lite0"):
        loaded(catalogue.from_hub("http://127.0.0.1:9/module/1"), tmp_path)
