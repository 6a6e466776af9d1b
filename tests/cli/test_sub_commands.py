"""`retrain tensorboard` and `retrain completion`."""

import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import command

from retrain.evaluation.tensorboard import VALIDATION, Summaries

RETRAIN = Path(sys.executable).with_name("retrain")


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--logdir", "tf_files/training_summaries"]])
def test_tensorboard_starts_without_the_noise_of_tensorflow(tmp_path, words):
    with Summaries(tmp_path / "tf_files" / "training_summaries", runs=(VALIDATION,)) as summaries:
        summaries.scalars(VALIDATION, np.array([1, 2]), {"accuracy": np.array([0.5, 0.6])})
    words = [RETRAIN, "tensorboard", *words, "--port=0", "--load_fast=false"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        try:
            written = [running.stderr.readline()]
            while written[-1] and "http" not in written[-1]:
                written.append(running.stderr.readline())
            address, found = re.search(r"http://localhost:\d+/", written[-1])[0], ""
            while "accuracy" not in found:  # it reads the files after it has said where it is
                with urllib.request.urlopen(f"{address}data/plugin/scalars/tags") as answer:
                    found = answer.read().decode()
                threading.Event().wait(0.1)
        finally:
            running.send_signal(signal.SIGINT)
        written.append(running.stderr.read())
    assert running.returncode == 0
    assert not re.search("cuda|oneDNN|TensorFlow|Traceback", "".join(written))


@pytest.mark.slow
def test_tensorboards_own_flags_are_checked_in_one_line(tmp_path):
    done = command("retrain", "tensorboard", "--logdir=x", "--logdir_spec=a:b", cwd=tmp_path, code=2)
    assert done.stderr.startswith("retrain: May not specify both --logdir and --logdir_spec")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["retrain", "--how_many_t"], ["--how_many_training_steps"]),
        (["retrain", "--architecture", "mobilenet_0.25_1"], ["mobilenet_0.25_192", "mobilenet_0.25_160"]),
        (["retrain", "--optimizer", "a"], ["adam"]),
        (["retrain", "--precision", "b"], ["bfloat16"]),
        (["retrain", "--engine", "o"], ["openvino"]),
        (["retrain", "--distribution", "m"], ["mirrored", "multi_worker"]),
        (["retrain", "--image_dir", "my_"], ["my_photos"]),
        (["retrain", "--apply_marks", "gra"], ["graph.pb"]),
        (["retrain", "my_"], ["my_photos"]),
        (["label_image", "--graph", "gra"], ["graph.pb"]),
        (["label_image", "gra"], ["graph.pb"]),
        (["evaluate", "--spl"], ["--split"]),
    ],
)
def test_bash_completes_flags_and_their_values(tmp_path, words, expected):
    (tmp_path / "my_photos").mkdir()
    (tmp_path / "graph.pb").touch()
    (tmp_path / "complete.sh").write_text(command("retrain", "completion", "bash", cwd=tmp_path).stdout)
    typed = " ".join(words)
    script = f"""
        . ./complete.sh
        COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; COMP_LINE="{typed}"; COMP_POINT=${{#COMP_LINE}}
        _shtab_{words[0]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(expected) <= set(done.stdout.split())


@pytest.mark.parametrize("shell", ["zsh", "fish", "powershell"])
def test_other_shells_get_their_own_script(tmp_path, shell):
    written = command("retrain", "completion", shell, cwd=tmp_path).stdout
    assert "how_many_training_steps" in written
    assert "label_image" in written


def test_a_shell_that_is_unknown_is_bad_usage(tmp_path):
    assert "bash" in command("retrain", "completion", "sh", cwd=tmp_path, code=2).stderr
