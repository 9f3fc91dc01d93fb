"""A fleet: one management cluster and any number of workers, in the order it is built."""

import pulumi

from components import product
from components.addons import Addons, AddonsArgs
from components.cluster import connect
from components.fleet import Fleet, FleetArgs
from components.management_plane import ManagementPlane, ManagementPlaneArgs
from components.relay_exposure import RelayExposure, RelayExposureArgs, no_address
from components.relay_pki import RelayPki, RelayPkiArgs
from components.settings import Settings
from components.upgrade import before_upgrade
from components.worker_cluster import WorkerCluster, WorkerClusterArgs

settings = Settings.load()
charts = settings.charts
license_key = settings.license_key
told = no_address(settings.management_cluster, settings.namespace, settings.relay.ready_within)

pki = RelayPki(
    "relay",
    RelayPkiArgs(
        namespace=settings.namespace,
        authority=settings.authority,
        profile=settings.pki.profile,
        protect=settings.protect,
    ),
)

on_management = connect(settings.management_cluster)
management = ManagementPlane(
    settings.management_cluster.name,
    ManagementPlaneArgs(
        namespace=settings.namespace,
        charts=charts,
        license_key=license_key,
        pki=pki,
        before_upgrade=before_upgrade(settings.management_cluster),
        ready_within=settings.relay.ready_within,
        no_address=told,
    ),
    pulumi.ResourceOptions(provider=on_management),
)
relay = RelayExposure(
    "relay-exposure",
    RelayExposureArgs(
        namespace=settings.namespace,
        ready_within=settings.relay.ready_within,
        release=management.release,
        no_address=told,
    ),
    pulumi.ResourceOptions(provider=on_management),
)

versions = {settings.management_cluster.name: settings.version}
namespaces = {settings.management_cluster.name: management.namespace}
values = {f"{settings.management_cluster.name}/{product.MANAGEMENT_RELEASE}": management.masked_values}
for cluster in settings.worker_clusters:
    on_worker = pulumi.ResourceOptions(provider=connect(cluster))
    own_charts = charts.at(cluster.version)
    on_upgrade = before_upgrade(cluster)
    worker = WorkerCluster(
        cluster.name,
        WorkerClusterArgs(
            cluster=cluster,
            namespace=settings.namespace,
            charts=own_charts,
            pki=pki,
            authority=settings.authority,
            before_upgrade=on_upgrade,
            relay_address=relay.address,
            management=management,
            management_provider=on_management,
        ),
        on_worker,
    )
    addons = Addons(
        f"{cluster.name}-addons",
        AddonsArgs(charts=own_charts, license_key=license_key, before_upgrade=on_upgrade),
        on_worker,
    )
    versions[cluster.name] = cluster.version
    namespaces[cluster.name] = worker.namespace
    values[f"{cluster.name}/{product.AGENT_RELEASE}"] = worker.values
    values[f"{cluster.name}/{product.ADDONS_RELEASE}"] = addons.masked_values

fleet = Fleet(
    "fleet",
    FleetArgs(
        namespace=management.namespace.metadata.name,
        charts=charts,
        pki=pki,
        namespaces=namespaces,
        versions=versions,
        values=values,
    ),
    pulumi.ResourceOptions(provider=on_management),
)

pulumi.export("version", settings.version)
pulumi.export("relayAddress", relay.address)
pulumi.export("certificates", fleet.certificates)
pulumi.export("clusters", fleet.identities)
