"""The management plane, as configured: its dashboard, who may edit, and what its release is given."""

from typing import Literal

from pydantic import Field

from components.settings.fields import DnsLabel, Section


class SessionSettings(Section):
    """Where the dashboard keeps its users' sessions."""

    store: Literal["cookie", "redis"] = "cookie"
    host: str | None = Field(default=None, min_length=1)
    """Of redis, host:port; the chart's own redis when not given."""


class OidcSettings(Section):
    """The OpenID Connect provider; its client secret is the top-level secret key oidcClientSecret."""

    issuer_url: str = Field(pattern=r"^https?://\S+$", examples=["https://login.example.com/"])
    client_id: str = Field(min_length=1, examples=["gloo-mesh-dashboard"])
    app_url: str = Field(pattern=r"^https?://\S+$", examples=["https://gloo-mesh.example.com"])
    """The dashboard's own address, as users open it."""
    session: SessionSettings = SessionSettings()


class DashboardSettings(Section):
    """The dashboard; leaving it open to everyone has to be written out."""

    authentication: Literal["oidc", "none"]
    oidc: OidcSettings | None = None


class AdminSubject(Section):
    """One who may edit Gloo Mesh's resources although the webhook denies everyone else."""

    kind: Literal["User", "Group", "ServiceAccount"]
    name: str = Field(min_length=1)
    namespace: DnsLabel | None = None


class RbacSettings(Section):
    """The RBAC webhook. It denies everyone but its admin subjects, the deploying identity included."""

    admin_subjects: list[AdminSubject] = Field(min_length=1, examples=["[{kind: User, name: you@example.com}]"])
