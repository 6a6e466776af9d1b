"""Whatever a command is given instead of a file is refused in one line before anything opens it."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import photo

from retrain import files
from retrain.backbones import graph_files, measuring, sources
from retrain.backbones import loading as loading_backbones
from retrain.backbones.catalogue import BackboneSpec, Kind
from retrain.backbones.loading import Backbone
from retrain.bottlenecks import legacy_cache, photos
from retrain.bottlenecks.store import Store
from retrain.cli import flags, show_image
from retrain.data import image_files
from retrain.errors import DatasetError, GraphError, RetrainError, UsageError
from retrain.formats.table import format_of
from retrain.graphs import reading
from retrain.inference import loading
from retrain.metadata import read_labels
from retrain.pipeline import RetrainConfig, retrain
from retrain.preprocessing import InputSpec
from retrain.training.checkpoints import TrainingCheckpoint

SECONDS = 60  # an opened pipe waits for ever, and /dev/zero has no end


@pytest.fixture(autouse=True)
def bounded_wait():
    def stop(number, frame):
        raise TimeoutError("it was opened, or read without end")

    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)
    files.bound_reading(None)


def no_file(folder, kind, name="x"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    return path


def spec(path):
    return BackboneSpec("x", Kind.GRAPH_FILE, location=str(path))


def read_photo(path):
    if reason := photos.read_photo(path.parent, path.name).reason:
        raise OSError(reason)


def source(path):
    return sources.BackboneSource(spec(path), str(path), "")


READERS = {
    "image": image_files.read_image,
    "photo": read_photo,
    "labels": read_labels,
    "graph": reading.read_graph,
    "sha256": files.sha256_of,
    "weights": lambda path: sources.from_path(spec(path), path),
    "archive": lambda path: graph_files.freeze_archive(source(path)),
    "show_image": show_image.show_image,
}


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_are_opened(tmp_path, reader, kind):
    with pytest.raises((RetrainError, OSError), match="not a regular file"):
        READERS[reader](no_file(tmp_path, kind))


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["m.pb", "m.tflite", "m.keras", "m.h5", "m.onnx"])
def test_no_model_is_opened_that_is_no_regular_file(tmp_path, name, kind):
    path = no_file(tmp_path, kind, name)
    if name == "m.onnx":
        pytest.importorskip("onnx")
    form = format_of(path)
    for read in (form.describe, form.stats, loading.load, loading.describe, loading.file_to_load):
        with pytest.raises(GraphError, match="cannot read the .*: not a regular file"):
            read(path)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_lies_in_a_cache_is_opened_only_where_it_is_a_regular_file(tmp_path, kind):
    photo(tmp_path / "photos" / "a" / "1.png", (1, 2, 3))
    no_file(tmp_path, kind, "a/1.png_net.txt")
    assert legacy_cache.find(tmp_path, tmp_path / "photos", ["a/1.png"], "net") is None
    said = []
    assert TrainingCheckpoint(no_file(tmp_path, kind), "", said.append)._read(1) is None
    assert "not a regular file" in said[0]


@pytest.mark.parametrize("name", ["index.sqlite", "vectors.f32", "checksums.u32"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_store_consists_of_regular_files(tmp_path, name, kind):
    no_file(tmp_path, kind, name)
    with pytest.raises(RetrainError, match="cannot use the bottleneck folder .*: not a regular file"):
        Store(tmp_path, dimension=4)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_remembered_beside_a_backbone_is_opened_only_where_it_is_a_regular_file(tmp_path, kind):
    backbone = Backbone("x", tmp_path / "backbone.pb", InputSpec(), "target", 1)
    backbone.graph.write_bytes(b"")
    no_file(tmp_path, kind, "engines.json")
    assert measuring.remembered(tmp_path, "float32") is None
    no_file(tmp_path, kind, "backbone.verified")
    assert not loading_backbones.is_verified(backbone)
    (tmp_path / "backbone.verified").unlink()
    (tmp_path / "backbone.verified").write_bytes(b"")
    no_file(tmp_path, kind, "backbone.pb.sha256")
    assert not loading_backbones.is_verified(backbone)


def test_a_pipe_among_the_summaries_is_not_waited_for(tmp_path):
    with contextlib.ExitStack() as opened:
        assert files.lock(no_file(tmp_path, "pipe"), opened)


LARGE = {name: READERS[name] for name in ("image", "labels", "graph", "weights", "show_image")}


@pytest.mark.parametrize("reader", LARGE)
def test_the_refusal_of_a_large_file_names_the_flag_that_raises_the_bound(tmp_path, reader):
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.truncate(2**33)  # a hole
    with pytest.raises((RetrainError, OSError), match="at most .* are read: --max_file_size raises that"):
        LARGE[reader](path)


@pytest.mark.parametrize("reader", LARGE)
def test_the_flag_bounds_files_of_every_kind_and_lowers_what_a_kind_may_have(tmp_path, reader):
    files.bound_reading(10)
    (tmp_path / "x").write_bytes(b"x" * 11)
    with pytest.raises((RetrainError, OSError), match="11 bytes, and at most 10 are read: --max_file_size raises that"):
        LARGE[reader](tmp_path / "x")


def test_a_photo_above_the_bound_is_a_rejection_that_is_not_remembered(tmp_path):
    image = photo(tmp_path / "1.png", (1, 2, 3))
    files.bound_reading(50)
    rejected = photos.read_photo(tmp_path, image.name)
    assert "at most 50 are read" in rejected.reason
    assert rejected.stamp == photos.NO_STAMP
    files.bound_reading(None)
    assert photos.read_photo(tmp_path, image.name).data == image.read_bytes()


def test_a_bound_can_be_raised_and_lowered(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"content")
    files.bound_reading(7)
    assert files.read_regular(path, 6) == b"content"
    files.bound_reading(6)
    with pytest.raises(OSError, match="7 bytes, and at most 6"):
        files.read_regular(path, 7)


def test_a_run_bounds_what_the_program_reads_until_it_ends(tmp_path):
    files.bound_reading(7)
    with pytest.raises(DatasetError):
        retrain(RetrainConfig(image_dir=tmp_path / "missing", max_file_size=5))
    assert files.reading_bound() == 7


@pytest.mark.parametrize(("word", "count"), [("7", 7), ("500k", 512000), ("64MB", 2**26), ("2G", 2**31), ("1g", 2**30)])
def test_a_number_of_bytes_may_have_a_suffix(word, count):
    assert flags.byte_count(word) == count
    assert flags.label_image_parser().parse_args(["--max_file_size", word]).max_file_size == count
    assert flags.retrain_parser().parse_args(["--max_file_size", word]).max_file_size == count


@pytest.mark.parametrize("word", ["0", "-1", "2.5G", "1T", "k", ""])
def test_what_is_no_number_of_bytes_is_a_usage_error(word):
    with pytest.raises(UsageError, match="is no number of bytes"):
        flags.evaluate_parser().parse_args([f"--max_file_size={word}"])


COMMANDS = {
    "label_image": ["--graph", "X", "photos/a/1.png"],
    "label_image --labels": ["--graph", "g.pb", "--labels", "X", "photos/a/1.png"],
    "label_image photo": ["--graph", "g.pb", "X", "--json"],
    "label_image --describe": ["--graph", "X", "--describe"],
    "evaluate": ["--graph", "X", "--image_dir", "photos"],
    "evaluate --labels": ["--graph", "g.pb", "--labels", "X", "--image_dir", "photos"],
    "retrain --architecture": ["--architecture", "X", "--image_dir", "photos"],
    "retrain --weights": ["--architecture", "mobilenet_bundled", "--weights", "X", "--image_dir", "photos"],
    "retrain --model_dir": ["--architecture", "mobilenet_0.25_128", "--image_dir", "photos"],
    "count_ops": ["X"],
    "graph_pb2tb": ["logs", "X"],
    "quantize_graph": ["--input", "X", "--output", "out.pb"],
    "show_image": ["X"],
}
_RUN_ALL = """
import contextlib, importlib, io, json, sys
from retrain.errors import RetrainError
for name, words in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            importlib.import_module("retrain.cli." + name.split()[0]).main(words)
            answer = printed.getvalue().strip()
        except RetrainError as error:
            answer = str(error)
    print(json.dumps([name, answer]), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_every_command_refuses_it_by_name(tmp_path, mean_colour_backbone, kind):
    from builders import exported

    exported(mean_colour_backbone, tmp_path / "g.pb")
    for name in "ab":
        photo(tmp_path / "photos" / name / "1.png", (1, 2, 3))
    no_file(tmp_path, kind, "X.pb")
    no_file(tmp_path, kind, "tf_files/models/mobilenet_v1_0.25_128_frozen.tgz")
    requests = [(name, [word.replace("X", "X.pb") for word in words]) for name, words in COMMANDS.items()]
    done = subprocess.run(
        [sys.executable, "-c", _RUN_ALL], input=json.dumps(requests), cwd=tmp_path, capture_output=True, text=True,
        timeout=SECONDS * 5, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    answers = dict(map(json.loads, done.stdout.splitlines()))
    assert set(answers) == set(COMMANDS), done.stderr[-2000:]
    for name, answer in answers.items():
        assert "not a regular file" in answer, name
        assert "\n" not in answer
    assert not (tmp_path / "out.pb").exists()
