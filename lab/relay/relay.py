"""The relay itself: gRPC behind TLS listeners, who is let in, and which streams are open.

With what it serves, and where, is `serving.py`'s; when anew, `server.py`'s.
"""

import asyncio
import hmac
import ssl
from typing import Any

import grpc
import grpc.aio

from lab.relay import authority, tls
from lab.relay.gauges import Gauges
from lab.relay.protocol import CLUSTER, ENROL, PULL, PUSH, SERVICE, packed, unpacked
from lab.relay.serving import Place, Serving


class Relay:
    """gRPC in the clear on a port of its own, which only the TLS listeners of this process are let into."""

    def __init__(self, gauges: Gauges) -> None:
        """A relay that doesn't serve yet."""
        self._gauges = gauges
        self._serving: Serving | None = None
        self._context: ssl.SSLContext | None = None
        self._listening: dict[Place, asyncio.Server] = {}
        self._carrying: set[asyncio.Task[Any]] = set()
        self._callers: dict[str, bytes | None] = {}
        """The certificate each connection was made with, by the address gRPC sees it come from."""
        self._inside = grpc.aio.server()
        handlers = {
            ENROL: grpc.unary_unary_rpc_method_handler(self._enrol),
            PUSH: grpc.stream_stream_rpc_method_handler(self._push),
            PULL: grpc.stream_stream_rpc_method_handler(self._pull),
        }
        self._inside.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._port = self._inside.add_insecure_port("127.0.0.1:0")

    async def begin(self) -> None:
        """Be ready to serve."""
        await self._inside.start()

    async def change(self, wanted: Serving | None) -> bool:
        """Serve with this from now on, or not at all; whether it listens everywhere it should."""
        if wanted != self._serving:
            self._end()
            if not wanted:
                self._gauges.forget()
            self._serving = wanted
            try:
                self._context = tls.server(wanted.root, wanted.pair) if wanted else None
            except tls.RefusedError as error:
                print(f"serves nothing: {error}")
        for host, port in sorted(wanted.places if wanted and self._context else []):
            if (host, port) not in self._listening:
                try:
                    listener = await asyncio.start_server(self._carry, host, port, ssl=self._context)
                except OSError as error:
                    print(f"can't listen on {host}:{port}: {error.strerror}")
                else:
                    self._listening[host, port] = listener
                    print(f"serves at {host}:{port}")
        return not wanted or not self._context or self._listening.keys() == wanted.places

    def _end(self) -> None:
        if self._listening:
            print("serves no longer")
        for listener in self._listening.values():
            listener.close()
        self._listening.clear()
        for carried in self._carrying:
            carried.cancel()
        self._context = None

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, after its handshake, to gRPC and back."""
        task = asyncio.current_task()
        assert task
        self._carrying.add(task)
        try:
            inner = await asyncio.open_connection("127.0.0.1", self._port)
            host, port = inner[1].get_extra_info("sockname")
            caller = f"ipv4:{host}:{port}"
            self._callers[caller] = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            try:
                await tls.splice((reader, writer), inner)
            finally:
                del self._callers[caller]
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._carrying.discard(task)

    async def _enrol(self, message: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        serving, asked = self._serving, unpacked(message)
        if context.peer() not in self._callers or not serving:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the relay is reached by TLS alone")
        if not serving.signing:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this relay issues no certificates")
        token = str(asked.get("token", ""))
        if not serving.token or not hmac.compare_digest(token.encode(), serving.token.encode()):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the identity token isn't this relay's")
        try:
            return packed({"certificate": authority.issue(str(asked.get("request", "")), serving.signing)})
        except tls.RefusedError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def _push(self, messages: Any, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await self._stay(PUSH, messages, context)

    async def _pull(self, messages: Any, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await self._stay(PULL, messages, context)

    async def _stay(self, method: str, messages: Any, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        certificate = self._callers.get(context.peer())
        if not certificate:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a client certificate is needed")
        cluster = str(dict(context.invocation_metadata() or ()).get(CLUSTER, ""))
        names = authority.names(certificate)
        if names != [cluster]:
            known = ", ".join(names) or "no name"
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, f"the client certificate is for {known}, not for cluster {cluster}"
            )
        with self._gauges.connected(method, cluster):
            print(f"{cluster} has its {method} stream open")
            # By this the agent knows that it was admitted.
            await context.write(b"")
            async for _ in messages:
                continue
