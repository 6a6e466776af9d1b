"""From the second run on: no TensorFlow in any process, and the same bytes as the run that imported it."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import exported_head
from conftest import COLOURS, ROOT, colour_folder, photo

from retrain.backbones.loading import write_with_checksum
from retrain.graphs import nodes, reading

FLAGS = ["--image_dir=photos", "--bottleneck_tensor=mean_colour", "--how_many_training_steps=60"]
# Python imports this at its start, in child processes too.
BLOCKER = """
import sys
from pathlib import Path

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "tensorflow_hub", "tf_keras"):
            with open({log!r}, "a") as file:
                file.write(name + " " + " ".join(sys.argv) + chr(10))
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
"""


def retrain(cwd, *flags, blocked=False, environment=None):
    """Run `retrain` in a fresh process and return what it printed; where `blocked`, no process imports TensorFlow."""
    paths, log = [str(ROOT / "src")], cwd / "imported.txt"
    environment = {**os.environ, **(environment or {})}
    if blocked:
        (cwd / "blocker").mkdir(exist_ok=True)
        (cwd / "blocker" / "sitecustomize.py").write_text(BLOCKER.format(log=str(log)))
        paths.insert(0, str(cwd / "blocker"))
    done = subprocess.run(
        [sys.executable, "-m", "retrain", *map(str, flags)],
        cwd=cwd, env={**environment, "PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert not log.exists(), log.read_text()
    return done.stdout


def events(folder):
    """Return what the event files of a folder hold, by their runs, without the time at which they were written."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    found = {}
    for path in sorted((folder / "training_summaries").rglob("*.tfevents.*")):
        kind = (path.parent.name, path.name.endswith(".graph.retrain"))
        found[kind] = []
        for data in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(data)
            event.ClearField("wall_time")
            found[kind].append(event.SerializeToString(deterministic=True))
    return found


def results(folder):
    """Return the bytes of every result of a run, by their paths, and what its event files hold.

    `runs/` keeps those of every run, with the time of each; the page tells when the run was and how long it took.
    """
    apart = {"bottlenecks", "runs"}
    paths = [path for path in folder.rglob("*") if path.is_file() and not apart & set(path.parts)]
    written = {path.relative_to(folder): path.read_bytes() for path in paths if ".tfevents." not in path.name}
    page = Path("retrained_graph.report.html")
    written[page], times = re.subn(rb"<time[^>]*>[^<]*</time>", b"", written[page])
    assert times == 3
    return written, events(folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, mean_colour_backbone):
    """Return the results and the lines of a first run, and of a second one that cannot import TensorFlow."""
    cwd = tmp_path_factory.mktemp("second_run")
    colour_folder(cwd / "photos")
    found = []
    for blocked in (False, True):
        said = retrain(cwd, *FLAGS, f"--architecture={mean_colour_backbone}", blocked=blocked)
        found.append((*results(cwd / "tf_files"), said))
    return cwd, found


@pytest.mark.slow
def test_the_second_run_imports_no_tensorflow_and_writes_the_same(runs):
    _, [(written, curves, said), (again, same_curves, said_again)] = runs
    names = {path.as_posix() for path in written}
    assert names >= {
        "retrained_graph.pb", "retrained_graph.tflite", "retrained_labels.txt", "retrained_graph.report.html",
        "retrained_graph.report.json", "checkpoints/head.npz",
    }  # fmt: skip
    assert again == written
    assert len(curves) == 5  # train, its graph, validation, test, and the page of settings
    assert all(curves.values())
    assert same_curves == curves
    lines, lines_again = said.splitlines(), said_again.splitlines()
    assert lines[1].startswith("Features for 60 photos: 60 computed")
    assert lines_again == [lines[0], "Features for 60 photos: all from the cache.", *lines[2:]]


@pytest.mark.slow
def test_another_head_on_a_filled_store_imports_no_tensorflow_either(runs, mean_colour_backbone):
    flags = [
        "--random_seed=3",
        "--learning_rate=0.1",
        "--intermediate_store_frequency=20",
        "--output_graph=other/g.pb",
        "--folds=3",
    ]
    flags += ["--output_labels=other/l.txt", "--summaries_dir=other/s", "--intermediate_output_graphs_dir=other/i"]
    said = retrain(runs[0], *FLAGS, f"--architecture={mean_colour_backbone}", *flags, blocked=True)
    assert "Save intermediate result to" in said
    assert "3-fold cross-validation: 100.0% +- 0.0 (folds 100.0% to 100.0%), N=60" in said
    assert "Wrote other/g.pb, other/g.tflite" in said


@pytest.mark.slow
def test_a_rate_that_is_found_is_recorded_as_if_it_were_given_and_imports_no_tensorflow(runs, mean_colour_backbone):
    graphs, words = [], [*FLAGS, f"--architecture={mean_colour_backbone}", "--output_labels=rate/l.txt"]
    rate, rates, lines = "auto", [], []
    for name in ("found", "given"):
        flags = [f"--learning_rate={rate}", f"--output_graph=rate/{name}.pb", "--summaries_dir=rate/s"]
        said = retrain(runs[0], *words, *flags, blocked=True)
        lines += [line for line in said.splitlines() if line.startswith("Learning rate ")]
        graphs.append((runs[0] / f"rate/{name}.pb").read_bytes())
        rate = json.loads((runs[0] / f"rate/{name}.report.json").read_text())["learning_rate"]
        rates.append(rate)
    assert rates[0] == rates[1]
    assert [line.split(":")[0] for line in lines] == [f"Learning rate {rate:g}"]
    assert graphs[0] == graphs[1]


@pytest.mark.slow
def test_more_photos_import_no_tensorflow_where_there_is_no_gpu(runs, mean_colour_backbone):
    photo(runs[0] / "photos" / "cyan" / "more.png", COLOURS["cyan"], seed=99)
    flags = ["--output_graph=more/g.pb", "--output_labels=more/l.txt", "--summaries_dir=more/s"]
    environment = {"CUDA_VISIBLE_DEVICES": "-1"}
    said = retrain(
        runs[0], *FLAGS, f"--architecture={mean_colour_backbone}", *flags, blocked=True, environment=environment
    )
    assert "Features for 61 photos: 1 computed" in said
    (runs[0] / "photos" / "cyan" / "more.png").unlink()


@pytest.mark.slow
def test_the_head_lies_in_arrays_as_it_is_in_the_graph(runs):
    folder = runs[0] / "tf_files"
    with np.load(folder / "checkpoints" / "head.npz") as arrays:
        assert arrays["global_step"] == 60
        for name in ("final_training_ops/weights/final_weights", "final_training_ops/biases/final_biases"):
            assert np.array_equal(arrays[name], exported_head(folder / "retrained_graph.pb", name))


@pytest.mark.slow
def test_a_store_of_an_earlier_version_is_verified_once(runs, mean_colour_backbone):
    """Its graph has attributes with default values, which exports are without, and there is no record of a check."""
    import tensorflow as tf

    cwd, [(*first, _), _] = runs
    (store,) = (cwd / "tf_files" / "bottlenecks").iterdir()
    now = (store / "backbone.pb").read_bytes()
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(nodes.in_tensorflow(reading.parse_graph(now, name="backbone")), name="")
    earlier = graph.as_graph_def().SerializeToString(deterministic=True)
    assert len(earlier) > len(now)
    write_with_checksum(store / "backbone.pb", earlier)
    (store / "backbone.verified").unlink()
    for blocked in (False, True):
        retrain(cwd, *FLAGS, f"--architecture={mean_colour_backbone}", blocked=blocked)
        assert (store / "backbone.pb").read_bytes() == now
        assert [*results(cwd / "tf_files")] == first


@pytest.mark.slow
def test_what_the_report_shows_of_photos_is_made_without_tensorflow_too(runs, mean_colour_backbone):
    cwd = runs[0]
    (store,) = (cwd / "tf_files" / "bottlenecks").iterdir()
    before = kept_rows(store)
    (store / "report.sqlite").unlink()
    retrain(cwd, *FLAGS, f"--architecture={mean_colour_backbone}", blocked=True)
    again = kept_rows(store)
    assert again <= before
    assert len(again) > 20  # of each photo a thumbnail, neighbours, feature maps and where the network looked


def kept_rows(store):
    with sqlite3.connect(store / "report.sqlite") as file:
        rows = set(file.execute("SELECT key, value FROM kept").fetchall())
    file.close()
    return rows


@pytest.mark.slow
def test_a_second_look_at_photos_imports_no_tensorflow(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos", per_class=6)
    said = [
        retrain(tmp_path, *FLAGS[:2], f"--architecture={mean_colour_backbone}", "--check", blocked=blocked)
        for blocked in (False, True)
    ]
    assert said[0] == said[1]
    assert said[0] == (
        "Too few to learn from and to test on: 6 photos of 'cyan', 6 photos of 'magenta', 6 photos "
        "of 'yellow'. Take at least 20 photos of each class.\n"
    )
