"""A way to the relay that can be led elsewhere: connections that were made before live on, as behind a balancer."""

import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

Place = tuple[str, int]


class Forwarder(socketserver.ThreadingTCPServer):
    """A listener on loopback that leads each new connection on to `target`, and ends it where that is None."""

    daemon_threads = True

    def __init__(self, target: Callable[[], Place | None]) -> None:
        """Take a free port; `target` is asked anew for every connection."""
        self.target = target
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)

    @property
    def address(self) -> str:
        """host:port, as an agent dials it."""
        return f"{self.server_address[0]}:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def finish_request(self, request: Any, client_address: Any) -> None:
        place = self.target()
        if place is None:
            return
        with suppress(OSError), socket.create_connection(place) as onward:
            back = threading.Thread(target=_carry, args=(onward, request), daemon=True)
            back.start()
            _carry(request, onward)
            back.join()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(2**16):
            sink.sendall(content)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
