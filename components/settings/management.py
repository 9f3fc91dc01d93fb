"""The management plane, as configured: its dashboard, who may edit, and what its release is given."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from components.settings.fields import Address, DnsLabel, Section, contradiction, matching, written

_URL = r"https?://[^\s/]\S*"
Url = Annotated[
    str,
    AfterValidator(matching(_URL, "an address is needed, such as https://login.example.com/")),
    written("URL", _URL),
]


class SessionSettings(Section):
    """Where the dashboard keeps its users' sessions."""

    store: Literal["cookie", "redis"] = "cookie"
    """In the users' cookies, or in redis."""
    host: Address | None = None
    """Of redis, host:port; the chart's own redis when not given."""

    @model_validator(mode="after")
    def _host_is_of_redis(self) -> Self:
        if self.host and self.store != "redis":
            raise contradiction("host is a redis server's, but store is cookie; write store: redis, or leave host out")
        return self


class OidcSettings(Section):
    """The OpenID Connect provider; its client secret is the top-level secret key oidcClientSecret."""

    issuer_url: Url = Field(examples=["https://login.example.com/"])
    """As the provider's discovery document names it."""
    client_id: str = Field(min_length=1, examples=["gloo-mesh-dashboard"])
    """The dashboard's client, as the provider knows it."""
    app_url: Url = Field(examples=["https://gloo-mesh.example.com"])
    """The dashboard's own address, as users open it."""
    session: SessionSettings = SessionSettings()


class DashboardSettings(Section):
    """The dashboard; leaving it open to everyone has to be written out."""

    authentication: Literal["oidc", "none"]
    """none leaves the dashboard open to whoever reaches it."""
    oidc: OidcSettings | None = None
    """The provider; needed with authentication oidc."""


class AdminSubject(Section):
    """One who may edit Gloo Mesh's resources although the webhook denies everyone else."""

    kind: Literal["User", "Group", "ServiceAccount"]
    """As in a RoleBinding's subjects."""
    name: str = Field(min_length=1)
    """As the API server authenticates it."""
    namespace: DnsLabel | None = None
    """Of a ServiceAccount."""

    @model_validator(mode="after")
    def _a_service_account_has_a_namespace(self) -> Self:
        if self.kind == "ServiceAccount" and not self.namespace:
            raise contradiction("a ServiceAccount is found by name and namespace; write its namespace too")
        if self.kind != "ServiceAccount" and self.namespace:
            raise contradiction(f"a {self.kind} belongs to no namespace; leave namespace out")
        return self


class RbacSettings(Section):
    """The RBAC webhook. It denies everyone but its admin subjects, the deploying identity included."""

    admin_subjects: list[AdminSubject] = Field(min_length=1, examples=["[{kind: User, name: you@example.com}]"])
    """Who may edit; whoever deploys has to be one of them."""
