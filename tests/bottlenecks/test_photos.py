"""Photos of a remote folder are read as those on this machine are, and many at a time."""

from dataclasses import replace

import pytest
from conftest import photo

from retrain import files
from retrain.bottlenecks import photos
from retrain.bottlenecks.photos import NO_STAMP
from retrain.storage import access
from retrain.storage.folders import folder
from retrain.storage.interface import Listed
from retrain.storage.listings import Listing


@pytest.fixture
def odd_files(tmp_path):
    photo(tmp_path / "image.png", (1, 2, 3))
    photo(tmp_path / "large.png", (1, 2, 3), size=(900, 900))
    (tmp_path / "large.png").rename(tmp_path / "large without an ending")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "film.mov").write_bytes(bytes(3 * 2**20))
    (tmp_path / "film.jpg").write_bytes(bytes(3 * 2**20))
    return tmp_path


def same(here, there):
    return replace(here, stamp=there.stamp) == there and (here.stamp == NO_STAMP) == (there.stamp == NO_STAMP)


@pytest.mark.parametrize("bound", [None, 2000], ids=["", "bounded"])
def test_each_file_is_the_same_photo_from_there(odd_files, bucket, bound):
    remote = folder(bucket.upload(odd_files, "photos"))
    names = [*(path.name for path in odd_files.iterdir()), "missing.jpg"]
    files.bound_reading(bound)
    try:
        for name, read in photos.read_ahead(remote, ((name, name) for name in names)):
            assert same(photos.read_photo(odd_files, name), read())
            assert same(photos.read_photo(odd_files, name), photos.read_photo(remote, name))
    finally:
        files.bound_reading(None)


def test_what_is_not_as_long_as_it_was_listed_is_looked_at_again(odd_files, bucket):
    """A proxy's page instead of a photo must not count as what the photo is, for good."""
    bucket.upload(odd_files, "photos/odd")
    remote, path = folder(f"{bucket.url}/photos"), "odd/image.png"
    listing = Listing()
    listing.add([Listed(path, access.of(remote).stamp(path))])
    access.remember(remote, {"odd": listing})
    assert photos.read_photo(remote, path).stamp == listing.stamp(path)
    access.of(remote).write(path, b"<html>log in</html>")
    assert photos.read_photo(remote, path).stamp == NO_STAMP


def test_a_film_is_not_read_to_its_end(odd_files, bucket):
    remote = folder(bucket.upload(odd_files, "photos"))
    assert len(photos.read_photo(remote, "film.mov").data) == 2**20
    assert len(photos.read_photo(remote, "large without an ending").data) > 2**20


def test_photos_are_fetched_ahead_of_those_who_decode_them_and_no_further_than_allowed(bucket, monkeypatch):
    monkeypatch.setattr(photos, "_BATCH", 5)
    names = [f"{number:03}" for number in range(60)]
    for name in names:
        bucket.put(f"photos/{name}", name.encode())
    remote = folder(f"{bucket.url}/photos")
    asked = []

    def jobs():
        for name in names:
            asked.append(name)
            yield name, name

    ahead = photos.read_ahead(remote, jobs())
    first, read = next(ahead)
    assert read().data == first.encode()
    at_most = 5 * (2 * photos._BATCHES + 2) + 1  # waiting, in the hands of threads, and begun
    assert 5 <= len(asked) <= at_most < len(names)
    assert [first, *(name for name, _ in ahead)] == names
    assert access.stamp_of(remote, "000").size == 3


def test_the_server_is_asked_once_what_no_listing_says_of_a_photo(bucket):
    for name in ("a.jpg", "b.jpg"):
        bucket.put(f"photos/{name}", name.encode())
    list(photos.read_ahead(folder(f"{bucket.url}/photos"), [("a", "a.jpg"), ("b", "b.jpg")]))
    heads = [line for line in bucket.server.requests() if line.startswith(f"HEAD /{bucket.name}/photos/")]
    assert sorted(heads) == [f"HEAD /{bucket.name}/photos/{name}" for name in ("a.jpg", "b.jpg")]
