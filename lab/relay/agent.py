"""An agent's stand-in: connects to the relay as its Deployment's arguments say, with the Secrets they name.

Without a client certificate it asks the relay for one, by its token, and keeps it as a Secret, as the vendor's does.
It is connected while its Deployment is ready, and connects anew when that, its Secrets or the relay have changed.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from lab.relay import api, authority, pod, tls
from lab.relay.api import Api
from lab.relay.pod import Pod
from lab.relay.protocol import CLUSTER, ENROL, PULL, PUSH, packed, path, unpacked

NAME = "enterprise-agent"
PATIENCE_SECONDS = 5
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 2
SOCKET = "agent.sock"


@dataclass(frozen=True)
class Wanted:
    """All that a connection is made with."""

    pod: Pod
    root: str
    token: str
    client: tls.Pair | None

    @property
    def cluster(self) -> str:
        """The name under which the cluster is registered."""
        return self.pod.arguments.get("--cluster", "")

    @property
    def address(self) -> str:
        """Where the relay is, as host:port."""
        return self.pod.arguments.get("--relay-address", "")

    @property
    def authority(self) -> str:
        """The name that the relay's certificate must have."""
        return self.pod.arguments.get("--relay-authority", "")


async def run(cluster: Api) -> None:
    """Be connected for ever, whenever there is something to connect with."""
    agent = Agent(cluster)
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for watched in (agent.deployments, agent.secrets):
            group.create_task(watched.follow(changed.set))
        while True:
            changed.clear()
            wanted = agent.wanted()
            if not wanted:
                await changed.wait()
                continue
            session = asyncio.create_task(agent.connect(wanted))
            while not session.done() and agent.wanted() == wanted:
                changed.clear()
                waiting = asyncio.create_task(changed.wait())
                await asyncio.wait({session, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
            pause = await agent.ended(session)
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), pause)


class Agent:
    """One connection after the other."""

    def __init__(self, cluster: Api) -> None:
        """Not connected yet."""
        self.deployments, self.secrets = api.deployments(cluster, NAME), api.secrets(cluster)
        self._cluster = cluster
        self._memory: tuple[Pod, tls.Pair] | None = None
        """The pod that had a client certificate, and that."""
        self._pause = PAUSE_SECONDS
        self._said = ""

    def wanted(self) -> Wanted | None:
        """What to connect with now; nothing while there is no pod, or it lacks what it must have."""
        running = pod.of(self.deployments)
        if not running:
            self._memory = None
            return None
        held = running.secret(self.secrets, "relay-client-cert-secret")
        if {"tls.crt", "tls.key"} <= held.keys():
            self._memory = running, (held["tls.crt"], held["tls.key"])
        # A pod keeps its certificate in memory: it asks for one no second time where the Secret was deleted.
        client = self._memory[1] if self._memory and self._memory[0] == running else None
        root = running.secret(self.secrets, "relay-root-cert-secret").get("ca.crt") or held.get("ca.crt")
        token = running.token(self.secrets)
        if not root or not (client or token):
            return None
        return Wanted(running, root, token, client)

    async def connect(self, wanted: Wanted) -> None:
        """Ask for a certificate where there is none, and end; else hold the streams until they end."""
        async with conversation(wanted) as channel:
            if not wanted.client:
                certificate = await enrol(channel, wanted)
                await self._keep(wanted, certificate)
                return
            await hold(channel, wanted.cluster, lambda: self._admitted(wanted))

    async def ended(self, session: asyncio.Task[None]) -> float:
        """End a session that may have ended already; how long to wait before the next."""
        session.cancel()
        try:
            await session
        except asyncio.CancelledError:
            self._say("disconnected, because the Deployment or a Secret has changed")
        except (tls.RefusedError, OSError, ValueError) as error:
            # ValueError: an address or a cluster's name that is none.
            self._say(f"not connected: {str(error) or 'nothing answers'}")
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            return self._pause
        return 0

    async def _keep(self, wanted: Wanted, pair: tls.Pair) -> None:
        namespace = wanted.pod.arguments.get("--relay-client-cert-secret-namespace") or wanted.pod.namespace
        content = {"tls.crt": pair[0], "tls.key": pair[1], "ca.crt": wanted.root}
        made = await self._cluster.create(
            f"/api/v1/namespaces/{namespace}/secrets",
            {
                "metadata": {"name": wanted.pod.arguments.get("--relay-client-cert-secret-name", "")},
                "data": {key: base64.b64encode(value.encode()).decode() for key, value in content.items()},
            },
        )
        self.secrets.keep(made)
        self._say("has a client certificate from the relay")

    def _admitted(self, wanted: Wanted) -> None:
        self._pause = PAUSE_SECONDS
        self._say(f"{wanted.cluster} is connected to {wanted.address}")

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            print(sentence)
        self._said = sentence


@asynccontextmanager
async def conversation(wanted: Wanted) -> AsyncIterator[Any]:
    """A gRPC channel over one verified TLS connection; RefusedError or OSError where it can't be had or ends."""
    context = tls.client(wanted.root, wanted.client)
    host, _, port = wanted.address.rpartition(":")
    async with asyncio.timeout(PATIENCE_SECONDS):
        outer = await asyncio.open_connection(
            host.strip("[]"), int(port), ssl=context, server_hostname=wanted.authority
        )
    settings = b""
    carried: list[asyncio.Task[None]] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if carried:
            # gRPC would connect again and again by itself.
            writer.transport.abort()
            return
        writer.write(settings)
        carried.append(asyncio.create_task(tls.splice(outer, (reader, writer))))

    try:
        tls.named(outer[1].get_extra_info("ssl_object"), wanted.authority)
        # To an agent the handshake is done before the relay has seen its certificate; a relay that takes it speaks
        # first, and one that doesn't could not be heard any more after anything was sent.
        async with asyncio.timeout(PATIENCE_SECONDS):
            settings = await outer[0].read(2**16)
        async with (
            await asyncio.start_unix_server(carry, SOCKET),
            # Else a socket that refused once would be avoided for a while, under the same name.
            grpc.aio.insecure_channel(f"unix:{SOCKET}", [("grpc.use_local_subchannel_pool", 1)]) as channel,
        ):
            try:
                yield channel
            except grpc.aio.AioRpcError as error:
                # What ended the connection says more than that gRPC noticed.
                for task in (task for task in carried if task.done() and task.exception()):
                    raise task.exception() or error from None
                raise tls.RefusedError(f"{error.code().name}: {error.details()}") from None
    finally:
        for task in carried:
            task.cancel()
        outer[1].transport.abort()


async def enrol(channel: Any, wanted: Wanted) -> tls.Pair:
    """A client certificate from the relay, and its key."""
    asked, key = authority.request(wanted.cluster)
    method = channel.unary_unary(path(ENROL))
    answer = await method(packed({"token": wanted.token, "request": asked}), timeout=PATIENCE_SECONDS)
    return unpacked(answer).get("certificate", ""), key


async def hold(channel: Any, cluster: str, admitted: Callable[[], None]) -> None:
    """Keep both streams open, until the relay ends one; told once it has admitted both."""
    calls = [channel.stream_stream(path(method))(metadata=((CLUSTER, cluster),)) for method in (PUSH, PULL)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        for call in calls:
            await call.read()
    admitted()
    reading = [asyncio.create_task(call.read()) for call in calls]
    try:
        done, _ = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
        for ended in done:
            ended.result()
        raise tls.RefusedError("the relay has ended a stream")
    finally:
        for read in reading:
            read.cancel()
