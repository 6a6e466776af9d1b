"""What a lone frozen graph costs a command, and that a host program's TensorFlow is left alone."""

import subprocess
import sys

import pytest
from builders import exported
from conftest import photo

LABEL = "from retrain.cli import label_image; label_image.main(['--graph', 'g.pb', 'red.png'])"


def python(code, cwd):
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def folder(mean_colour_backbone, tmp_path):
    exported(mean_colour_backbone, tmp_path / "g.pb")
    photo(tmp_path / "red.png", (255, 0, 0))
    return tmp_path


def test_a_command_on_a_lone_graph_imports_no_keras(folder):
    answer = python(f"{LABEL}; import sys; print('keras' in sys.modules, 'tensorflow' in sys.modules)", folder)
    assert "red (score=" in answer
    assert answer.splitlines()[-1] == "False True"


@pytest.mark.slow
def test_what_is_missing_brings_the_whole_of_tensorflow(folder):
    answer = python(f"{LABEL}; import tensorflow as tf; print(tf.math.reduce_sum([1, 2]).numpy(), tf.__name__)", folder)
    assert answer.splitlines()[-1] == "3 tensorflow"


@pytest.mark.slow
def test_loading_a_graph_from_a_program_leaves_its_tensorflow_whole(folder):
    code = "from pathlib import Path; from retrain import load; load(Path('g.pb')); import tensorflow; "
    assert python(code + "print(tensorflow.__version__.count('.'))", folder).strip() == "2"
