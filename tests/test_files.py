import resource

import pytest

from retrain import files
from retrain.errors import ExportError


def test_a_result_that_cannot_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "graph.pb", tmp_path):
        with pytest.raises(ExportError, match="cannot write"):
            files.check_writable(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "graph.pb"
    path.write_bytes(b"the last one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # a full disk, as far as a process can tell
    try:
        with pytest.raises(ExportError, match="File too large"):
            files.write_result(path, b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"the last one"
    assert [path.name for path in tmp_path.iterdir()] == ["graph.pb"]
