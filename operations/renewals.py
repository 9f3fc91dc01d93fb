"""When a certificate is due, who brings another for it or for one that is gone, and the command for that.

Owns these rules, for whoever finds such a certificate.
"""

from datetime import datetime, timedelta
from typing import Literal

from components import product
from components.settings import MANAGEMENT, ClusterSettings, Settings, pem
from operations.stack import command

Renewal = Literal["up", "rotation", "configuration", "issuer", "relay"]
"""An `up`; an `up` that is asked for it; whoever supplies the configuration; whoever makes the Secret; the relay."""

ROOT, SERVER, SIGNING, CLIENT = "relay-root", "relay-server", "relay-signing", "relay-client"
PLACES = {
    ROOT: (product.RELAY_ROOT_SECRET, "ca.crt"),
    SERVER: (product.RELAY_SERVER_SECRET, "tls.crt"),
    SIGNING: (product.RELAY_SIGNING_SECRET, "tls.crt"),
    CLIENT: (product.RELAY_CLIENT_SECRET, "tls.crt"),
}
"""By certificate, the Secret that holds it, and the key there."""
ROOT_SOON = timedelta(days=180)
"""For a root: a new one is decided on, planned, and brought to every cluster."""
PATIENCE = 6
"""What is made for less than six times that is due in the last sixth of its life: by then others have renewed."""


def places(cluster: ClusterSettings) -> dict[str, tuple[str, str]]:
    """Those of them that are on a cluster."""
    names = (SERVER, SIGNING, ROOT) if cluster.name == MANAGEMENT else (ROOT, CLIENT)
    return {name: PLACES[name] for name in names}


def recorded_as(name: str, cluster: ClusterSettings) -> str:
    """What the fleet's record calls a certificate of a cluster: a client's is each worker's own."""
    return f"{name}-{cluster.name}" if name == CLIENT else name


def soon(name: str) -> timedelta:
    """How long before its end a certificate that was made for long is due."""
    return ROOT_SOON if name == ROOT else pem.SOON


def opens(name: str, begin: datetime, end: datetime) -> datetime:
    """From when on a certificate is due."""
    return end - min(soon(name), (end - begin) / PATIENCE)


def by(settings: Settings, name: str) -> Renewal:
    """Who renews a certificate on a cluster."""
    if name == CLIENT and not settings.pki.per_worker:
        return "relay"
    match settings.pki.source:
        case "generated":
            return "rotation" if name == ROOT else "up"
        case "supplied":
            return "configuration"
        case "existing":
            return "issuer"


def renewed(stack: str, settings: Settings, cluster: ClusterSettings, name: str, *, ended: bool) -> str:
    """What brings another certificate in place of one that ends, has ended or is of no use."""
    up = command("up", stack)
    match by(settings, name):
        case "up":
            return f"{up} (and on a schedule, more often than every {pem.SOON.days} days)"
        case "rotation":
            return f"plan a new root, as docs/own-pki.md says: {up} --renew {ROOT}"
        case "configuration":
            own = f"clients.{cluster.name}" if name == CLIENT else name.removeprefix("relay-")
            return f"give a new one at gloo-mesh:pki.{own}, then: {up}"
        case "issuer":
            # The root on a worker is this program's copy.
            of = settings.management_cluster if name == ROOT else cluster
            return f"have it renewed by whoever makes it: {_kubectl(settings, of)} get secret {PLACES[name][0]}"
        case "relay":
            return _asked_anew(settings, cluster) if ended else _restarted(settings, cluster)


def restored(stack: str, settings: Settings, cluster: ClusterSettings, name: str) -> str:
    """What brings a certificate back whose Secret is gone, or holds something else."""
    match by(settings, name):
        case "issuer" if name != ROOT or cluster.name == MANAGEMENT:
            return f"have it made anew by whoever makes it: {_kubectl(settings, cluster)} get secret {PLACES[name][0]}"
        case "relay":
            return _asked_anew(settings, cluster)
        case _:
            return command("up", stack)


def _asked_anew(settings: Settings, cluster: ClusterSettings) -> str:
    forget = f"{_kubectl(settings, cluster)} delete secret {product.RELAY_CLIENT_SECRET}"
    return f"{forget} && {_restarted(settings, cluster)}"


def _restarted(settings: Settings, cluster: ClusterSettings) -> str:
    return f"{_kubectl(settings, cluster)} rollout restart deployment {product.AGENT_DEPLOYMENT}"


def _kubectl(settings: Settings, cluster: ClusterSettings) -> str:
    return f"{cluster.kubectl} --namespace {settings.namespace}"
