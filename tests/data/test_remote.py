"""The same data set from a remote folder as from the same tree on this machine."""

import io
from dataclasses import replace

import pytest
from conftest import photo
from servers import PAGE

from retrain import files
from retrain.data import image_files
from retrain.data.dataset import scan
from retrain.errors import DatasetError, MarksError, UsageError
from retrain.storage import access
from retrain.storage.folders import RemoteFolder, folder

TREES = {
    "class folders": [*(f"{name}/{n}.jpg" for name in ("a", "a b") for n in range(PAGE + 3)), "a/deep/x.jpg", "a!.jpg"],
    "hidden ones": ["a/1.jpg", "b/2.jpg", "a/.hidden.jpg", ".git/a/3.jpg", "b/.x/4.jpg", ".loose.jpg"],
    "split folders": [f"{s}/{name}/{n}.jpg" for s in ("train", "test") for name in "ab" for n in range(3)],
    "split folders with others beside": ["Train/a/1.jpg", "Train/b/2.jpg", "val/a/3.jpg", "val/4.jpg", "notes/x.txt"],
    "classes called like a split": [f"{name}/{n}.jpg" for name in ("test", "train") for n in range(3)],
    "a class without images": ["a/1.jpg", "b/2.jpg", "c/notes.txt", "c/more.txt"],
    "loose images": ["a/1.jpg", "b/2.jpg", "3.jpg", "notes.txt"],
    "names of all kinds": ["a/1 [x]*?.jpg", "b\u00e4r/#2%20.jpg", "b\u00e4r/\u6f22.JPG", "a/+&'.jpg"],
}
REFUSED = {
    "one class": ["a/1.jpg", "a/2.jpg"],
    "one folder above": ["photos/a/1.jpg", "photos/b/2.jpg"],
    "a split without training": ["test/a/1.jpg", "val/a/2.jpg"],
    "a class missing in training": ["train/a/1.jpg", "train/b/1.jpg", "test/c/2.jpg"],
}


def tree(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


@pytest.mark.parametrize("names", TREES.values(), ids=TREES)
def test_is_the_same_as_that_of_the_same_tree_here(bucket, tmp_path, names):
    local = tree(tmp_path, names)
    remote = folder(bucket.upload(local, "photos"))
    found = scan(remote)
    assert replace(found, image_dir=local) == scan(local)
    assert found.image_dir == remote
    before = len(bucket.server.requests())
    for example in found.examples:
        assert access.stamp_of(remote, example.path).size == len(example.path.encode())
    assert len(bucket.server.requests()) == before  # the listing answers
    assert not bucket.reads() or "without images" in str(found.notes) or "notes" in str(names)


@pytest.mark.parametrize("names", REFUSED.values(), ids=REFUSED)
def test_is_refused_in_the_same_words(bucket, tmp_path, names):
    local = tree(tmp_path / "here", names)
    with pytest.raises(DatasetError) as here:
        scan(local)
    remote = bucket.upload(local, "photos")
    with pytest.raises(DatasetError) as there:
        scan(folder(remote))
    assert str(there.value) == str(here.value).replace(str(local), remote)


def test_images_without_an_ending_are_recognised_by_their_content(bucket, tmp_path):
    for name in ("a", "b"):
        photo(tmp_path / "photos" / name / "1.png", (1, 2, 3)).rename(tmp_path / "photos" / name / "IMG_1")
    dataset = scan(folder(bucket.upload(tmp_path / "photos", "photos")))
    assert [example.path for example in dataset.examples] == ["a/IMG_1", "b/IMG_1"]


@pytest.mark.parametrize("path", ["no/such", "empty"])
def test_a_folder_that_is_not_there_is_said(bucket, path):
    bucket.put("empty/", b"")
    with pytest.raises(DatasetError, match="no such image folder: s3://"):
        scan(folder(f"{bucket.url}/{path}"))
    with pytest.raises(DatasetError, match="no such image folder: s3://no-such-bucket"):
        scan(folder("s3://no-such-bucket/photos"))


def test_files_are_told_of_in_order_as_they_are_listed(bucket, tmp_path):
    local = tree(tmp_path, TREES["class folders"])
    told = {}
    dataset = scan(
        folder(bucket.upload(local, "photos")), on_listed=lambda name, paths: told.setdefault(name, []).append(paths)
    )
    assert sorted(told) == ["a", "a b"]
    for name, pages in told.items():
        assert len(pages) > 1
        assert [path for page in pages for path in page] == [
            example.path for example in dataset.examples if example.path.startswith(f"{name}/")
        ]
    here = {}
    scan(local, on_listed=lambda name, paths: here.setdefault(name, []).extend(paths))
    assert here == {name: [path for page in pages for path in page] for name, pages in told.items()}


def test_arguments_name_remote_files_and_folders(bucket, tmp_path):
    tree(tmp_path, ["b/1.jpg", "b/.hidden/2.jpg", "b/notes.txt", "a.png", "raw.cr2"])
    url = bucket.upload(tmp_path, "photos")
    shown = [str(path).removeprefix(url) for path in image_files.expand_paths([url])]
    assert shown == ["/a.png", "/b/1.jpg", "/raw.cr2"]
    assert bucket.reads() == ["photos/b/notes.txt"]  # once, and nothing else: the other names say enough
    assert list(map(str, image_files.expand_paths([f"{url}/b/notes.txt", f"{url}/gone.jpg"]))) == [
        f"{url}/b/notes.txt", f"{url}/gone.jpg",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no image files in s3://"):
        image_files.expand_paths([f"{url}/nothing"])
    assert image_files.read_image(folder(f"{url}/a.png")) == b"a.png"


@pytest.mark.parametrize(
    "word", ["https://host/a.jpg?token=hunter2", "http://me:hunter2@host/a.jpg", "s3://b/a?hunter2"]
)
def test_urls_of_the_web_are_refused_without_their_secrets(word):
    with pytest.raises(UsageError) as refused:
        image_files.expand_paths([word])
    assert "hunter2" not in str(refused.value)


def test_marks_are_refused(tmp_path):
    from retrain.data import marks_applying

    with pytest.raises(MarksError, match="remote"):
        marks_applying.undo(RemoteFolder("s3://bucket", "photos"), tmp_path / "done.jsonl")


def test_lists_on_standard_input_name_remote_files(tmp_path):
    listed = io.BytesIO(
        f"s3://bucket/a b.jpg\n{tmp_path}/c.jpg\nsftp://me@host/d.jpg\nfile://{tmp_path}/e%20.jpg\n".encode()
    )
    assert list(image_files.read_paths(listed)) == [
        RemoteFolder("s3://bucket", "a b.jpg"), tmp_path / "c.jpg", RemoteFolder("sftp://me@host", "d.jpg"),
        tmp_path / "e .jpg",
    ]  # fmt: skip
    with pytest.raises(UsageError) as refused:
        list(image_files.read_paths(io.BytesIO(b"s3://bucket/a.jpg?hunter2\n")))
    assert "hunter2" not in str(refused.value)


def test_a_remote_image_above_the_bound_of_the_command_is_not_read(bucket):
    bucket.put("a.png", b"12345")
    files.bound_reading(4)
    try:
        with pytest.raises(OSError, match="5 bytes, and at most 4 are read: --max_file_size raises that"):
            image_files.read_image(folder(f"{bucket.url}/a.png"))
    finally:
        files.bound_reading(None)
    assert not bucket.reads()
