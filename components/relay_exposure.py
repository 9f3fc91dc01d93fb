"""How workers reach the relay: the address of its load balancer.

Owns a read of the Service through a patch of ours; the Service itself is the chart's. The patch's
inputs don't depend on the release, so a change of the management plane alone leaves the workers
quiet in a preview, while `--refresh` finds an address that moved. See docs/decisions/0002.
"""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components import product
from components.settings import ClusterSettings

_TIMEOUTS = ("deadline exceeded", "timed out", "failed to fully initialize", "failed to become available")


@dataclass(frozen=True, kw_only=True)
class RelayExposureArgs:
    """What the exposure needs to know."""

    namespace: str
    ready_within: int
    """Seconds for an address to appear."""
    release: k8s.helm.v3.Release
    no_address: pulumi.ErrorHook
    """Told when none appears."""


class RelayExposure(pulumi.ComponentResource):
    """The relay's address on the management cluster."""

    address: pulumi.Output[str]
    """host:port that agents dial."""

    def __init__(self, name: str, args: RelayExposureArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gloo-mesh:index:RelayExposure", name, None, opts)
        service = k8s.core.v1.ServicePatch(
            f"{name}-service",
            metadata={
                "name": product.RELAY_SERVICE,
                "namespace": args.namespace,
                # Ten times quicker than the provider's own wait for a Service.
                "annotations": {"pulumi.com/waitFor": "jsonpath={.status.loadBalancer.ingress}"},
            },
            opts=pulumi.ResourceOptions(
                parent=self,
                # The chart makes the Service; nothing of the release flows in here, see above.
                depends_on=[args.release],
                custom_timeouts=pulumi.CustomTimeouts(create=f"{args.ready_within}s", update=f"{args.ready_within}s"),
                hooks=pulumi.ResourceHookBinding(on_error=[args.no_address]),
            ),
        )
        # Nested, because Output.all would turn the typed values into plain dicts.
        self.address = service.status.apply(lambda status: service.spec.apply(lambda spec: dial_address(status, spec)))
        self.register_outputs({"address": self.address})


def dial_address(
    status: k8s.core.v1.outputs.ServiceStatusPatch | None, spec: k8s.core.v1.outputs.ServiceSpecPatch | None
) -> str:
    """host:port of a Service: an IP (GKE) or a hostname (EKS) of the first entry that has one.

    Raises RunError without a host or a port named `grpc`: an agent would dial ":9900" for ever.
    """
    ingress = status.load_balancer.ingress or [] if status and status.load_balancer else []
    ports = spec.ports or [] if spec else []
    host = next((entry.ip or entry.hostname for entry in ingress if entry.ip or entry.hostname), None)
    port = next((entry.port for entry in ports if entry.name == product.RELAY_PORT_NAME), None)
    if not host or not port:
        raise pulumi.RunError(
            f"Service {product.RELAY_SERVICE} has no address or no port named {product.RELAY_PORT_NAME} "
            f"(addresses: {len(ingress)}, ports: {[entry.name for entry in ports]}); agents can't be given one."
        )
    return f"{host}:{int(port)}"


def no_address(cluster: ClusterSettings, namespace: str, ready_within: int) -> pulumi.ErrorHook:
    """A hook that says which Service got no address, where, and what to do; it never retries."""
    sentence = (
        f"Service {product.RELAY_SERVICE} in namespace {namespace} on cluster {cluster.name} (context "
        f"{cluster.context}) has no load balancer address after {ready_within} s, or the pods of its release "
        f"aren't ready. See which: kubectl --context {cluster.context} -n {namespace} get service,pods. Give that "
        "cluster a load balancer controller, or allow more time with gloo-mesh:relay.readyWithin."
    )

    def say(failed: pulumi.ErrorHookArgs) -> bool:
        if any(timeout in error for error in failed.errors for timeout in _TIMEOUTS):
            pulumi.log.error(sentence)
        return False

    return pulumi.ErrorHook("relay-has-no-address", say)
