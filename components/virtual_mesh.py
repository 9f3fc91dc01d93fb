"""The VirtualMesh over the workers' Istios, and the policy that keeps the addons reachable in it.

Owns both on the management cluster. Istio's own CA stays outside: nothing here makes or replaces it unless the
configuration says `istioCa: glooMesh`. What else is allowed where access is denied by default is its users'.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components import product
from components.management_plane import ManagementPlane
from components.settings import WorkerClusterSettings
from components.settings.fields import Values
from components.settings.virtual_mesh import VirtualMeshSettings

RETRIES = 20


@dataclass(frozen=True, kw_only=True)
class VirtualMeshArgs:
    """What the VirtualMesh needs to know."""

    settings: VirtualMeshSettings
    namespace: str
    workers: Sequence[WorkerClusterSettings]
    registrations: Sequence[pulumi.Resource]
    """What makes the workers' meshes known."""
    management: ManagementPlane
    webhook_not_ready: pulumi.ErrorHook


class VirtualMesh(pulumi.ComponentResource):
    """One VirtualMesh, on the management cluster, which is that of the provider it is given."""

    def __init__(self, name: str, args: VirtualMeshArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gloo-mesh:index:VirtualMesh", name, None, opts)
        if args.settings.istio_ca == "glooMesh":
            pulumi.log.warn(
                "gloo-mesh:virtualMesh.istioCa is glooMesh: Gloo Mesh issues and replaces Istio's CA certificates. The "
                "vendor recommends against that in production: issue them by automation of your own, which can rotate "
                "them, and write istioCa: external. Pods keep their old certificates until you restart them.",
                self,
            )
        # Kinds, their webhook and the meshes that are named: there before, and still there at a removal.
        awaited = [args.management.release, args.management.crds, *args.registrations]
        with_addons = [worker for worker in args.workers if worker.addons.enabled]
        if args.settings.global_access_policy == "ENABLED" and with_addons:
            policy = self._resource(
                f"{name}-addons-access",
                "AccessPolicy",
                product.ADDONS_NAMESPACE,
                addons_access(with_addons),
                args,
                awaited,
            )
            # Before access is denied, so that the addons are never out of reach.
            awaited = [*awaited, policy]
        spec = virtual_mesh(args.settings, args.namespace, args.workers)
        self._resource(f"{name}-mesh", "VirtualMesh", args.settings.name, spec, args, awaited)
        self.register_outputs({})

    def _resource(
        self,
        name: str,
        kind: str,
        resource_name: str,
        spec: Values,
        args: VirtualMeshArgs,
        depends_on: Sequence[pulumi.Resource],
    ) -> pulumi.Resource:
        return k8s.apiextensions.CustomResource(
            name,
            api_version=product.MESH_API_VERSION,
            kind=kind,
            metadata={"name": resource_name, "namespace": args.management.namespace.name},
            spec=spec,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=depends_on,
                hooks=pulumi.ResourceHookBinding(on_error=[args.webhook_not_ready]),
            ),
        )


def virtual_mesh(settings: VirtualMeshSettings, namespace: str, workers: Sequence[WorkerClusterSettings]) -> Values:
    """The spec of a VirtualMesh over `workers`, whose meshes are discovered into `namespace`."""
    trust: Values = {"autoRestartPods": False}
    if settings.istio_ca == "glooMesh":
        given = settings.shared_trust.model_dump(by_alias=True, exclude_none=True) if settings.shared_trust else {}
        trust["shared"] = given or {"rootCertificateAuthority": {"generated": {}}}
    return {
        "meshes": [
            {
                "name": product.mesh(worker.name, worker.istio.namespace, worker.istio.revision),
                "namespace": namespace,
            }
            for worker in workers
        ],
        "mtlsConfig": trust,
        "federation": {"selectors": settings.federation},
        "globalAccessPolicy": settings.global_access_policy,
    }


def addons_access(workers: Sequence[WorkerClusterSettings]) -> Values:
    """The spec of an AccessPolicy: the ingress gateways and the addons themselves may call the addons."""
    gateways = [
        {
            "name": product.INGRESS_SERVICE_ACCOUNT,
            "namespace": worker.istio.namespace,
            "clusterName": worker.name,
        }
        for worker in workers
    ]
    addons = {"namespaces": [product.ADDONS_NAMESPACE], "clusters": [worker.name for worker in workers]}
    return {
        "sourceSelector": [{"kubeServiceAccountRefs": {"serviceAccounts": gateways}}, {"kubeIdentityMatcher": addons}],
        "destinationSelector": [{"kubeServiceMatcher": addons}],
    }


def webhook_not_ready() -> pulumi.ErrorHook:
    """A hook that tries again while an admission webhook doesn't answer yet."""
    return pulumi.ErrorHook("webhook-not-ready", try_again)


async def try_again(failed: pulumi.ErrorHookArgs) -> bool:
    """Whether to, after a pause that grows: bounded, and never for what a webhook denied."""
    tried = len(failed.errors)
    # The API server's words for every way in which it couldn't ask: no endpoints, refused, no certificate yet.
    if "failed calling webhook" not in failed.errors[0] or tried > RETRIES:
        return False
    pulumi.log.info(f"{failed.name}: an admission webhook doesn't answer yet; trying again ({tried} of {RETRIES}).")
    await asyncio.sleep(min(tried, 10))
    return True
