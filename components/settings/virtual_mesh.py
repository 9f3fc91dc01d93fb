"""The VirtualMesh, as configured. Vendor page: production best practice, manage certs."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from components.settings.fields import DnsLabel, Section, contradiction


def _never(restart: bool) -> bool:
    if restart:
        raise ValueError("pods would restart whenever Gloo Mesh issues a certificate; write false, or leave it out")
    return restart


class SharedTrustSettings(Section):
    """The VirtualMesh's mtlsConfig.shared, each part as in its CRD."""

    root_certificate_authority: dict[str, Any] | None = None
    """`generated: {...}`, or `secret: {name, namespace}` of a Secret on the management cluster."""
    intermediate_certificate_authority: dict[str, Any] | None = None
    """`vault: {...}`."""
    intermediate_cert_options: dict[str, Any] | None = None
    """Lifetime and size of the certificates that the workers get."""


class VirtualMeshSettings(Section):
    """One VirtualMesh over every worker's Istio."""

    name: DnsLabel = "virtual-mesh"
    """What the resource is called."""
    istio_ca: Literal["external", "glooMesh"] = "external"
    """Who issues Istio's CA certificates. The vendor recommends against glooMesh in production."""
    auto_restart_pods: Annotated[bool, AfterValidator(_never)] = False
    """False, whoever issues them (vendor page, manage certs)."""
    shared_trust: SharedTrustSettings | None = None
    """With glooMesh: where its authority comes from; generated when not given."""
    federation: list[dict[str, Any]] = Field(default_factory=lambda: [{}])
    """Federation selectors; `{}` federates everything to every mesh, an empty list nothing."""
    global_access_policy: Literal["MESH_DEFAULT", "ENABLED", "DISABLED"] = "MESH_DEFAULT"
    """ENABLED denies what no AccessPolicy allows."""

    @model_validator(mode="after")
    def _shared_trust_is_gloo_meshs(self) -> Self:
        if self.shared_trust and self.istio_ca == "external":
            raise contradiction(
                "sharedTrust lets Gloo Mesh issue Istio's CA certificates, but istioCa is external; leave sharedTrust "
                "out, or write istioCa: glooMesh"
            )
        return self
