"""What words name, on a real S3 server."""

import pytest
from label_parts import joined, labelled, parts_in, printed, shared_of
from servers import PAGE

from retrain.data.image_files import expand_paths
from retrain.errors import StorageError, UsageError
from retrain.inference.lines import JSON
from retrain.inference.parts.photos import photos_of
from retrain.inference.parts.reading import read_ahead
from retrain.storage import access
from retrain.storage.folders import folder


def test_photos_of_a_remote_folder_come_while_it_is_being_listed(bucket):
    for number in range(3 * PAGE):
        bucket.put(f"photos/{number:02}.jpg", b"")
        bucket.put(f"photos/{number:02}.txt", b"no image")
    bucket.put("photos/.hidden.jpg", b"")
    listings = lambda: sum(line.startswith(f"LIST /{bucket.name}") for line in bucket.server.requests())  # noqa: E731
    found = photos_of([f"{bucket.url}/photos"])
    first, before = next(found), listings()
    rest = list(found)
    assert listings() >= before + 5
    assert [each.path.name for each in (first, *rest)] == [f"{number:02}.jpg" for number in range(3 * PAGE)]
    assert all(each.stamp == access.of(each.path.parent).stamp(each.path.name) for each in (first, *rest))
    assert expand_paths([f"{bucket.url}/photos"]) == [each.path for each in (first, *rest)]


def test_a_remote_file_is_itself_and_one_that_is_missing_is_named(bucket):
    bucket.put("a/photo.bin", b"no image")
    bucket.put("a/notes/x.txt", b"no image")
    file, missing = folder(f"{bucket.url}/a/photo.bin"), folder(f"{bucket.url}/a/missing.jpg")
    assert [each.path for each in photos_of([str(file), str(missing)])] == [file, missing]
    with pytest.raises(UsageError, match="no image files in"):
        list(photos_of([f"{bucket.url}/a/notes"]))


def test_a_list_of_remote_photos_is_known_by_their_stamps(model, photos, bucket, tmp_path):
    url = bucket.upload(photos, "photos")
    paths = [each.path for each in photos_of([url, "photos/b"])] + [folder(f"{url}/gone.jpg")]
    shared = shared_of(model, tmp_path / "out", form=JSON)
    summary = labelled(shared, [], listed=paths)
    lines = joined(tmp_path / "out", JSON)
    assert lines.startswith(printed(model, [url, "photos/b"], JSON))
    assert "No such file" in lines.splitlines()[-1]
    assert (summary.photos, summary.unreadable) == (len(paths), 2)
    before = parts_in(tmp_path / "out")
    bucket.put("photos/b/00.png", (photos / "b" / "01.png").read_bytes())
    again = labelled(shared, [], listed=paths)
    assert (again.here, again.parts) == (len(before) - 1, len(before))


def test_a_photo_that_is_not_as_long_as_it_was_listed_ends_the_part(bucket, tmp_path):
    for name in ("1.jpg", "2.jpg"):
        bucket.put(f"photos/{name}", b"as listed")
    listed = list(photos_of([f"{bucket.url}/photos"]))
    assert [read() for _, read in read_ahead(listed, tmp_path)] == [b"as listed"] * 2
    bucket.put("photos/2.jpg", b"<html>log in</html>")
    with pytest.raises(StorageError, match=r"2.jpg: 19 bytes came of 9\. .*Run again"):
        list(read_ahead(listed, tmp_path))
