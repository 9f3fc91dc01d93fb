"""The VirtualMesh, as configured. Vendor page: production best practice, manage certs."""

from typing import Any, Literal

from pydantic import Field

from components.settings.fields import DnsLabel, Section


class VirtualMeshSettings(Section):
    """One VirtualMesh over every worker's Istio."""

    name: DnsLabel = "virtual-mesh"
    istio_ca: Literal["external", "glooMesh"] = "external"
    """Who issues Istio's CA certificates. The vendor recommends against glooMesh in production."""
    shared_trust: dict[str, Any] = Field(default_factory=dict)
    """With glooMesh: the VirtualMesh's mtlsConfig.shared, as in its CRD; generated when not given."""
    federation: list[dict[str, Any]] = Field(default_factory=lambda: [{}])
    """Federation selectors; `{}` federates everything to every mesh, an empty list nothing."""
    global_access_policy: Literal["MESH_DEFAULT", "ENABLED", "DISABLED"] = "MESH_DEFAULT"
    """ENABLED denies what no AccessPolicy allows."""
