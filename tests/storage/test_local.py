"""Folders on this machine as storages, and what names a folder."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from retrain.errors import UsageError
from retrain.storage import access
from retrain.storage.folders import RemoteFolder, folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for path in ("roses/a.jpg", "roses/deep/b.jpg", "tulips/c.jpg", "loose.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    return tmp_path


def test_lists_and_reads_what_is_there(tree):
    storage = access.of(tree)
    listed = {file.path: file.stamp for page in storage.pages() for file in page}
    assert sorted(listed) == ["loose.jpg", "roses/a.jpg", "roses/deep/b.jpg", "tulips/c.jpg"]
    assert listed["roses/a.jpg"] == storage.stamp("roses/a.jpg")
    assert storage.folders() == ["roses", "tulips"]
    assert [file.path for file in storage.entries("roses").files] == ["roses/a.jpg"]
    assert storage.read("roses/a.jpg") == b"roses/a.jpg"
    assert storage.head("roses/a.jpg", 3) == b"ros"
    contents = storage.read_many(["roses/a.jpg", "missing", "loose.jpg"])
    assert contents[::2] == [b"roses/a.jpg", b"loose.jpg"]
    assert isinstance(contents[1], FileNotFoundError)
    with pytest.raises(OSError, match="at most 5"):
        storage.read("roses/a.jpg", limit=5)


def test_the_first_creation_wins_and_leaves_no_draft(tmp_path):
    storage = access.of(tmp_path)
    assert storage.create("commits/1", b"first")
    assert not storage.create("commits/1", b"second")
    assert storage.read("commits/1") == b"first"
    assert [path.name for path in (tmp_path / "commits").iterdir()] == ["1"]
    storage.remove("commits/1")
    storage.remove("commits/1")
    assert storage.create("commits/1", b"third")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("S3://bucket/my photos/", "s3://bucket/my photos"),
        ("sftp://me@host:2222/home/me", "sftp://me@host:2222/home/me"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
    ],
)
def test_a_url_names_a_remote_folder(text, shown):
    remote = folder(text)
    assert isinstance(remote, RemoteFolder)
    assert str(remote) == shown
    assert pickle.loads(pickle.dumps(remote)) == remote
    assert str(remote / "roses") == f"{shown}/roses"
    assert (remote / "roses").name == "roses"
    assert (remote / "roses").parent == remote


def test_other_texts_are_paths():
    assert folder("photos") == Path("photos")
    assert folder("file:///home/me/my%20photos") == Path("/home/me/my photos")


@pytest.mark.parametrize(
    "text",
    ["sftp://me:hunter2@host/x", "s3://bucket/x?X-Amz-Signature=hunter2", "sftp://me@hunter2@host/x",
     "abfs://container:hunter2@account/x", "ftp://hunter2/x", "s3:///x", "file://host/x"],
)  # fmt: skip
def test_a_url_that_is_not_used_is_refused_without_its_secret(text):
    with pytest.raises(UsageError) as refused:
        folder(text)
    assert "hunter2" not in str(refused.value)


def test_a_run_on_this_machine_imports_nothing_that_remote_folders_need():
    program = "import sys, retrain.pipeline; print({'asyncio', 'ssl', 'fsspec', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
