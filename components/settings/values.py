"""Helm values that a configuration passes through: what they may hold, and what they may not undo.

Owns the rules that values, which are laid over the program's own, would otherwise break unseen, and the secrets
they name. Sources of the rules: the vendor's production page and the charts' value reference.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, cast

from components import product
from components.settings.faults import LICENSE_KEY, PROJECT
from components.settings.fields import Values, is_encrypted

Release = Literal["management", "agent", "addons"]
FieldPath = tuple[str, ...]


def _set_by(key: str, *paths: str) -> dict[FieldPath, str]:
    return {tuple(path.split(".")): f"{PROJECT}:{key} sets it; take it out here and use that key" for path in paths}


def _fixed(reason: str, *paths: str) -> dict[FieldPath, str]:
    return {tuple(path.split(".")): f"{reason}; take it out" for path in paths}


ANYWHERE = {
    "insecure": "agents and relay speak nothing but TLS; take it out",
    "autoRestartPods": "pods restart when their owners say so (vendor page: manage certs); take it out",
    "licenseKey": f"the secret key {PROJECT}:{LICENSE_KEY} sets it; take it out",
    "sidecar.istio.io/inject": "which pods Istio injects is the charts' and the namespaces' affair; take it out",
}
"""Keys that no values may hold, at whatever depth, and why."""


def _restarts(*annotations: str) -> dict[FieldPath, str]:
    reason = "pods restart by it when what they read as they start changes; take it out"
    return {(*path.split("."), product.CHECKSUM_ANNOTATION): reason for path in annotations}


_ANNOTATIONS = "deploymentOverrides.spec.template.metadata.annotations"
_NETWORKING = "enterprise-networking"
_RELAY = f"{_NETWORKING}.enterpriseNetworking"
RULES: Mapping[Release, Mapping[FieldPath, str]] = {
    "management": {
        **_set_by("pki", f"{_NETWORKING}.selfSigned"),
        **_set_by("pki.clientCertificates", f"{_NETWORKING}.disableRelayCa"),
        **_fixed(
            "this program makes that Secret, or finds it, under the name it has",
            f"{_NETWORKING}.relayTlsSecret",
            f"{_NETWORKING}.signingTlsSecret",
            f"{_NETWORKING}.tokenSecret",
            f"{_NETWORKING}.forwardingTokenSecret",
        ),
        **_set_by(
            "namespace",
            f"{_NETWORKING}.glooMeshOperatorArgs.settingsRef.namespace",
            "gloo-mesh-ui.relayClientAuthority",
            "gloo-mesh-ui.networkingAdminAddress",
        ),
        **_fixed("the relay is what this release is for", f"{_RELAY}.enabled"),
        **_fixed("the relay's Service is found by its name", f"{_RELAY}.serviceOverrides.metadata.name"),
        **_fixed("every way to the relay leads to its port 9900", f"{_RELAY}.ports.grpc"),
        **_restarts(
            f"{_RELAY}.{_ANNOTATIONS}",
            f"gloo-mesh-ui.dashboard.{_ANNOTATIONS}",
            f"rbac-webhook.rbacWebhook.{_ANNOTATIONS}",
        ),
        **_set_by("relay.service", f"{_RELAY}.serviceType", f"{_RELAY}.serviceOverrides.spec.type"),
        **_set_by("relay.annotations", f"{_RELAY}.serviceOverrides.metadata.annotations"),
        **_set_by("management.disallowIntersectingConfig", f"{_NETWORKING}.disallowIntersectingConfig"),
        **_set_by("management.prometheus", f"{_NETWORKING}.metricsBackend.prometheus.enabled"),
        **_set_by("dashboard", "gloo-mesh-ui.auth"),
        **_set_by("dashboard.oidc.session", "gloo-mesh-ui.redis.enabled"),
        **_set_by("rbac", "rbac-webhook.enabled", "rbac-webhook.adminSubjects"),
    },
    "agent": {
        **_fixed("a worker's name is what it is called under gloo-mesh:workers", "relay.cluster"),
        **_set_by("relay.address or the worker's relayAddress", "relay.serverAddress"),
        **_set_by("namespace", "relay.authority", "settingsRef.namespace"),
        **_fixed(
            "this program makes that Secret, or finds it, under the name it has",
            "relay.rootTlsSecret",
            "relay.tokenSecret",
            "relay.clientCertSecret",
        ),
        **_fixed("the agent is what this release is for", "enterpriseAgent.enabled"),
        **_restarts(f"enterpriseAgent.{_ANNOTATIONS}"),
        **_fixed(
            "addons have a release and an injected namespace of their own",
            "rate-limiter.enabled",
            "ext-auth-service.enabled",
        ),
    },
    "addons": {
        **_fixed("the agent has a release of its own, in a namespace without injection", "enterpriseAgent.enabled"),
        **_restarts("rate-limiter.extraTemplateAnnotations", "ext-auth-service.extraTemplateAnnotations"),
    },
}
"""By release, the values that are this program's, and why."""


def undone(where: str, values: Values, release: Release) -> Iterator[str]:
    """A sentence for each of `values`, found at the key `where`, that would undo a rule of `release`."""
    for path, reason in _undone((), values, RULES[release]):
        yield f"{PROJECT}:{'.'.join([where, *path])} can't be given: {reason}."


def _undone(path: FieldPath, value: object, rules: Mapping[FieldPath, str]) -> Iterator[tuple[FieldPath, str]]:
    reason = rules.get(path) or (ANYWHERE.get(path[-1]) if path else None)
    below = [rule for rule in rules if rule[: len(path)] == path]
    if reason:
        yield path, reason
    elif below and (not isinstance(value, dict) or secret_key(cast("object", value))):
        # Anything but a mapping replaces all that is below it; null even takes the chart's defaults away.
        yield path, f"it would replace {'.'.join(below[0])}: {rules[below[0]]}"
    else:
        for key, inner in _inside(cast("object", value)):
            yield from _undone((*path, key), inner, rules)


def _inside(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        yield from ((str(key), inner) for key, inner in cast("Mapping[object, object]", value).items())
    elif isinstance(value, list):
        yield from ((str(index), inner) for index, inner in enumerate(cast("list[object]", value)))


def secret_key(value: object) -> str | None:
    """The top-level secret key that `{secret: KEY}` names; None for everything else."""
    (key, name), *more = [*_inside(value)] or [("", None)]
    return name if key == "secret" and isinstance(name, str) and not more else None


def secret_keys(value: object) -> Iterator[str]:
    """Every top-level secret key that a configuration names, at whatever depth."""
    if key := secret_key(value):
        yield key
    for _, inner in _inside(value):
        yield from secret_keys(inner)


def holds_encrypted(value: object) -> bool:
    """Whether there is anything encrypted in a value, at whatever depth."""
    return is_encrypted(value) or any(holds_encrypted(inner) for _, inner in _inside(value))


def filled(values: Values, secret: Callable[[str], object]) -> Values:
    """`values` with each `{secret: KEY}`, at whatever depth, replaced by what `secret` gives for that key."""
    return {key: _filled(value, secret) for key, value in values.items()}


def _filled(value: object, secret: Callable[[str], object]) -> object:
    if key := secret_key(value):
        return secret(key)
    if isinstance(value, dict):
        return filled(cast("Values", value), secret)
    if isinstance(value, list):
        return [_filled(inner, secret) for inner in cast("list[object]", value)]
    return value
