import errno
import os
import resource
import subprocess
import sys

import pytest

from retrain import files
from retrain.errors import ExportError


def test_a_result_that_cannot_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "graph.pb", tmp_path):
        with pytest.raises(ExportError, match="cannot write"):
            files.check_writable(path)


def test_two_processes_of_one_number_write_to_two_drafts():
    """Process 1 of two containers, say, on one volume."""
    code = "import os; os.getpid = lambda: 1\nfrom retrain import files\nprint(files.aside(files.Path('g.pb')))"
    names = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(names) == 2


def test_drafts_of_killed_runs_go_and_those_of_others_stay(tmp_path):
    with subprocess.Popen(["true"]) as gone:
        pass
    own = files.aside(tmp_path / "g.pb").name
    host = own.split("-")[1]
    stale = [f".g.pb.{gone.pid}", f".g.pb.{gone.pid}-{host}-00000000", f".g.pb.{os.getpid()}-{host}-0000dead"]
    kept = [own, f".g.pb.{gone.pid}-ffffffff-00000000", ".g.pb.mine", ".g.pb", "g.pb.1", f".other.pb.{gone.pid}"]
    for name in [*stale, *kept]:
        (tmp_path / name).write_text("half")
    os.utime(tmp_path / stale[-1], (0, 0))  # older than a day
    (tmp_path / f".g.pb.{gone.pid}-{host}-00000001").mkdir()
    (tmp_path / f".g.pb.{gone.pid}-{host}-00000001" / "g.pb").write_text("half")
    files.remove_stale_drafts(tmp_path, "g.pb")
    assert {path.name for path in tmp_path.iterdir()} == set(kept)
    files.write_result(tmp_path / "other.pb", b"whole")
    assert not (tmp_path / kept[-1]).exists()


def test_names_as_long_as_a_name_may_be_are_written(tmp_path):
    for name in ("x" * 255, "ж" * 127):
        files.write_result(tmp_path / name, b"x")
    assert len(list(tmp_path.iterdir())) == 2


def test_drafts_are_put_in_place_and_stay(tmp_path):
    for path in (tmp_path / "draft", tmp_path / "other"):
        path.write_text(path.name)
    files.put_in_place([(tmp_path / "draft", tmp_path / "a"), (tmp_path / "other", tmp_path / "b")])
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("draft", "other")
    assert len(list(tmp_path.iterdir())) == 4


def test_two_folders_change_places_in_one_step(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    if not files.exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this system cannot")
    assert [(tmp_path / name / "content").read_text() for name in ("a", "b")] == ["b", "a"]
    assert not files.exchange(tmp_path / "a", tmp_path / "gone")
    assert (tmp_path / "a" / "content").read_text() == "b"


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
