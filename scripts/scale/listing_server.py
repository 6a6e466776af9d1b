"""Serves a bucket of S3 with any number of photos in class folders, which no disk has to hold.

python -m scripts.scale.listing_server FOLDER COUNT CLASSES PORT: names are made up as they are asked for, contents are
those of the photos in FOLDER in turns, and what is written is kept in memory.
"""

import sys
from bisect import bisect_right
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

_PAGE = 1000
_TIME = "2026-01-01T00:00:00.000Z"


class Bucket:
    """Names and contents: those that are made up, and those that were written."""

    def __init__(self, photos: Path, count: int, classes: int) -> None:
        self._contents = [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))]
        self._classes, self._each = classes, count // classes
        self.written: dict[str, bytes] = {}

    def content(self, key: str) -> bytes | None:
        """Return the content of a key, None where there is none."""
        if key in self.written:
            return self.written[key]
        folder, _, name = key.partition("/")
        if not (folder.startswith("class") and name.endswith(".jpg")):
            return None
        return self._contents[int(name.removesuffix(".jpg")) % len(self._contents)]

    def page(self, prefix: str, after: str, delimiter: str) -> tuple[list[str], list[str]]:
        """Return the folders and the keys behind `after` that a prefix has, sorted, one more than a page at most."""
        if delimiter and not prefix:
            return [f"class{number:03d}/" for number in range(self._classes)], []
        folder = prefix.rstrip("/")
        if folder.startswith("class"):
            first = int(after.rpartition("/")[2].removesuffix(".jpg")) + 1 if after else 0
            last = min(first + _PAGE + 1, self._each)
            return [], [f"{folder}/{number:07d}.jpg" for number in range(first, last)]
        keys = sorted(key for key in self.written.copy() if key.startswith(prefix))
        return [], keys[bisect_right(keys, after) :][: _PAGE + 1]


class Handler(BaseHTTPRequestHandler):
    """Answers ListObjectsV2, GetObject, HeadObject, PutObject and DeleteObject with the bucket in the path."""

    protocol_version = "HTTP/1.1"
    bucket: ClassVar[Bucket]

    def do_GET(self) -> None:
        """Answer with a page of a listing, or with a content."""
        key, query = self._asked()
        if "list-type" in query:
            self._answer(200, self._listing(query))
        else:
            content = self.bucket.content(key)
            self._answer(404 if content is None else 200, content or b"")

    def do_HEAD(self) -> None:
        """Answer with the size of a content."""
        self.do_GET()

    def do_PUT(self) -> None:
        """Keep a content, unless there must be none and is one."""
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key, _ = self._asked()
        if self.headers.get("If-None-Match") and key in self.bucket.written:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            self.bucket.written[key] = data
            self._answer(200, b"")

    def do_DELETE(self) -> None:
        """Forget a content."""
        self.bucket.written.pop(self._asked()[0], None)
        self._answer(204, b"")

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        return key, {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}

    def _listing(self, query: dict[str, str]) -> bytes:
        after = query.get("continuation-token", "")
        folders, keys = self.bucket.page(query.get("prefix", ""), after, query.get("delimiter", ""))
        more, keys = len(keys) > _PAGE, keys[:_PAGE]
        token = f"<NextContinuationToken>{keys[-1]}</NextContinuationToken>" if more else ""
        rows = [
            f"<Contents><Key>{key}</Key><LastModified>{_TIME}</LastModified><ETag>&quot;{key}&quot;</ETag>"
            f"<Size>{len(self.bucket.content(key) or b'')}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in keys
        ]
        rows += [f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in folders]
        text = (
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>photos</Name><IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(rows)}"
            "</ListBucketResult>"
        )
        return text.encode()

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/xml")
        self.send_header("ETag", '"scale"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing."""


def main(photos: str, count: str, classes: str, port: str) -> None:
    """Serve until the process ends."""
    Handler.bucket = Bucket(Path(photos), int(count), int(classes))
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
