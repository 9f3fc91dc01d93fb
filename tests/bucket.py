"""A bucket in S3's protocol, as far as Pulumi's CLI speaks it: objects in memory, on loopback, open to everybody."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

NAME = "states"


class Bucket:
    """The objects, by key, and where the CLI finds them."""

    def __init__(self, port: int) -> None:
        self.objects: dict[str, bytes] = {}
        self.environment = {
            "PULUMI_BACKEND_URL": f"s3://{NAME}?endpoint=127.0.0.1:{port}&disableSSL=true&s3ForcePathStyle=true",
            "AWS_ACCESS_KEY_ID": "anybody",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_REGION": "nowhere-1",
        }


@contextmanager
def serving() -> Iterator[Bucket]:
    """One that is empty, until the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Requests)
    server.bucket = bucket = Bucket(server.server_port)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "list-type" in self._query:
            self._answer(200, self._listed().encode(), "application/xml")
        elif (content := self._objects.get(self._key)) is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")
        else:
            self._answer(200, content)

    do_HEAD = do_GET  # noqa: N815

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if source := self.headers.get("x-amz-copy-source"):
            self._objects[self._key] = self._objects[unquote(source).lstrip("/").partition("/")[2]]
            self._answer(200, b"<CopyObjectResult><ETag>copied</ETag></CopyObjectResult>", "application/xml")
            return
        chunked = "aws-chunked" in self.headers.get("Content-Encoding", "")
        self._objects[self._key] = b"".join(_chunks(body)) if chunked else body
        self._answer(200, b"")

    def do_DELETE(self) -> None:
        self._objects.pop(self._key, None)
        self._answer(204, b"")

    def log_message(self, format: str, *args: Any) -> None:
        pass

    @property
    def _objects(self) -> dict[str, bytes]:
        server: Any = self.server
        return server.bucket.objects

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    @property
    def _query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)

    def _listed(self) -> str:
        asked = {name: values[0] for name, values in self._query.items()}
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
        keys = sorted(key for key in list(self._objects) if key.startswith(prefix))
        below = {
            key: prefix + key.removeprefix(prefix).partition(delimiter)[0] + delimiter
            for key in keys
            if delimiter and delimiter in key.removeprefix(prefix)
        }
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self._objects[key])}</Size>"
            f"<LastModified>2026-11-26T10:00:00.000Z</LastModified><ETag>{_tag(self._objects[key])}</ETag></Contents>"
            for key in keys
            if key not in below
        )
        found += "".join(
            f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            for folder in sorted(set(below.values()))
        )
        return f"<ListBucketResult><Name>{NAME}</Name><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"

    def _answer(self, status: int, content: bytes, kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Length", str(len(content))),
            ("Content-Type", kind),
            ("ETag", _tag(content)),
            ("Last-Modified", formatdate(usegmt=True)),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _chunks(body: bytes) -> Iterator[bytes]:
    """What is in a body of AWS' own chunks."""
    while size := re.match(rb"([0-9a-f]+)[^\r]*\r\n", body):
        length = int(size[1], 16)
        yield body[size.end() : size.end() + length]
        if not length:
            return
        body = body[size.end() + length + 2 :]
