"""The relay's stand-in: serves where the Service of the relay's Deployment says, with the Secrets its arguments name.

It serves nothing while that Deployment isn't ready, and begins anew, dropping every agent, when anything it serves
with has changed, as a pod that was replaced would.
"""

import asyncio
import hmac
import ipaddress
import ssl
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from lab.relay import api, authority, pod, tls
from lab.relay.api import Api, Object, Watched
from lab.relay.gauges import Gauges
from lab.relay.protocol import CLUSTER, ENROL, PULL, PUSH, SERVICE, packed, unpacked

NAME = "enterprise-networking"
PORT_NAME = "grpc"
AGAIN_SECONDS = 1
Place = tuple[str, int]


@dataclass(frozen=True)
class Serving:
    """All that a relay serves with."""

    places: frozenset[Place]
    pair: tls.Pair
    root: str
    signing: tls.Pair | None
    """What client certificates are issued with; without it the relay issues none."""
    token: str
    template: str


async def serve(cluster: Api, metrics_port: int) -> None:
    """Serve for ever."""
    deployments, secrets = api.deployments(cluster, NAME), api.secrets(cluster)
    services = Watched(cluster, "/api/v1/services", f"metadata.name={NAME}")
    nodes = Watched(cluster, "/api/v1/nodes")
    gauges = Gauges()
    metrics = await gauges.tell(metrics_port)
    relay = Relay(gauges)
    await relay.begin()
    changed = asyncio.Event()
    async with metrics, asyncio.TaskGroup() as group:
        for watched in (deployments, secrets, services, nodes):
            group.create_task(watched.follow(changed.set))
        while True:
            changed.clear()
            complete = await relay.change(_serving(deployments, secrets, services, nodes))
            try:
                # A port that somebody else has is tried again.
                await asyncio.wait_for(changed.wait(), None if complete else AGAIN_SECONDS)
            except TimeoutError:
                continue


def _serving(deployments: Watched, secrets: Watched, services: Watched, nodes: Watched) -> Serving | None:
    running = pod.of(deployments)
    if not running:
        return None
    service = services.find(running.namespace, NAME)
    pair = running.secret(secrets, "relay-tls-secret")
    if not service or not {"tls.crt", "tls.key", "ca.crt"} <= pair.keys():
        return None
    signing = running.secret(secrets, "relay-signing-tls-secret")
    issues = running.arguments.get("--relay-disable-ca") != "true" and {"tls.crt", "tls.key"} <= signing.keys()
    return Serving(
        places=frozenset(_places(service, nodes.all())),
        pair=(pair["tls.crt"], pair["tls.key"]),
        root=pair["ca.crt"],
        signing=(signing["tls.crt"], signing["tls.key"]) if issues else None,
        token=running.token(secrets),
        template=running.template,
    )


def _places(service: Object, nodes: list[Object]) -> list[Place]:
    """Where a Service leads here: at the load balancer's addresses, or at a node port on every node."""
    spec, balancer = service["spec"], service.get("status", {}).get("loadBalancer", {})
    port = next((entry for entry in spec.get("ports", []) if entry.get("name") == PORT_NAME), None)
    if not port:
        return []
    if spec.get("type") == "LoadBalancer":
        found = [(entry.get("ip", ""), port["port"]) for entry in balancer.get("ingress") or []]
    elif spec.get("type") == "NodePort":
        found = [
            (address["address"], port["nodePort"])
            for node in nodes
            for address in node.get("status", {}).get("addresses", [])
        ]
    else:
        found = []
    return [(host, number) for host, number in found if _here(host)]


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
