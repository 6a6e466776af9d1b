import pytest
from conftest import command


@pytest.mark.slow
def test_layers_of_a_frozen_network_are_refused_before_its_download(tmp_path):
    done = command("retrain", "--list_layers", "--architecture", "mobilenet_0.25_128", cwd=tmp_path, code=1)
    assert "mobilenet_0.25_128 is frozen and cannot be fine-tuned" in done.stderr
    assert not (tmp_path / "tf_files").exists()
