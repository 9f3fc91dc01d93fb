"""The fleet's description of itself: a ConfigMap on the management cluster.

Owns that ConfigMap. It holds what was deployed, for the operations commands to compare with and for
a stranger to find first; no secrets, and nothing that changes from one run to the next.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components import product
from components.certificates import Certificates
from components.charts import Charts
from components.namespace import Namespace
from components.settings.pem import fingerprint
from components.values_digest import digest, masked_paths


@dataclass(frozen=True, kw_only=True)
class FleetArgs:
    """What the record holds."""

    namespace: pulumi.Input[str]
    charts: Charts
    certificates: Certificates
    namespaces: Mapping[str, Namespace]
    """By cluster name, the namespace whose UID tells that cluster from any other."""
    versions: Mapping[str, str]
    """By cluster name, the version of its releases; agents may lag behind management."""
    values: Mapping[str, pulumi.Input[Any]]
    """By `cluster/release`, that release's values with secrets masked."""


class Fleet(pulumi.ComponentResource):
    """The record of a fleet."""

    identities: pulumi.Output[dict[str, str]]
    """By cluster name, the UID of its `gloo-mesh` namespace."""
    certificates: pulumi.Output[dict[str, dict[str, str]]]
    """By certificate, its sha256 and its end (RFC 3339); of existing ones the root's alone."""

    def __init__(self, name: str, args: FleetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gloo-mesh:index:Fleet", name, None, opts)
        self.identities = pulumi.Output.all(
            **{cluster: namespace.uid for cluster, namespace in args.namespaces.items()}
        )
        self.certificates = pulumi.Output.all(
            **{
                name: pulumi.Output.all(certificate.pem, certificate.not_after).apply(
                    lambda known: {"sha256": fingerprint(known[0]), "notAfter": known[1]}
                )
                for name, certificate in args.certificates.by_name.items()
            }
        )
        k8s.core.v1.ConfigMap(
            f"{name}-record",
            metadata={"name": product.FLEET_CONFIG_MAP, "namespace": args.namespace},
            data={
                "project": pulumi.get_project(),
                "stack": pulumi.get_stack(),
                "version": args.charts.version,
                "versions": json.dumps(args.versions),
                "charts": json.dumps(
                    {version: args.charts.at(version).digests for version in sorted(set(args.versions.values()))}
                ),
                "clusters": pulumi.Output.json_dumps(self.identities, sort_keys=True),
                "certificates": pulumi.Output.json_dumps(self.certificates, sort_keys=True),
                "values": pulumi.Output.json_dumps(
                    {
                        release: pulumi.Output.from_input(values).apply(digest)
                        for release, values in sorted(args.values.items())
                    }
                ),
                "masked": json.dumps(
                    {release: sorted(masked_paths(values), key=str) for release, values in sorted(args.values.items())}
                ),
            },
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"identities": self.identities})
