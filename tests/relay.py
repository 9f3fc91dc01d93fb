"""What answers TLS where a relay would: a listener on loopback, and certificates to answer with.

It completes handshakes and reads until the caller leaves; nothing of the relay's own protocol is spoken.
"""

import socketserver
import ssl
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.authority import root

PATIENCE_SECONDS = 10


class Relay(socketserver.ThreadingTCPServer):
    """A TLS listener. Its port is taken at once, and connections to it are refused until it is started."""

    daemon_threads = True

    def __init__(self, certificate: str, key: str, host: str = "127.0.0.1", port: int = 0) -> None:
        """Take `host`:`port` (0: any free one), to answer with this certificate (or chain) and key, both PEM."""
        self.asked_for: list[str | None] = []
        """The server name (SNI) of every handshake so far, None where none was sent."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.sni_callback = lambda _socket, name, _context: self.asked_for.append(name)
        # OpenSSL wants files; they are gone as soon as it has read them.
        with tempfile.TemporaryDirectory() as folder:
            certificate_file, key_file = Path(folder, "tls.crt"), Path(folder, "tls.key")
            certificate_file.write_text(certificate)
            key_file.write_text(key)
            self._context.load_cert_chain(certificate_file, key_file)
        self._thread: threading.Thread | None = None
        super().__init__((host, port), socketserver.BaseRequestHandler, bind_and_activate=False)
        self.server_bind()

    @property
    def address(self) -> str:
        """host:port, as an agent dials it."""
        return f"{self.server_address[0]}:{self.server_address[1]}"

    def start(self) -> Self:
        """Answer from now on."""
        self.server_activate()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def finish_request(self, request: Any, client_address: Any) -> None:
        """One caller: a handshake, then silence until it leaves."""
        request.settimeout(PATIENCE_SECONDS)
        # A caller that trusts another root, or only knocks, ends the connection; that is its answer.
        with suppress(OSError), self._context.wrap_socket(request, server_side=True) as secured:
            while secured.recv(1024):
                pass

    def server_close(self) -> None:
        """Stop answering and give the port back."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
        super().server_close()


def self_signed(*names: str) -> tuple[str, str]:
    """A certificate for these DNS names which is its own root, and its key, both PEM."""
    made = root(names[0], names=names, ca=False)
    return made.pem, made.key_pem
