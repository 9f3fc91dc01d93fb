"""Whether each context leads to the cluster that it led to, and each to one of its own.

Owns both comparisons. A cluster is known by the UID of kube-system; the one that a stack deployed to by the UID of its
own namespace, as the state remembers it. The state goes before the fleet's record, because it knows the management
cluster too, and because a refresh can set it right.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from components import product
from components.settings import MANAGEMENT, ClusterSettings, Settings
from operations.findings import Finding, Kind
from operations.preflight.ownership import NAMESPACE, Ownership
from operations.stack import command
from operations.state import RELEASE

KUBE_SYSTEM = "kube-system"
Uids = Mapping[str, str | None]
"""By namespace that may be looked at, its UID; None where there is none."""

_PAGE = "identity"
ONE_CLUSTER = Kind(
    "one-cluster", "Two of the fleet's clusters would overwrite each other's namespace.", _PAGE, stops=True
)
ANOTHER_CLUSTER = Kind(
    "another-cluster",
    "An up would deploy to a stranger, and give up what it deployed where the context led before.",
    _PAGE,
    stops=True,
)
RENAMED = Kind(
    "renamed-cluster",
    "An up would find everything there taken, and at its end delete it, as the old name's.",
    _PAGE,
    stops=True,
)
MOVED = Kind(
    "namespace-moved",
    "Certificates, addresses and releases all name it, and what the old one still owns is in the way of the new.",
    _PAGE,
    stops=True,
)


def findings(
    settings: Settings, seen: Mapping[str, Uids], crds: Mapping[str, Mapping[str, Any]], ours: Ownership, stack: str
) -> Iterator[Finding]:
    """`seen` holds what each cluster that answered has; `crds` what CRDs are there, None for those nobody may see."""
    clusters = [cluster for cluster in settings.clusters if cluster.name in seen]
    first: dict[str, str] = {}
    for cluster in clusters:
        uid = seen[cluster.name].get(KUBE_SYSTEM)
        if uid and (other := first.setdefault(uid, cluster.name)) != cluster.name:
            contexts = {known.name: known.context for known in clusters}
            yield ONE_CLUSTER.found(
                cluster.name,
                f"{cluster.name} (context {cluster.context}) and {other} (context {contexts[other]}) are one cluster: "
                f"both have the kube-system of UID {uid}.",
                _another_context(cluster),
            )
    names = {cluster.name for cluster in settings.clusters}
    former: dict[str | None, str] = {
        uid: name for (name, _, path), uid in ours.namespaces.items() if path == settings.namespace
    }
    for cluster in (cluster for cluster in clusters if seen[cluster.name].get(KUBE_SYSTEM) not in _shared(seen)):
        made = {path for name, kind, path in ours.made if (name, kind) == (cluster.name, NAMESPACE)}
        if (left := made - {settings.namespace, product.ADDONS_NAMESPACE}) and settings.namespace not in made:
            old = min(left)
            yield MOVED.found(
                cluster.name,
                f"This stack deployed to namespace {old} of {cluster.name} (context {cluster.context}); "
                f"gloo-mesh:namespace is {settings.namespace} now.",
                f"Write gloo-mesh:namespace: {old} again. To move the fleet: with the old one "
                f"{command('remove', stack)}, then with the new one {command('up', stack)}",
            )
            continue
        remembered = ours.namespaces.get((cluster.name, NAMESPACE, settings.namespace))
        live = seen[cluster.name].get(settings.namespace)
        if remembered is None and (old := former.get(live)):
            yield RENAMED.found(
                cluster.name,
                f"{cluster.name} (context {cluster.context}) is the cluster that this stack deployed to as {old}: "
                f"namespace {settings.namespace} has the same UID {live}.",
                _another_context(cluster)
                if old in names or cluster.name == MANAGEMENT
                else f"Call it {old} again, with context: {cluster.context}. To give it another name: up without it, "
                f"then up with {cluster.name}",
            )
        if remembered is None or settings.namespace not in seen[cluster.name] or live == remembered:
            continue
        # Somebody may have deleted the namespace, which an up repairs; nobody deletes the CRDs with it.
        release = product.crds_chart(cluster.chart)
        installed = (cluster.name, RELEASE, f"{settings.namespace}/{release}") in ours.made
        if live is None and (not installed or _installed(crds.get(cluster.name, {}), release)):
            continue
        has = f"has UID {live}" if live else "isn't there, nor are the CRDs"
        yield ANOTHER_CLUSTER.found(
            cluster.name,
            f"Namespace {settings.namespace} of {cluster.name} (context {cluster.context}) {has}; this stack's has "
            f"UID {remembered}.",
            f"Let the context lead where it led, or write the right one: {cluster.kubectl} config view "
            f"--minify. If this is where {cluster.name} shall be: "
            f"pulumi refresh --run-program --stack {stack}",
        )


def _another_context(cluster: ClusterSettings) -> str:
    return f"Give {cluster.name} the context of a cluster of its own: {cluster.kubectl} config get-contexts"


def _shared(seen: Mapping[str, Uids]) -> set[str]:
    uids = [uid for uids in seen.values() if (uid := uids.get(KUBE_SYSTEM))]
    return {uid for uid in uids if uids.count(uid) > 1}


def _installed(crds: Mapping[str, Any], release: str) -> bool:
    """Whether a release's CRDs are there, or may be."""
    return any(
        metadata is None or (metadata.get("annotations") or {}).get("meta.helm.sh/release-name") == release
        for metadata in crds.values()
    )
