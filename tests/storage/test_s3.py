"""Folders on a real S3 server, and what is said where it cannot be used."""

import os
import pickle
import sys
import threading

import pytest
from servers import PAGE, busy_server, forget_connections

from retrain.errors import StorageError
from retrain.storage import access
from retrain.storage.faults import Backoff
from retrain.storage.folders import folder
from retrain.storage.remote import RemoteStorage

QUICK = Backoff(first=0.001, longest=0.001)


@pytest.fixture
def photos(bucket):
    for key in ("roses/a.jpg", "roses/deep/b.jpg", "tulips/[c]*?.jpg", "loose.jpg"):
        bucket.put(f"photos/{key}", key.encode())
    bucket.put("photos/empty/", b"")
    bucket.put("photos2/other.jpg", b"of another folder")
    return access.of(folder(f"{bucket.url}/photos"))


@pytest.fixture
def server(photos, s3_server, monkeypatch):
    """A server in front of that of the photos, which this process asks from now on; it may be told to be busy."""
    with busy_server(s3_server.endpoint) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        forget_connections()
        yield server


def test_lists_and_reads_what_is_there(photos):
    listed = {file.path: file.stamp for page in photos.pages() for file in page}
    assert list(listed) == ["loose.jpg", "roses/a.jpg", "roses/deep/b.jpg", "tulips/[c]*?.jpg"]
    assert all(photos.stamp(path) == stamp for path, stamp in listed.items())
    assert photos.folders() == ["empty", "roses", "tulips"]
    assert [file.path for file in photos.entries().files] == ["loose.jpg"]
    assert [file.path for file in photos.entries("roses").files] == ["roses/a.jpg"]
    assert photos.read("tulips/[c]*?.jpg") == b"tulips/[c]*?.jpg"
    assert photos.head("roses/a.jpg", 3) == b"ros"
    with pytest.raises(OSError, match="at most 5"):
        photos.read("roses/a.jpg", limit=5)


def test_a_key_with_two_slashes_makes_no_folder_of_another_name(bucket):
    for key in ("photos//a.jpg", "photos/roses/b.jpg"):
        bucket.put(key, b"")
    assert access.of(folder(f"{bucket.url}/photos")).folders() == ["roses"]


def test_many_are_read_together_and_one_that_is_missing_costs_itself(photos):
    contents = photos.read_many(["roses/a.jpg", "missing", "tulips/[c]*?.jpg"])
    assert contents[::2] == [b"roses/a.jpg", b"tulips/[c]*?.jpg"]
    assert isinstance(contents[1], FileNotFoundError)


def test_a_listing_of_several_pages_comes_sorted(bucket):
    for number in range(PAGE + 3):
        bucket.put(f"many/{number:04}", b"")
    pages = list(access.of(folder(f"{bucket.url}/many")).pages())
    assert [len(page) for page in pages] == [PAGE, 3]
    assert [file.path for page in pages for file in page] == [f"{number:04}" for number in range(PAGE + 3)]


def test_a_changed_file_has_another_stamp(photos, bucket):
    before = photos.stamp("roses/a.jpg")
    bucket.put("photos/roses/a.jpg", b"ROSES/a.jpg")
    assert photos.stamp("roses/a.jpg") != before


def test_of_many_who_create_a_file_one_wins(bucket):
    storage, won = access.of(folder(bucket.url)), []

    def create(number: int) -> None:
        if storage.create("commits/1", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read("commits/1") == b"%d" % won[0]
    storage.remove("commits/1")
    storage.remove("commits/1")
    assert storage.create("commits/1", b"again")


def test_another_process_opens_the_folder_for_itself(photos):
    copy = pickle.loads(pickle.dumps(photos.folder))
    assert copy == photos.folder
    if hasattr(os, "fork"):
        read, write = os.pipe()
        photos.read("loose.jpg")  # its connection is of no use in the child
        child = os.fork()
        if not child:
            os.write(write, access.of(copy).read("loose.jpg"))
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 100) == b"loose.jpg"


@pytest.mark.parametrize("hangs_up", [False, True], ids=["busy", "hangs up"])
def test_a_busy_server_is_asked_again_after_growing_pauses(photos, server, hangs_up):
    pauses: list[float] = []
    storage = RemoteStorage(photos.folder, Backoff(first=0.2, sleep=pauses.append))
    server.busy, server.hangs_up = 6, hangs_up
    assert storage.read("loose.jpg") == b"loose.jpg"
    # No other layer tries a busy server again; a connection that was kept open is made again once, at once.
    assert server.turned_away == 6
    assert len(pauses) == 6 if not hangs_up else 3 <= len(pauses) <= 6
    assert all(0 <= pause <= 0.2 * 2**number for number, pause in enumerate(pauses))
    server.busy = 3
    assert storage.read_many(["loose.jpg", "roses/a.jpg"]) == [b"loose.jpg", b"roses/a.jpg"]
    server.busy = 2
    assert sum(map(len, storage.pages())) == 4
    server.busy = 10**6
    with pytest.raises(StorageError, match="lost"):
        storage.read("loose.jpg")


def test_a_creation_whose_answer_was_lost_is_known_to_be_ours(photos, server):
    storage = RemoteStorage(photos.folder, QUICK)
    server.busy, server.loses_answers = 1, True
    assert storage.create("commit", b"mine")
    server.busy = 1
    assert not storage.create("commit", b"yours")
    assert storage.read("commit") == b"mine"


def test_an_answer_that_breaks_off_is_asked_for_again(photos, server):
    storage = RemoteStorage(photos.folder, QUICK)
    server.breaks_off, server.busy = True, 3
    assert storage.read("loose.jpg") == b"loose.jpg"
    server.busy = 3
    assert storage.read_many(["loose.jpg", "roses/a.jpg"]) == [b"loose.jpg", b"roses/a.jpg"]


def test_what_is_missing_is_said_at_once(photos, bucket):
    before = len(bucket.server.requests())
    with pytest.raises(FileNotFoundError):
        photos.read("missing")
    assert len(bucket.server.requests()) <= before + 2
    with pytest.raises(FileNotFoundError):
        access.of(folder("s3://no-such-bucket/photos")).entries()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no valid credentials"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "does not answer"),
        ({"AWS_ENDPOINT_URL": "http://no-such-host.invalid"}, "does not answer"),
        ({"AWS_ENDPOINT_URL": "hunter2"}, "AWS_ENDPOINT_URL"),
        ({"AWS_PROFILE": "hunter2"}, "no valid credentials"),
    ],
)
def test_a_wrong_configuration_is_said_in_one_line(photos, monkeypatch, environment, said):
    for name, value in environment.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    forget_connections()
    with pytest.raises(StorageError) as failed:
        RemoteStorage(photos.folder, QUICK).entries()
    assert said in str(failed.value)
    assert "\n" not in str(failed.value)
    assert "hunter2" not in str(failed.value)
    assert str(failed.value).startswith(str(photos.folder))


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ((403, "AccessDenied"), PermissionError, "Permission denied"),
        ((400, "ExpiredToken"), StorageError, "no valid credentials"),
        ((403, "SignatureDoesNotMatch"), StorageError, "no valid credentials"),
        ((400, "AuthorizationHeaderMalformed"), StorageError, "refuses it (AuthorizationHeaderMalformed)"),
    ],
)
def test_a_refusal_is_said_at_once_and_without_the_words_of_the_server(photos, server, answer, kind, said):
    server.busy, (server.status, server.code) = 1, answer
    with pytest.raises(kind) as refused:
        RemoteStorage(photos.folder, QUICK).read("loose.jpg")
    assert server.turned_away == 1
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("scheme", "package", "extra"),
    [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs"), ("abfs", "adlfs", "azure"), ("sftp", "sshfs", "sftp")],
)
def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch, scheme, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    forget_connections()
    with pytest.raises(StorageError) as missing:
        access.of(folder(f"{scheme}://somewhere/photos")).entries()
    assert str(missing.value) == f"{scheme}:// needs the extra [{extra}]: pip install 'retrain-images[{extra}]'"
    forget_connections()
