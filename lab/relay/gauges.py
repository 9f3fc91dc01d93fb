"""The relay's gauges, by the vendor's names, and the port where they are told in Prometheus' text format."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lab.relay.protocol import PULL, PUSH

NAMES = {PULL: "relay_pull_clients_connected", PUSH: "relay_push_clients_connected"}


class Gauges:
    """How many streams of each kind each cluster has open."""

    def __init__(self) -> None:
        """No cluster has been heard of."""
        self._open: dict[str, Counter[str]]
        self.forget()

    def forget(self) -> None:
        """Have heard of no cluster, because the pod is gone; what is still open counts no longer."""
        self._open = {method: Counter() for method in NAMES}

    @contextmanager
    def connected(self, method: str, cluster: str) -> Iterator[None]:
        """A cluster's stream is open; afterwards it counts as nought, and is still known."""
        streams = self._open[method]
        streams[cluster] += 1
        try:
            yield
        finally:
            streams[cluster] -= 1

    def text(self) -> str:
        """All of them as Prometheus reads them."""
        lines: list[str] = []
        for method, name in NAMES.items():
            lines += [f"# HELP {name} Agents with a {method.lower()} stream, by cluster.", f"# TYPE {name} gauge"]
            lines += [f'{name}{{cluster="{cluster}"}} {count}' for cluster, count in sorted(self._open[method].items())]
        return "\n".join(lines) + "\n"

    async def tell(self, port: int) -> asyncio.Server:
        """Answer on this port of the loopback."""
        return await asyncio.start_server(self._answer, "127.0.0.1", port)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ValueError):
            asked = (await reader.readline()).split()
            while (await reader.readline()).strip():
                continue
            found = asked[1:2] == [b"/metrics"]
            content = self.text().encode() if found else b""
            writer.write(
                f"HTTP/1.1 {'200 OK' if found else '404 Not Found'}\r\nContent-Type: text/plain; version=0.0.4\r\n"
                f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode()
                + content
            )
            await writer.drain()
        writer.close()
