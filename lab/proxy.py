"""A reverse proxy in front of a lab's API servers: it counts what is written, and acts around one write.

Owns the way between clients and API servers: TLS on both sides, on loopback alone, streaming, HTTP/1.1. It serves
with the API server's own certificate, demands the deployer's and shows that to the API server, so its kubeconfig
differs in the addresses alone and audit logs name the deployer. What is done around a write, and to whom, is the
caller's. Connections can't be upgraded, so a port-forward doesn't pass.
"""

import contextlib
import http.client
import select
import socket
import ssl
import struct
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import yaml

from lab import kubeconfig
from lab.fleet import Lab

Moment = Literal["before", "after"]
"""Before a request is passed on, or after the API server has done it and before the reply is passed back."""
READING = {"GET", "HEAD", "OPTIONS"}
REVIEWS = ("/apis/authentication.k8s.io/", "/apis/authorization.k8s.io/")
# RFC 9110, section 7.6.1: they speak of one connection only.
OF_A_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "proxy-connection"}
CHUNK = 65536


@dataclass(frozen=True)
class Write:
    """A request that changes something: no dry run and no review."""

    number: int
    """Of all clusters together, from 1."""
    cluster: str
    method: str
    path: str
    port: int
    """The sender's, which tells its process."""


Action = Callable[[Write], None]
"""Raises ConnectionAbortedError where the request, or its reply, is to go no further."""


class Proxy:
    """In front of every cluster of a lab, as a context."""

    def __init__(self, lab: Lab) -> None:
        self.kubeconfig = lab.root / "proxied"
        """Leads through here; otherwise the lab's own."""
        self.writes: list[Write] = []
        """Since the counting began."""
        self.delays: dict[str, float] = {}
        """By cluster, the seconds that each of its requests waits."""
        self.flapping: set[str] = set()
        """Clusters that refuse every other connection."""
        self._lock = threading.Lock()
        self._planned: tuple[Moment, Callable[[Write], bool], Action] | None = None
        self._under_way = 0
        self._last = time.monotonic()
        self._servers = [_Server(self, lab.root / "kwok/clusters" / name) for name in lab.clusters()]
        document: Any = yaml.safe_load(lab.kubeconfig.read_text())
        addresses = {server.cluster: f"https://127.0.0.1:{server.server_port}" for server in self._servers}
        for entry in document["clusters"]:
            entry["cluster"]["server"] = addresses[entry["name"]]
        kubeconfig.write_private(self.kubeconfig, yaml.safe_dump(document, sort_keys=False).encode())

    def __enter__(self) -> "Proxy":
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def count(
        self, moment: Moment = "before", which: Callable[[Write], bool] | None = None, action: Action | None = None
    ) -> None:
        """Count from 1 again, and act once: around the first write that is the one."""
        with self._lock:
            self.writes.clear()
            self._planned = (moment, which, action) if which and action else None

    def idle(self) -> float:
        """For how many seconds nothing has been under way, watches aside."""
        with self._lock:
            return 0 if self._under_way else time.monotonic() - self._last

    def noted(self, cluster: str, method: str, path: str, port: int) -> Write | None:
        """A request's number; None for what writes nothing."""
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
        if method in READING or "dryRun" in query or path.startswith(REVIEWS):
            return None
        with self._lock:
            write = Write(len(self.writes) + 1, cluster, method, path, port)
            self.writes.append(write)
        return write

    def act(self, write: Write, moment: Moment) -> None:
        """Do what was planned for this write and moment."""
        with self._lock:
            if self._planned is None or self._planned[0] != moment or not self._planned[1](write):
                return
            action = self._planned[2]
            self._planned = None
        action(write)

    @contextlib.contextmanager
    def under_way(self, path: str) -> Iterator[None]:
        """While a request is answered; a watch has no end of its own."""
        counts = "watch=" not in path
        with self._lock:
            self._under_way += counts
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= counts
                self._last = time.monotonic()


class _Server(ThreadingHTTPServer):
    """In front of one cluster."""

    request_queue_size = 128

    def __init__(self, proxy: Proxy, folder: Path) -> None:
        self.proxy = proxy
        self.cluster = folder.name
        self._flaps = 0
        address = urllib.parse.urlsplit(kubeconfig.server(folder))
        self._address = str(address.hostname), int(address.port or 443)
        pki = folder / "pki"
        self._own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._own.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._own.load_verify_locations(pki / "ca.crt")
        self._own.verify_mode = ssl.CERT_REQUIRED
        self._own.set_alpn_protocols(["http/1.1"])
        self._theirs = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._theirs.load_cert_chain(folder / kubeconfig.CERTIFICATE, folder / kubeconfig.KEY)
        super().__init__(("127.0.0.1", 0), _Handler)  # type: ignore[arg-type] - finish_request makes them

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end; where the API server takes none, or hangs, the client sees that at once."""
        self._flaps = self._flaps + 1 if self.cluster in self.proxy.flapping else 0
        # The first is let through, so that whoever looks whether the cluster answers sees that it does.
        if self._flaps and self._flaps % 2 == 0:
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        upstream = http.client.HTTPSConnection(*self._address, context=self._theirs)
        upstream.connect()
        with contextlib.closing(upstream), self._own.wrap_socket(request, server_side=True) as secured:
            _Handler(secured, client_address, self, upstream)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing to tell: a connection that breaks on one side is closed on the other."""


class _Handler(BaseHTTPRequestHandler):
    """One client's connection, and one of its own to the API server."""

    protocol_version = "HTTP/1.1"
    # Head and body are sent one after the other; without this each body would wait 40 ms for the head's delayed ACK.
    disable_nagle_algorithm = True
    server: _Server  # type: ignore[assignment]

    def __init__(
        self, request: Any, client_address: Any, server: _Server, upstream: http.client.HTTPSConnection
    ) -> None:
        self._upstream = upstream
        super().__init__(request, client_address, server)

    def log_message(self, format: str, *args: Any) -> None:
        """The API servers keep logs."""

    def pass_on(self) -> None:
        """Answer one request with what the API server says to it, as it says it."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.send_error(http.client.LENGTH_REQUIRED)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        proxy, cluster = self.server.proxy, self.server.cluster
        with proxy.under_way(self.path):
            time.sleep(proxy.delays.get(cluster, 0))
            write = proxy.noted(cluster, self.command, self.path, self.client_address[1])
            if write:
                proxy.act(write, "before")
            answer = self._asked(body)
            if write:
                proxy.act(write, "after")
            self._reply(answer)

    # The names are the protocol's methods, as the server looks them up.
    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815

    def _asked(self, body: bytes) -> http.client.HTTPResponse:
        # The API server closes a connection that was idle for long, and every one when it dies.
        if self._upstream.sock and select.select([self._upstream.sock], [], [], 0)[0]:
            self._upstream.close()
        self._upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in OF_A_CONNECTION:
                self._upstream.putheader(name, value)
        self._upstream.endheaders(body or None)
        return self._upstream.getresponse()

    def _reply(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in OF_A_CONNECTION:
                self.send_header(name, value)
        if not answer.chunked:
            self.end_headers()
            self.wfile.write(answer.read())
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while part := answer.read1(CHUNK):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")
