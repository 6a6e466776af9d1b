import pytest

from retrain import files, metadata
from retrain.errors import ExportError


def test_a_result_that_cannot_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "graph.pb", tmp_path):
        with pytest.raises(ExportError, match="cannot write"):
            files.check_writable(path)


def test_a_failed_write_leaves_the_old_file(graph, monkeypatch, tmp_path):
    before = graph.read_bytes()
    monkeypatch.setattr(
        "pathlib.Path.replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(ExportError, match="No space left"):
        metadata.write_labels(graph, ["x"])
    monkeypatch.undo()
    assert graph.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [graph.name]
