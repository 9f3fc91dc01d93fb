"""What a chart would bring under a name that is taken: a ClusterRole, a webhook, a Service that is somebody else's.

Owns the comparison of what releases would be rendered to with what is there, for those that an `up` installs or takes
to another version. Helm compares, too, but one release at a time, when others are done already, and names one object.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components import product
from components.settings import ClusterSettings, Settings, configured, encrypted
from operations import decryption
from operations.api import Api, OutOfTimeError, Refused
from operations.findings import Finding, Kind
from operations.preflight import collisions
from operations.preflight.helm_ownership import belongs, handover
from operations.preflight.ownership import Ownership
from operations.releases import HelmError, deployed
from operations.stack import Stack, UsageError, command
from operations.state import RELEASE

if TYPE_CHECKING:
    from operations.rendering import Wanted

_PAGE = "collisions"
UNOWNED = Kind(
    "objects-unowned", "Helm refuses to install over objects that aren't marked as its own.", _PAGE, stops=True
)
NOT_COMPARED = Kind(
    "objects-not-compared",
    "If an object of the chart's is there and somebody else's, the up fails half way.",
    _PAGE,
    unseen=True,
)
_CRDS = {product.crds_chart(chart) for chart in product.CHARTS}
"""Releases whose objects are compared by name alone, without rendering."""


@dataclass(frozen=True)
class Coming:
    """The releases that an `up` would install or take to another version, and what renders them."""

    helm: str = ""
    """Helm's command."""
    releases: tuple["Wanted", ...] = ()
    missing: Finding | None = None
    """What is told where Helm's command isn't there."""


def coming(stack: Stack, settings: Settings, ours: Ownership) -> Coming:
    """What a stack's file asks for and its state doesn't have; where that is nothing, the program isn't run."""
    versions = {cluster.name: cluster.version for cluster in settings.clusters}
    names = {
        (where, named)
        for where, kind, named in collisions.made(settings)
        if kind == RELEASE
        and named.rpartition("/")[2] not in _CRDS
        and ours.versions.get((where, kind, named)) != versions[where]
    }
    if not names:
        return Coming()
    # Pulumi's SDK takes half a second to load.
    from operations.rendering import helm_command, wanted

    config = configured(stack.file)
    secret = encrypted(config)
    try:
        helm = helm_command()
        config |= decryption.certificates(stack, settings)
    except UsageError as error:
        what = f"What {len(names)} releases would bring isn't compared with what is there. {error}"
        return Coming(missing=NOT_COMPARED.found("charts", what, f"Then: {command('preflight', stack.name)}"))
    # Whether they are certificates can be told only now.
    Settings.parse(config, secret)
    releases = wanted(stack.name, config, secret)
    return Coming(helm, tuple(one for one in releases if (one.cluster, f"{one.namespace}/{one.name}") in names))


def findings(cluster: ClusterSettings, api: Api, coming: Coming) -> Iterator[Finding]:
    """What is there of the objects that this cluster's releases would bring, and isn't marked as theirs."""
    for release in (one for one in coming.releases if one.cluster == cluster.name):
        try:
            taken = list(_taken(coming.helm, release, api))
        except (HelmError, OutOfTimeError) as error:
            yield NOT_COMPARED.found(
                cluster.name,
                f"What {release.name} would bring to {cluster.name} (context {cluster.context}) isn't compared with "
                f"what is there: {error}.",
                "Render it yourself: helm template "
                f"{release.name} {release.chart} --namespace {release.namespace} --values YOUR-VALUES",
            )
            continue
        for namespace in sorted({namespace for namespace, _ in taken}):
            objects = [called for within, called in taken if within == namespace]
            yield UNOWNED.found(
                cluster.name,
                f"{len(objects)} of the objects that {release.name} would bring are on {cluster.name} (context "
                f"{cluster.context}) already and don't belong to the release {release.namespace}/{release.name}: "
                f"{', '.join(objects)}.",
                f"If nothing needs them: {cluster.kubectl} -n {namespace} delete {' '.join(objects)}; to have the "
                "release take them over, and write them anew: "
                + handover(cluster, ["-n", namespace, *objects], release.name, release.namespace),
            )


def _taken(helm: str, release: "Wanted", api: Api) -> Iterator[tuple[str, str]]:
    """Each object's namespace, that of the release where it has none, and what kubectl calls it."""
    from operations.rendering import templated

    live = None
    # What Helm can't read is told by check; here it holds nothing up.
    with suppress(Refused, HelmError):
        live = deployed(api, release.namespace, release.name)
    for key, manifest in templated(helm, release, api, upgrade=live is not None).items():
        group, kind, namespace, name = key
        if live and key in live.manifests:
            # Helm asks for no marks on what the release has already.
            continue
        collection = metadata = None
        # Whether one may look is told where rights are.
        with suppress(Refused):
            collection = api.collection(manifest["apiVersion"], kind, namespace)
            metadata = collection and api.named(f"{collection}/{name}")
        if collection and metadata and not belongs(metadata, release.name, release.namespace):
            resource = collection.rpartition("/")[2]
            yield namespace, f"{resource}.{group}/{name}" if group else f"{resource}/{name}"
