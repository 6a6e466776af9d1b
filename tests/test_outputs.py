"""Nothing of a user's is replaced: what a command writes is decided, and refused, before its work."""

import contextlib
import os
import socket
from pathlib import Path

import pytest
from builders import exported
from conftest import photo

from retrain import outputs, results
from retrain.config import RetrainConfig
from retrain.errors import ExportError, UsageError
from retrain.outputs import Output
from retrain.storage.folders import RemoteFolder

KINDS = {
    "g.pb": outputs.GRAPH, "g.txt": outputs.TEXT, "g.html": outputs.PAGE, "g.json": outputs.JSON,
    "g.csv": outputs.PREDICTIONS, "g.tflite": outputs.LITERT, "g.keras": outputs.ARCHIVE, "g.onnx": outputs.ONNX,
}  # fmt: skip
OLD = {
    "g.txt": b"daisy\nro\xdfe\n", "g.html": b"<!doctype html><title>retrain</title>", "g.json": b'{"a": 1}',
    "g.csv": b"image,true,predicted,score,a\n", "g.tflite": b"\x1c\0\0\0TFL3\0", "g.keras": b"PK\x03\x04",
    "g.onnx": b"\x08\x08\x12\x07retrain",
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_an_old_result_is_replaced_by_one_of_its_kind_only(tmp_path, mean_colour_backbone, name):
    graph = exported(mean_colour_backbone, tmp_path / "old.pb").read_bytes()
    old = {**OLD, "g.pb": graph, "photo.png": photo(tmp_path / "photo.png", (1, 2, 3)).read_bytes(), "empty": b""}
    same = {"g.txt": {"g.html", "g.json", "g.csv"}}.get(name, set()) | {name, "empty"}  # all of them are text
    for other, content in old.items():
        (tmp_path / name).write_bytes(content)
        if other in same:
            outputs.check([Output(tmp_path / name, "--flag", KINDS[name])], {})
        else:
            with pytest.raises(ExportError, match=f"{name}: a file that is no .* Give another --flag"):
                outputs.check([Output(tmp_path / name, "--flag", KINDS[name])], {})
        assert (tmp_path / name).read_bytes() == content


def test_a_graph_is_replaced_whoever_wrote_it(tmp_path, mean_colour_backbone):
    import tensorflow as tf

    tf.io.write_graph(tf.compat.v1.GraphDef.FromString(mean_colour_backbone.read_bytes()), str(tmp_path), "text.pb")
    for path in (mean_colour_backbone, tmp_path / "text.pb"):
        outputs.check([Output(path, "--output_graph", outputs.GRAPH)], {})


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: socket.socket(socket.AF_UNIX).bind(path)])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_is_no_regular_file_is_not_replaced(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    make("labels.txt")
    (tmp_path / "link.txt").symlink_to("labels.txt")
    for name in ("labels.txt", "link.txt"):
        with pytest.raises(ExportError, match="it is a pipe, a device or a socket"):
            outputs.check([Output(tmp_path / name, "--output_labels", outputs.TEXT)], {})


def test_no_output_is_in_the_way_of_a_remote_input(tmp_path):
    outputs.check([Output(tmp_path / "out", "--summaries_dir")], {"--image_dir": RemoteFolder("s3://bucket", "out")})


def test_a_folder_is_none_where_a_file_is(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write into .*file: it is no folder. Give another --summaries_dir"):
        outputs.check([Output(tmp_path / "file", "--summaries_dir")], {})


@pytest.mark.parametrize(
    ("graph", "labels", "said"),
    [
        ("a.pb", "a.pb", "--output_(graph|labels) and --output_(graph|labels) would both write"),
        ("a.pb", "x/../a.pb", "would both write"),
        ("a.pb", "link/a.pb", "would both write"),
        ("out/a.pb", "l.txt", "--output_graph .*a.pb would lie in .*out, which --saved_model_dir writes as a whole"),
        ("link/out/a.pb", "l.txt", "would lie in .*out, which --saved_model_dir writes as a whole"),
        ("a.pb", "out", "would both write .*out"),
        ("x/a.pb", "x", "would lie in .*x, which --output_labels writes"),
        ("a.pb", "summaries", "would both write .*summaries"),
    ],
)
def test_paths_that_collide_are_refused(tmp_path, graph, labels, said):
    (tmp_path / "link").symlink_to(tmp_path)
    rows = [
        Output(tmp_path / graph, "--output_graph", outputs.GRAPH),
        Output(tmp_path / labels, "--output_labels", outputs.TEXT),
        Output(tmp_path / "out", "--saved_model_dir", whole=True),
        Output(tmp_path / "summaries", "--summaries_dir"),
    ]
    for order in (rows, rows[::-1]):
        with pytest.raises(UsageError, match=said):
            outputs.check(order, {})
    assert [path.name for path in tmp_path.iterdir()] == ["link"]  # nothing was made


@pytest.mark.parametrize(
    ("row", "read"),
    [(("a.pb", "--out", outputs.GRAPH), "a.pb"), (("saved", "--out", None, True), "saved/photos")],
)
def test_a_result_never_replaces_what_is_read(tmp_path, row, read):
    (tmp_path / "a.pb").write_bytes(b"")
    (tmp_path / "saved" / "photos").mkdir(parents=True)
    with pytest.raises(UsageError, match=f"--out would replace .*{read}, which --in reads. Give another --out"):
        outputs.check([Output(tmp_path / row[0], *row[1:])], {"--in": tmp_path / read, "--labels": None})


def test_results_may_share_folders(tmp_path):
    names = ("--summaries_dir", "--bottleneck_dir")
    rows = [Output(tmp_path / "out", name) for name in names] + [Output(tmp_path / "out" / "g.pb", "-g", outputs.GRAPH)]
    outputs.check(rows, {"--image_dir": tmp_path / "out"})
    assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"output_graph": "i/intermediate_20.pb"}, "would both write .*intermediate_20.pb"),
        ({"output_labels": "i/intermediate_30.pb"}, "would both write .*intermediate_30.pb"),
        ({"bottleneck_dir": "i/intermediate_10.pb/b"}, "would lie in .*intermediate_10.pb, which --intermediate"),
        ({"output_graph": "i/intermediate_25.pb"}, ""),  # no step of them
        ({"output_graph": "intermediate_20.pb"}, ""),
    ],
)
def test_intermediate_graphs_are_outputs_before_any_is_there(tmp_path, monkeypatch, settings, refused):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / "intermediate_15.pb").write_text("the user's: no step of 10")
    settings = {name: Path(value) for name, value in settings.items()}
    config = RetrainConfig(
        Path("photos"), intermediate_store_frequency=10, intermediate_output_graphs_dir=Path("i"), **settings
    )
    with pytest.raises(UsageError, match=refused) if refused else contextlib.nullcontext():
        outputs.check(results.planned(config), {})
