"""The values of the management plane's release, from the configuration.

Owns what the configuration means in the vendor's chart. What isn't configured isn't written, so that the chart's
own defaults hold; what is passed through comes last.
"""

from functools import reduce

import pulumi

from components import product
from components.images import image_values
from components.release import annotated, checksum
from components.secrets import Reveal
from components.settings import Settings
from components.settings.clusters import layered
from components.settings.faults import LICENSE_KEY, OIDC_CLIENT_SECRET
from components.settings.fields import Values
from components.settings.values import filled


def management_values(settings: Settings, trust: pulumi.Input[str], reveal: Reveal) -> Values:
    """Plain dicts with Outputs at the leaves only: an Output further up would make all of it secret.

    `trust` changes with the certificates and tokens that pods mount.
    """
    cluster = settings.management_cluster
    parts = [
        _fleet(settings, trust, reveal),
        _options(settings),
        _dashboard(settings, reveal),
        _rbac(settings, reveal),
        *_images(settings),
        *(_openshift() if cluster.platform == "openshift" else []),
        filled(settings.values.management, reveal),
    ]
    return reduce(layered, parts)


def _fleet(settings: Settings, trust: pulumi.Input[str], reveal: Reveal) -> Values:
    """What every fleet has."""
    domain = settings.management_cluster.cluster_domain
    annotations = settings.relay.annotations
    licence, oidc = reveal(LICENSE_KEY), settings.dashboard.oidc
    # Whether the dashboard reads these again while it runs, the vendor doesn't say.
    login = [reveal(OIDC_CLIENT_SECRET), oidc.model_dump_json()] if oidc else []
    return {
        "licenseKey": licence,
        "enterprise-networking": {
            # The chart would otherwise make a PKI and tokens of its own and overwrite ours.
            "selfSigned": False,
            "glooMeshOperatorArgs": {"settingsRef": {"namespace": settings.namespace}},
            "enterpriseNetworking": {
                "serviceType": settings.relay.service_type,
                **({"serviceOverrides": {"metadata": {"annotations": annotations}}} if annotations else {}),
                "deploymentOverrides": annotated(checksum(trust, licence)),
            },
        },
        "gloo-mesh-ui": {
            "dashboard": {"deploymentOverrides": annotated(checksum(trust, licence, *login))},
            "relayClientAuthority": settings.authority,
            "networkingAdminAddress": product.ADMIN_ADDRESS.format(namespace=settings.namespace, domain=domain),
        },
    }


def _options(settings: Settings) -> Values:
    management = settings.management
    networking: Values = {}
    if settings.pki.per_worker:
        networking["disableRelayCa"] = True
    if management.disallow_intersecting_config:
        networking["disallowIntersectingConfig"] = True
    if not management.prometheus:
        networking["metricsBackend"] = {"prometheus": {"enabled": False}}
    if resources := management.resources.model_dump(exclude_defaults=True):
        networking["enterpriseNetworking"] = {"resources": resources}
    return {"enterprise-networking": networking}


def _dashboard(settings: Settings, reveal: Reveal) -> Values:
    oidc = settings.dashboard.oidc
    if oidc is None:
        return {}
    session: Values = {"backend": oidc.session.store}
    own_redis = oidc.session.store == "redis" and not oidc.session.host
    if oidc.session.store == "redis":
        domain = settings.management_cluster.cluster_domain
        own = product.REDIS_ADDRESS.format(namespace=settings.namespace, domain=domain)
        session["redis"] = {"host": oidc.session.host or own}
    return {
        "gloo-mesh-ui": {
            "auth": {
                "enabled": True,
                "backend": "oidc",
                "oidc": {
                    "clientId": oidc.client_id,
                    # As it is; the chart encodes it and keeps it in the Secret named here.
                    "clientSecret": reveal(OIDC_CLIENT_SECRET),
                    "clientSecretRef": {"name": product.DASHBOARD_SECRET, "namespace": settings.namespace},
                    "issuerUrl": oidc.issuer_url,
                    "appUrl": oidc.app_url,
                    "session": session,
                },
            },
            **({"redis": {"enabled": True}} if own_redis else {}),
        }
    }


def _rbac(settings: Settings, reveal: Reveal) -> Values:
    if settings.rbac is None:
        return {}
    subjects = [subject.model_dump(exclude_none=True) for subject in settings.rbac.admin_subjects]
    restarts = annotated(checksum(reveal(LICENSE_KEY)))
    webhook: Values = {"enabled": True, "adminSubjects": subjects, "rbacWebhook": {"deploymentOverrides": restarts}}
    return {"rbac-webhook": webhook}


def _images(settings: Settings) -> list[Values]:
    images = settings.management_cluster.images
    own, others = image_values(images, settings.version), image_values(images)
    values = [_at(f"{container}.image", own) for container in product.CONTAINERS if own]
    values += [_at(f"{product.REDIS_CONTAINER}.image", others)] if others else []
    if images.registry:
        values += [
            _at(f"{path}.image.repository", f"{images.registry}/{name}")
            for path, name in product.PROMETHEUS_IMAGES.items()
        ]
    if name := images.pull_secret_name:
        values.append(_at("enterprise-networking.prometheus.imagePullSecrets", [{"name": name}]))
    return values


def _openshift() -> list[Values]:
    """OpenShift gives each namespace user ids of its own and refuses the charts' fixed ones."""
    floating = [_at(f"{container}.floatingUserId", True) for container in product.FLOATING_USERS]
    return [*floating, _at("enterprise-networking.prometheus.server.securityContext", False)]


def _at(path: str, value: object) -> Values:
    """A value at a dotted path."""
    first, _, rest = path.partition(".")
    return {first: _at(rest, value) if rest else value}
