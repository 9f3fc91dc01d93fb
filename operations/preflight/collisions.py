"""What an `up` would make under a name that is taken.

Owns the list of fixed names; whose an object is, the state says, which is exact in the middle of a first up too. Of
what charts make only the CRDs are looked for here, the rest by `chart_objects.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from components import product
from components.settings import MANAGEMENT, ClusterSettings, Settings, WorkerClusterSettings
from operations import helm_records
from operations.api import Api, Refused
from operations.crds import COLLECTION
from operations.findings import Finding, Kind
from operations.helm_records import ENDED
from operations.objects import written_by_us
from operations.preflight.helm_ownership import belongs, handover
from operations.preflight.ownership import NAMESPACE, Identity, Ownership
from operations.record import OTHER_FLEET, Record
from operations.stack import command
from operations.state import RELEASE

_PAGE = "collisions"
_TAKEN = "Pulumi and Helm create nothing over what is there: the up would fail half way."

NAME_TAKEN = Kind("name-taken", _TAKEN, _PAGE, stops=True)
RELEASE_TAKEN = Kind("release-name-taken", _TAKEN, _PAGE, stops=True)
CRDS_UNOWNED = Kind("crds-unowned", "Helm refuses to install over CRDs that aren't marked as its own.", _PAGE, True)
PENDING_RELEASE = Kind(
    "pending-release", "Helm lets nothing past an operation that was cut off: every up fails there.", _PAGE, stops=True
)
FAILED_RELEASE = Kind(
    "failed-release",
    "Its objects may be old, or gone, and an up wouldn't change that: it takes Helm's newest record for what is there.",
    _PAGE,
    stops=True,
)
UNFINISHED = Kind(
    "unfinished-creation",
    "An up was cut off while it made this, so the state doesn't know that it is there, and the next would collide.",
    _PAGE,
    stops=True,
)

_PLURALS = {
    "KubernetesCluster": "kubernetesclusters",
    "VirtualMesh": "virtualmeshes",
    "AccessPolicy": "accesspolicies",
    "Gateway": "gateways",
    "VirtualService": "virtualservices",
    "RoleBinding": "rolebindings",
    "NetworkAttachmentDefinition": "network-attachment-definitions",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
}
_POLICY = product.ADDONS_NAMESPACE


@dataclass(frozen=True)
class Seen:
    """What is on one cluster under names that matter."""

    objects: frozenset[tuple[str, str]]
    """By Pulumi's type and `namespace/name`, or the name alone."""
    written: frozenset[tuple[str, str]]
    """Those of them that this program's plugin wrote; of a release, its namespace counts."""
    pending: dict[str, str]
    """By `namespace/release`, the status of an operation that was begun and not ended."""
    ended: dict[str, str]
    """By `namespace/release`, the status of a newest revision that isn't in force: it failed, or was uninstalled."""
    crds: dict[str, dict[str, Any] | None]
    """By name, the metadata of the CRDs; None of one that may not be looked at."""


def made(settings: Settings) -> list[Identity]:
    """Everything that the program makes under a name that is always the same."""
    management = settings.management_cluster
    found = [*_in_namespace(settings, management)]
    found.append((management.name, _core("ConfigMap"), f"{settings.namespace}/{product.FLEET_CONFIG_MAP}"))
    custom = [(product.CLUSTER_API_VERSION, product.CLUSTER_KIND, worker) for worker in settings.workers]
    if mesh := settings.virtual_mesh:
        custom.append((product.MESH_API_VERSION, "VirtualMesh", mesh.name))
        addons = [worker for worker in settings.worker_clusters if worker.addons.enabled]
        if mesh.global_access_policy == "ENABLED" and addons:
            custom.append((product.MESH_API_VERSION, "AccessPolicy", _POLICY))
    if settings.relay.istio_gateway:
        custom += [(product.ISTIO_API_VERSION, kind, product.ISTIO_GATEWAY) for kind in ("Gateway", "VirtualService")]
    found += [
        (management.name, f"kubernetes:{version}:{kind}", f"{settings.namespace}/{name}")
        for version, kind, name in custom
    ]
    for worker in settings.worker_clusters:
        found += _in_namespace(settings, worker)
        if worker.addons.enabled:
            found += _addons(worker)
    return found


def _in_namespace(settings: Settings, cluster: ClusterSettings) -> Iterator[Identity]:
    within, worker = settings.namespace, isinstance(cluster, WorkerClusterSettings)
    others = settings.pki.others(worker)
    secrets = [secret for secret in settings.pki.secrets(worker) if secret not in others]
    if cluster.namespaces.create:
        yield cluster.name, NAMESPACE, within
    if cluster.images.pull_secret_key:
        secrets.append(product.PULL_SECRET)
    for secret in secrets:
        yield cluster.name, _core("Secret"), f"{within}/{secret}"
    for release in (product.crds_chart(cluster.chart), cluster.release):
        yield cluster.name, RELEASE, f"{within}/{release}"


def _addons(worker: WorkerClusterSettings) -> Iterator[Identity]:
    within = product.ADDONS_NAMESPACE
    if worker.namespaces.create:
        yield worker.name, NAMESPACE, within
    if worker.images.pull_secret_key:
        yield worker.name, _core("Secret"), f"{within}/{product.PULL_SECRET}"
    if worker.platform == "openshift":
        api_version, kind, name = product.ISTIO_CNI_ATTACHMENT
        rbac = "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding"
        yield worker.name, rbac, f"{within}/{product.OPENSHIFT_ANY_USER}"
        yield worker.name, f"kubernetes:{api_version}:{kind}", f"{within}/{name}"
    yield worker.name, RELEASE, f"{within}/{product.ADDONS_RELEASE}"


def _core(kind: str) -> str:
    return f"kubernetes:core/v1:{kind}"


def look(
    cluster: ClusterSettings,
    api: Api,
    wanted: Iterable[Identity],
    namespaces: Mapping[str, dict[str, Any] | None],
    crds: Iterable[str],
) -> Seen:
    """What of `wanted` is there, whosever it is; what may not be looked at counts as not there.

    `namespaces` holds the metadata of each that is there.
    """
    objects: dict[tuple[str, str], bool] = {}
    pending: dict[str, str] = {}
    ended: dict[str, str] = {}
    collections: dict[str, list[tuple[str, str]]] = {}
    for kind, named in ((kind, named) for where, kind, named in wanted if where == cluster.name):
        if kind != NAMESPACE:
            collections.setdefault(_collection(kind, named), []).append((kind, named))
        elif found := namespaces.get(named):
            objects[kind, named] = written_by_us(found)
    for path, own in collections.items():
        there = _there(api, path, [named.rpartition("/")[2] for kind, named in own if kind != RELEASE])
        namespace = own[0][1].partition("/")[0]
        releases = helm_records.read(namespaces.get(namespace), filter(None, there.values()))
        for kind, named in own:
            name = named.rpartition("/")[2]
            if kind != RELEASE:
                if found := there.get(name):
                    objects[kind, named] = written_by_us(found)
            elif records := releases.get(name):
                objects[kind, named] = records.ours
                for status in records.statuses.values():
                    if status.startswith("pending-"):
                        pending[named] = status
                if records.newest in ENDED:
                    ended[named] = records.newest
    written = frozenset(key for key, ours in objects.items() if ours)
    return Seen(frozenset(objects), written, pending, ended, _there(api, COLLECTION, list(crds)))


def _collection(kind: str, named: str) -> str:
    """Where objects of a kind are; Helm keeps its releases as Secrets."""
    _, version, name = (_core("Secret") if kind == RELEASE else kind).split(":")
    root = "/api/v1" if version == "core/v1" else f"/apis/{version}"
    return f"{root}/namespaces/{named.partition('/')[0]}/{_PLURALS[name]}"


def _there(api: Api, path: str, names: list[str]) -> dict[str, dict[str, Any] | None]:
    """Metadata by name: of all that is there or, for who may not list, of `names`; None where it is refused, too."""
    with suppress(Refused):
        return {metadata["name"]: metadata for metadata in api.names(path)}
    found: dict[str, dict[str, Any] | None] = {}
    for name in names:
        try:
            if metadata := api.named(f"{path}/{name}"):
                found[name] = metadata
        except Refused:
            # Whether one may look is told where rights are.
            found[name] = None
    return found


def findings(
    settings: Settings,
    seen: Mapping[str, Seen],
    ours: Ownership,
    crds: Mapping[str, list[str]],
    record: Record | None,
    stack: str,
) -> Iterator[Finding]:
    """What of `seen` the stack didn't make; `crds` names those of each cluster's chart."""
    wanted = made(settings)
    for cluster in (cluster for cluster in settings.clusters if cluster.name in seen):
        there = seen[cluster.name]
        known = {(kind, named) for where, kind, named in ours.made if where == cluster.name}
        begun = {(kind, named) for where, kind, named in ours.begun if where == cluster.name}
        # By an up that was cut off, perhaps; what another stack made looks the same, to `recover` too.
        adopted = there.written if cluster.name in ours.clusters else frozenset()
        pending = [named for named in there.pending if (RELEASE, named) in known | begun | adopted]
        for named in pending:
            namespace, _, release = named.rpartition("/")
            yield PENDING_RELEASE.found(
                cluster.name,
                f"Release {release} in namespace {namespace} (context {cluster.context}) is {there.pending[named]}: an "
                "operation of Helm's was cut off there, or runs just now.",
                f"When no up is running: {command('recover', stack)}",
            )
        for named, status in there.ended.items():
            upgraded = status == "failed" and (cluster.name, RELEASE, named) in ours.again
            if (RELEASE, named) in known and not upgraded:
                yield FAILED_RELEASE.found(
                    cluster.name,
                    f"The newest revision of release {named} (context {cluster.context}) is {status}, and the state "
                    "takes it for done.",
                    command("recover", stack, "--yes"),
                )
        taken = [
            (kind, named)
            for where, kind, named in wanted
            if where == cluster.name and (kind, named) in there.objects - known and named not in pending
        ]
        for kind, named in (entry for entry in taken if entry in begun):
            yield UNFINISHED.found(
                cluster.name,
                f"{kind.rpartition(':')[2]} {named} (context {cluster.context}) is there, but the state only knows "
                "that its creation was begun.",
                command("recover", stack),
            )
        yield from _taken(cluster, [entry for entry in taken if entry not in begun | adopted], record, settings)
        for finding in _taken(cluster, [entry for entry in taken if entry in adopted - begun], record, settings):
            recover = f"If an up of this stack made it and was cut off: {command('recover', stack)}"
            yield replace(finding, remedy=f"{recover}. {finding.remedy}")
        release = product.crds_chart(cluster.chart)
        # A later version may bring some that are new.
        if ours.versions.get((cluster.name, RELEASE, f"{settings.namespace}/{release}")) != cluster.version:
            yield from _crds(cluster, release, settings.namespace, there.crds, crds.get(cluster.name, []))


def _taken(
    cluster: ClusterSettings, taken: list[tuple[str, str]], record: Record | None, settings: Settings
) -> Iterator[Finding]:
    secrets: dict[str, list[str]] = {}
    for kind, named in taken:
        namespace, _, name = named.rpartition("/")
        what = kind.rpartition(":")[2]
        place = f"in namespace {namespace} on {cluster.name} (context {cluster.context})"
        kubectl = f"{cluster.kubectl} -n {namespace}"
        if kind == RELEASE:
            yield RELEASE_TAKEN.found(
                cluster.name,
                f"There is a Helm release {name} {place}, which this stack didn't make.",
                f"If nothing needs it: {cluster.helm} -n {namespace} uninstall {name}",
            )
        elif kind == NAMESPACE:
            key = "management" if cluster.name == MANAGEMENT else f"workers.{cluster.name}"
            yield NAME_TAKEN.found(
                cluster.name,
                f"Namespace {named} is on {cluster.name} (context {cluster.context}) already, and this stack didn't "
                "make it.",
                f"To leave it somebody else's, write namespaces: {{create: false}} under gloo-mesh:{key}; to have it "
                f"made anew: {cluster.kubectl} delete namespace {named}",
            )
        elif kind == _core("Secret"):
            secrets.setdefault(namespace, []).append(name)
        elif kind == _core("ConfigMap") and record:
            yield OTHER_FLEET.found(
                cluster.name,
                f"ConfigMap {name} {place} is the record of a fleet that the stack {record.stack} deployed.",
                f"{command('up', record.stack)}, or, if that stack is gone and what it deployed is removed: {kubectl} "
                f"delete configmap {name}",
            )
        else:
            # Somebody else's API may have a resource of the same name.
            group = kind.split(":")[1].rpartition("/")[0]
            resource = _PLURALS[what] if group == "core" else f"{_PLURALS[what]}.{group}"
            yield NAME_TAKEN.found(
                cluster.name,
                f"{what} {name} {place} is there already, and this stack didn't make it.",
                f"If nothing needs it: {kubectl} delete {resource} {name}",
            )
    for namespace, names in secrets.items():
        yield NAME_TAKEN.found(
            cluster.name,
            f"Secret{'s' if len(names) > 1 else ''} {', '.join(names)} in namespace {namespace} on {cluster.name} "
            f"(context {cluster.context}) {'are' if len(names) > 1 else 'is'} there already, and this stack didn't "
            "make them.",
            f"If nothing uses them: {cluster.kubectl} -n {namespace} delete secret "
            f"{' '.join(names)}; if cert-manager or Vault makes them: gloo-mesh:pki: {{source: existing}}",
        )


def _crds(
    cluster: ClusterSettings,
    release: str,
    namespace: str,
    there: Mapping[str, dict[str, Any] | None],
    wanted: list[str],
) -> Iterator[Finding]:
    names = [name for name in wanted if (metadata := there.get(name)) and not belongs(metadata, release, namespace)]
    if not names:
        return
    yield CRDS_UNOWNED.found(
        cluster.name,
        f"{len(names)} of the chart's CRDs are on {cluster.name} (context {cluster.context}) already and don't belong "
        f"to the release {namespace}/{release}: {', '.join(names)}.",
        handover(cluster, ["crd", *names], release, namespace),
    )
