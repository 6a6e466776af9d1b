"""Fetches a file into a folder: resumed where it was cut, checked, and only then given its name."""

import http.client
import os
import tarfile
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

from retrain.backbones.catalogue import DEFAULT
from retrain.errors import DownloadError
from retrain.files import check_regular, open_regular, sha256_of

ATTEMPTS = 3
TIMEOUT_SECONDS = 30
_CHUNK = 1 << 20


def fetch(
    url: str,
    folder: Path,
    *,
    sha256: str | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
    instead: str = f"use --architecture {DEFAULT}, which needs no download",
) -> Path:
    """Return the path of the file behind `url` in `folder`, downloaded unless it is already there.

    The data goes to `<name>.part`. A cut connection is resumed there, now or by a later run, and only a file
    of the announced length, the right hash and an intact archive is renamed to `<name>`.

    Args:
        url: http or https address of a file; .tgz and .tar.gz are read through once to prove them whole.
        folder: Where the file belongs; made if needed.
        sha256: Hexadecimal digest that the file must have, where it is known.
        advance: Called with the bytes so far and the bytes in all.
        instead: What an error offers to do without the file.

    Raises:
        DownloadError: Names the URL, the folder to put the file into by hand, and what to do `instead`.
    """
    target = folder / url.rsplit("/", 1)[1]
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        problem = _download(url, target, sha256, advance)
    except urllib.error.HTTPError as error:
        problem = f"the server answers {error.code} {error.reason}"
    except urllib.error.URLError as error:
        problem = f"no connection ({error.reason})"
    except OSError as error:
        problem = f"{error.strerror or error}"
    if problem:
        raise DownloadError(f"cannot download {url}: {problem}. Put the file into {folder} yourself, or {instead}.")
    return target


def _download(url: str, target: Path, sha256: str | None, advance: Callable[[int, int], None]) -> str:
    """Download a file in some attempts; return why there is none that is whole, or an empty string."""
    part = target.with_name(target.name + ".part")
    problem = "the connection was cut"
    for _ in range(ATTEMPTS):
        resumed = part.exists() and part.stat().st_size > 0
        try:
            whole = _receive(url, part, advance)
        except (http.client.IncompleteRead, ConnectionError, TimeoutError) as error:
            problem = f"the connection was cut ({type(error).__name__})"
            continue
        if not whole:
            continue
        problem = _defect(part, target.name, sha256)
        if not problem:
            part.replace(target)
            return ""
        part.unlink()
        if not resumed:  # a fresh download with this defect would have it again
            break
    return problem


def _receive(url: str, part: Path, advance: Callable[[int, int], None]) -> bool:
    """Append what is missing to `part`; return whether it then has the announced length."""
    have = 0
    if part.exists():
        check_regular(part.stat(), part)  # a pipe would wait for a reader
        have = part.stat().st_size
    request = urllib.request.Request(url, headers={"User-Agent": "retrain"})  # the URLs are ours
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        return True  # nothing is missing: the last run was killed between the last byte and the renaming
    with response, part.open("ab" if response.status == http.HTTPStatus.PARTIAL_CONTENT else "wb") as file:
        done = file.tell()
        length = int(response.headers.get("Content-Length") or 0)
        total = done + length
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            advance(done, max(total, done) if length else 0)
        file.flush()
        os.fsync(file.fileno())
    return done >= total


def _defect(path: Path, name: str, sha256: str | None) -> str:
    """Return what is wrong with a complete download, or an empty string."""
    if sha256 is not None and (actual := sha256_of(path)) != sha256:
        return f"wrong SHA-256 {actual} (expected {sha256})"
    if name.endswith((".tgz", ".tar.gz")):
        try:
            with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:gz") as archive:
                for _ in archive:
                    pass
        except (tarfile.TarError, EOFError, OSError, zlib.error):
            return "the download is no intact .tar.gz archive"
    return ""
