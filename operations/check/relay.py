"""Whether the relay answers, and which workers it is connected with.

Owns the relay's two gauges, the call to the addresses that agents dial, and the comparison of agents with
registrations.
"""

import asyncio
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from components import product
from components.handshake import cause, shake_hands, trusting
from components.settings import MANAGEMENT, pem
from operations.api import Refused, Unanswered
from operations.check.view import Fleet, View
from operations.deadline import started, within
from operations.everywhere import AT_ONCE
from operations.findings import Finding, Kind
from operations.stack import command

DIAL_SECONDS = 3
"""As long as the vendor's own check waits."""

PROXY_SECONDS = 5
"""Of a pod that can't be reached an API server says nothing for half a minute."""

UNREAD = Kind(
    "relay-metrics-unread",
    why="Nobody can tell which agents are connected.",
    page="relay",
)
DISCONNECTED = Kind(
    "agent-not-connected",
    why="Nothing that happens on the worker reaches the management plane, and no policy reaches the worker.",
    page="relay",
)
HALF = Kind(
    "agent-half-connected",
    why="Pull brings what is discovered to the management plane, push brings policies to the worker; one is missing.",
    page="relay",
)
STRANGER = Kind(
    "connected-unregistered",
    why="Without a KubernetesCluster the relay serves a stranger, or a worker that somebody forgot to register.",
    page="relay",
)
UNREACHABLE = Kind(
    "relay-not-answering",
    why="Agents dial that address; those that aren't connected yet, or lose their connection, stay out.",
    page="relay",
)
UNTRUSTED = Kind(
    "relay-not-trusted",
    why="Agents trust the fleet's root alone, and don't connect with what shows another's certificate.",
    page="relay",
)
UNREGISTERED = Kind(
    "agent-unregistered",
    why="The management plane ignores a cluster that has no KubernetesCluster, whatever its agent says.",
    page="relay",
)
AGENTLESS = Kind(
    "registration-without-agent",
    why="The management plane waits for a cluster that nothing speaks for, and translates policies for it in vain.",
    page="relay",
)


@dataclass(frozen=True)
class Gauges:
    """How many clients of each cluster the relay has, for each of the two directions."""

    pull: Mapping[str, float]
    push: Mapping[str, float]


def gauges(view: View) -> Gauges:
    """What the relay's metrics say: through a port-forward, else through the API server's proxy; raises Unanswered."""
    try:
        text = _forwarded(view)
    except Unanswered as error:
        proxied = f"/api/v1/namespaces/{view.namespace}/services/{product.METRICS_SERVICE}/proxy/metrics"
        try:
            text = view.api.text(proxied, PROXY_SECONDS)
        except (Unanswered, Refused) as other:
            raise Unanswered(f"a port-forward says: {error}; the API server's proxy says: {other}") from None
    return Gauges(**{direction: _gauge(text, name) for direction, name in product.CONNECTED_GAUGES.items()})


def metrics_unread(view: View, error: Unanswered) -> Finding:
    """That the gauges can't be had."""
    return UNREAD.found(
        view.name,
        f"The metrics of Deployment {product.MANAGEMENT_DEPLOYMENT} can't be read: {error}.",
        view.kubectl(f"port-forward deployment/{product.MANAGEMENT_DEPLOYMENT} {product.METRICS_PORT}"),
    )


def connections(fleet: Fleet, found: Gauges) -> Iterator[Finding]:
    """Clusters that are registered and not connected, the reverse, and those that nothing speaks for."""
    settings = fleet.settings
    registered = fleet.registered or frozenset[str]()
    workers = {worker.name: worker for worker in settings.worker_clusters}
    connected = {name for name, count in found.push.items() if count >= 1}
    for name in sorted(registered & workers.keys()):
        missing = [direction for direction in ("pull", "push") if getattr(found, direction).get(name, 0) < 1]
        agent = f"deployment/{product.AGENT_DEPLOYMENT}"
        logs = f"{workers[name].kubectl} -n {settings.namespace} logs {agent}"
        if len(missing) == 2:
            yield DISCONNECTED.found(name, f"The relay has no client of the registered cluster {name}.", logs)
        elif missing:
            yield HALF.found(name, f"The relay has no {missing[0]} client of {name}, though it has the other.", logs)
    # What only pulls may be the dashboard; a worker's own agent without registration is told where it runs.
    for name in sorted(connected - registered - workers.keys()):
        what = f"A client that says it is {name} is connected, and no {product.CLUSTER_KIND} is called that."
        remedy = f"Write gloo-mesh:workers.{name}, then: {fleet.up}. Or stop that agent."
        yield STRANGER.found(MANAGEMENT, what, remedy)
    for name in sorted(registered - connected - workers.keys()):
        what = f"{product.CLUSTER_KIND} {name} is neither a worker of the configuration nor connected."
        forget = command(f"forget {name}", fleet.stack)
        delete = f"{settings.management_cluster.kubectl} -n {settings.namespace} delete "
        delete += f"{product.CLUSTER_PLURAL}.{product.CLUSTER_API_VERSION.partition('/')[0]} {name}"
        remedy = f"{fleet.up}; where that cluster is gone: {forget}; where it was made by hand: {delete}"
        yield AGENTLESS.found(MANAGEMENT, what, remedy)


def unregistered(view: View) -> Iterator[Finding]:
    """Of a worker: whether what its agent calls itself is registered."""
    name, registered = agent(view), view.fleet.registered
    if name and registered is not None and name not in registered:
        what = f"The agent calls its cluster {name}, and no {product.CLUSTER_KIND} is called that."
        yield UNREGISTERED.found(view.name, what, view.fleet.up)


def agent(view: View) -> str | None:
    """What a worker's agent calls its cluster; None where there is no agent."""
    return _argument(view, "cluster")


def address(view: View) -> str | None:
    """What a worker's agent dials; None where there is no agent."""
    return _argument(view, "relay-address")


def dialled(fleet: Fleet, addresses: Iterable[str]) -> Iterator[Finding]:
    """What the relay's addresses answer to a TLS handshake for the authority, from here."""
    content = fleet.trust.get(product.RELAY_ROOT_SECRET, {}).get("ca.crt", "")
    try:
        context = trusting(pem.first_pem(content))
    except (ValueError, OSError):
        # That there is no root is another finding.
        return
    authority = fleet.settings.authority

    def dial(place: str) -> Exception | None:
        try:
            within(DIAL_SECONDS + 1, lambda: asyncio.run(shake_hands(place, authority, context, DIAL_SECONDS)))
        except (OSError, ValueError, OverflowError) as error:
            return error
        return None

    places = sorted(set(addresses))
    # A hundred workers may have as many addresses, and all of them a firewall that swallows the call.
    for place, answer in zip(places, started(dial, places, AT_ONCE), strict=True):
        if error := answer.result():
            why = cause(error, authority) if isinstance(error, OSError) else "that is no host:port"
            kind = UNTRUSTED if isinstance(error, ssl.SSLCertVerificationError) else UNREACHABLE
            yield kind.found(
                MANAGEMENT,
                f"The relay doesn't answer at {place} for the server name {authority}: {why}.",
                f"openssl s_client -connect {place} -servername {authority} -showcerts",
            )


def _forwarded(view: View) -> str:
    deployment = view.deployment(product.MANAGEMENT_DEPLOYMENT)
    wanted = deployment["spec"]["selector"]["matchLabels"].items() if deployment else []
    running = [
        pod["metadata"]["name"]
        for pod in view.pods(view.namespace)
        if wanted and wanted <= pod["metadata"].get("labels", {}).items() and pod["status"].get("phase") == "Running"
    ]
    if not running:
        raise Unanswered(f"there is no running pod of Deployment {product.MANAGEMENT_DEPLOYMENT}")
    return view.api.forwarded(view.namespace, running[0], product.METRICS_PORT, "/metrics")


def _argument(view: View, name: str) -> str | None:
    deployment = view.deployment(product.AGENT_DEPLOYMENT)
    containers = deployment["spec"]["template"]["spec"]["containers"] if deployment else []
    arguments = [argument for container in containers for argument in container.get("args", [])]
    given = (argument.removeprefix(f"--{name}=") for argument in arguments if argument.startswith(f"--{name}="))
    return next(given, None)


def _gauge(text: str, name: str) -> dict[str, float]:
    """A gauge's values by its label `cluster`, summed, from Prometheus's text format."""
    values: dict[str, float] = {}
    for labels, value in re.findall(rf"^{name}\{{(.*)\}}\s+(\S+)", text, re.MULTILINE):
        cluster = re.search(r'(?:^|,)\s*cluster="([^"]*)"', labels)
        if cluster:
            values[cluster[1]] = values.get(cluster[1], 0) + float(value)
    return values
