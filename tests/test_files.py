import errno
import os
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


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"content")
    (tmp_path / "link").symlink_to(path)
    for name in ("x", "link"):
        assert files.read_regular(tmp_path / name, 7) == b"content"
    with pytest.raises(OSError, match="7 bytes, and at most 6 are read"):
        files.read_regular(path, 6)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, code in (("pipe", errno.EINVAL), ("zero", errno.EINVAL), ("", errno.EISDIR), ("gone", errno.ENOENT)):
        with pytest.raises(OSError) as caught:  # noqa: PT011 (the code says which)
            files.read_regular(tmp_path / name, 7)
        assert caught.value.errno == code


def test_a_file_is_not_read_before_its_size_is_known(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole, of a size that no memory holds
    with pytest.raises(OSError, match="1,099,511,627,776 bytes"):
        files.read_regular(path, 2**30)
