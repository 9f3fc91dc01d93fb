"""A fleet: one management cluster and any number of workers, in the order it is built."""

import pulumi

from components import configuration, product
from components.addons import Addons, AddonsArgs
from components.cluster import connect
from components.completion import completion
from components.fleet import Fleet, FleetArgs
from components.management_plane import ManagementPlane, ManagementPlaneArgs
from components.relay_exposure import RelayExposure, RelayExposureArgs, no_address
from components.relay_pki import RelayPki, RelayPkiArgs
from components.upgrade import before_upgrade
from components.virtual_mesh import VirtualMesh, VirtualMeshArgs, webhook_not_ready
from components.worker_cluster import WorkerCluster, WorkerClusterArgs

settings = configuration.load()
charts = settings.charts
has_no_address = no_address(settings.management_cluster, settings.namespace, settings.relay)
not_ready = webhook_not_ready()

on_management = connect(settings.management_cluster)
pki = RelayPki(
    "relay",
    RelayPkiArgs(
        namespace=settings.namespace,
        authority=settings.authority,
        cluster_domain=settings.management_cluster.cluster_domain,
        workers=sorted(settings.workers),
        protect=settings.protect,
        pki=settings.pki,
        pems=configuration.pems(settings),
    ),
    pulumi.ResourceOptions(provider=on_management),
)
management = ManagementPlane(
    settings.management_cluster.name,
    ManagementPlaneArgs(
        settings=settings,
        pki=pki,
        before_upgrade=before_upgrade(settings.management_cluster),
        reveal=configuration.secret,
        no_address=has_no_address,
    ),
    pulumi.ResourceOptions(provider=on_management),
)
relay = RelayExposure(
    "relay-exposure",
    RelayExposureArgs(
        relay=settings.relay,
        cluster=settings.management_cluster,
        namespace=settings.namespace,
        authority=settings.authority,
        root_pem=pki.certificates.root.pem,
        management=management,
        no_address=has_no_address,
    ),
    pulumi.ResourceOptions(provider=on_management),
)

registrations: list[pulumi.Resource] = []
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
            relay_address=relay.address_for(cluster.relay_address),
            relay_needs=relay.needed,
            before_upgrade=on_upgrade,
            reveal=configuration.secret,
            management=management,
            management_provider=on_management,
            webhook_not_ready=not_ready,
        ),
        on_worker,
    )
    registrations.append(worker.registration)
    versions[cluster.name] = cluster.version
    namespaces[cluster.name] = worker.namespace
    values[f"{cluster.name}/{product.AGENT_RELEASE}"] = worker.masked_values
    if cluster.addons.enabled:
        addons = Addons(
            f"{cluster.name}-addons",
            AddonsArgs(
                cluster=cluster,
                charts=own_charts,
                agent=worker.agent,
                before_upgrade=on_upgrade,
                reveal=configuration.secret,
            ),
            on_worker,
        )
        values[f"{cluster.name}/{product.ADDONS_RELEASE}"] = addons.masked_values

if settings.virtual_mesh:
    VirtualMesh(
        "virtual-mesh",
        VirtualMeshArgs(
            settings=settings.virtual_mesh,
            namespace=settings.namespace,
            workers=settings.worker_clusters,
            registrations=registrations,
            management=management,
            webhook_not_ready=not_ready,
        ),
        pulumi.ResourceOptions(provider=on_management),
    )

fleet = Fleet(
    "fleet",
    FleetArgs(
        namespace=management.namespace.name,
        charts=charts,
        certificates=pki.certificates,
        namespaces=namespaces,
        versions=versions,
        values=values,
    ),
    pulumi.ResourceOptions(provider=on_management),
)

pulumi.export("version", settings.version)
pulumi.export("relayAddress", relay.address)
pulumi.export("relayNode", relay.node)
pulumi.export("certificates", fleet.certificates)
pulumi.export("clusters", fleet.identities)

pulumi.run(completion)
