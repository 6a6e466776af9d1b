"""Folders on real SFTP servers: asyncssh's, and OpenSSH's where it is installed."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from servers import forget_connections

from retrain.data.dataset import scan
from retrain.errors import StorageError
from retrain.storage import access, opening
from retrain.storage.faults import Backoff
from retrain.storage.folders import RemoteFolder, folder
from retrain.storage.remote import RemoteStorage

ASYNCSSH = """
import asyncio, sys, asyncssh
key, authorized, port = sys.argv[1:]
async def serve():
    await asyncssh.listen("127.0.0.1", int(port), server_host_keys=[key], authorized_client_keys=authorized,
                          sftp_factory=True)
    await asyncio.Event().wait()
asyncio.run(serve())
"""
SSHD = """
ListenAddress 127.0.0.1
Port {port}
HostKey {key}
AuthorizedKeysFile {authorized}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp internal-sftp
"""
_SECONDS = 60  # that a server may take to start on a loaded machine


@dataclass
class SftpServer:
    """A server, the home of a user whom it knows, and the line about it in `known_hosts`."""

    port: int
    home: Path
    known: str

    def url(self, path: Path) -> str:
        return f"sftp://{getpass.getuser()}@127.0.0.1:{self.port}{path}"


def words_of(kind, folder, port):
    key, authorized = folder / "host", folder / "home" / ".ssh" / "id_ed25519.pub"
    if kind == "asyncssh":
        return [sys.executable, "-c", ASYNCSSH, str(key), str(authorized), str(port)]
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("OpenSSH's server is not installed")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it goes without rights
    (folder / "config").write_text(SSHD.format(port=port, key=key, authorized=authorized))
    return [program, "-D", "-e", "-f", str(folder / "config")]


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


@pytest.fixture(scope="module", params=["asyncssh", "sshd"])
def server(request, tmp_path_factory):
    import asyncssh

    here = tmp_path_factory.mktemp(request.param)
    (here / "home" / ".ssh").mkdir(parents=True)
    for path in (here / "host", here / "home" / ".ssh" / "id_ed25519"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(path)
        path.chmod(0o600)
        key.write_public_key(f"{path}.pub")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (here / "log").open("w") as log:
        process = subprocess.Popen(words_of(request.param, here, port), stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + _SECONDS
        while not answers(port):
            assert process.poll() is None, (here / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield SftpServer(port, here / "home", f"[127.0.0.1]:{port} {(here / 'host.pub').read_text()}")
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def at_home(server, monkeypatch):
    """Let this process have the keys and the known hosts of the user."""
    (server.home / ".ssh" / "known_hosts").write_text(server.known)
    monkeypatch.setenv("HOME", str(server.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    forget_connections()
    yield server
    forget_connections()


def test_a_data_set_is_the_same_as_here(at_home, tmp_path):
    for name in ("a/1.jpg", "a/deep/2.jpg", "b/3 [x].jpg", "b/.hidden.jpg", "loose.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "photos" / "b" / "link.jpg").symlink_to(path)
    remote = folder(at_home.url(tmp_path / "photos"))
    local = scan(tmp_path / "photos")
    assert replace(scan(remote), image_dir=local.image_dir) == local
    storage = access.of(remote)
    for example in local.examples:
        assert storage.read(example.path) == (tmp_path / "photos" / example.path).read_bytes()
        assert access.stamp_of(remote, example.path) == storage.stamp(example.path)
    paths = [example.path for example in local.examples]
    contents = storage.read_many([*paths, "missing"])
    assert contents[:-1] == [(tmp_path / "photos" / path).read_bytes() for path in paths]
    assert isinstance(contents[-1], FileNotFoundError)
    assert storage.head("a/1.jpg", 3) == b"a/1"


def test_the_first_creation_wins_and_leaves_no_draft(at_home, tmp_path):
    storage = access.of(folder(at_home.url(tmp_path)))
    assert storage.create("commits/1", b"first")
    assert not storage.create("commits/1", b"second")
    assert storage.read("commits/1") == b"first"
    storage.write("commits/1", b"third")
    assert storage.read("commits/1") == b"third"
    assert [path.name for path in (tmp_path / "commits").iterdir()] == ["1"]
    storage.remove("commits/1")
    storage.remove("commits/1")


def no_pause(seconds):
    raise AssertionError("what no attempt changes is tried again")


def test_what_is_wrong_is_said_in_one_line(at_home, tmp_path):
    url, quick = at_home.url(tmp_path), Backoff(first=0.001, longest=0.001)
    with pytest.raises(FileNotFoundError):
        access.of(folder(f"{url}/missing")).entries()
    (at_home.home / ".ssh" / "known_hosts").write_text("")
    forget_connections()
    with pytest.raises(StorageError, match="known_hosts"):
        RemoteStorage(folder(url), replace(quick, sleep=no_pause)).entries()
    (at_home.home / ".ssh" / "known_hosts").write_text(at_home.known)
    (at_home.home / ".ssh" / "id_ed25519").rename(at_home.home / "key")
    forget_connections()
    try:
        with pytest.raises(StorageError, match="no valid credentials"):
            RemoteStorage(folder(url), replace(quick, sleep=no_pause)).entries()
    finally:
        (at_home.home / "key").rename(at_home.home / ".ssh" / "id_ed25519")
    with pytest.raises(StorageError, match="does not answer"):
        RemoteStorage(RemoteFolder("sftp://127.0.0.1:1", "x"), quick).entries()


def test_links_to_files_are_followed_and_links_to_folders_are_not(at_home, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"a photo")
    for link, target in (("a/2.jpg", tmp_path / "a" / "1.jpg"), ("b", tmp_path / "a"), ("gone.jpg", tmp_path / "no")):
        (tmp_path / link).symlink_to(target)
    storage = access.of(folder(at_home.url(tmp_path)))
    assert [file.path for page in storage.pages() for file in page] == ["a/1.jpg", "a/2.jpg"]
    assert storage.read("a/2.jpg") == b"a photo"


def test_a_connection_that_breaks_is_made_again(at_home, tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"a photo")
    from fsspec.asyn import sync

    pauses = []
    storage = RemoteStorage(folder(at_home.url(tmp_path)), Backoff(sleep=pauses.append))
    for use in (lambda: storage.read("1.jpg"), lambda: storage.read_many(["1.jpg"])[0]):
        assert use() == b"a photo"
        broken = opening.connection(storage.folder).system
        sync(broken.loop, hang_up, broken)
        assert use() == b"a photo"
        assert opening.connection(storage.folder).system is not broken
    assert len(pauses) == 2


async def hang_up(system):
    system._client.abort()
    await system._client.wait_closed()
