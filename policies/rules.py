"""What must hold for a fleet: each rule a function over one resource, reporting a sentence per fault.

Owns the rules; `__main__.py` names them and says how strict they are. A sentence names the resource,
what it has and what to write instead, and never repeats a secret. From the program the rules take the
vendor's names and nothing else: they hold for what arrives at the engine, whoever made it.
"""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

import pulumi
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pulumi_policy import ReportViolation, ResourceValidationArgs

from components import product
from policies.inputs import at, known, leaves, plain_and_decoded, secret_content, wire

AUTHORITY_YEARS = 10
"""The vendor page's lifetime of the relay's root."""
LEAF_DAYS = 365
"""The strict profile's lifetime of what is no authority."""

_MANAGEMENT = "management"
"""The logical name of the management cluster's provider."""
_ON_MANAGEMENT = ("RelayPki", "ManagementPlane", "RelayExposure", "IstioGateway", "VirtualMesh", "Fleet")
_RELAY_KEYS = (product.RELAY_SERVER_SECRET, product.RELAY_SIGNING_SECRET, product.RELAY_ROOT_SECRET)

# As the engine calls those that it makes by itself, of a plugin's version.
_DEFAULT = re.compile(r"default(_.*)?")
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
# Gloo's licences and most bearer tokens are JSON web tokens (RFC 7519): a header that starts {" in base64.
_TOKEN = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*")
_SECRET_NAME = re.compile(r"(licen[sc]e[-_.]?key|password|client[-_]?secret|private[-_]?key|token)$", re.IGNORECASE)


def own_provider(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """Kubernetes resources have an explicit provider, that of the component they belong to; providers a context."""
    if args.resource_type == "pulumi:providers:kubernetes":
        lacking = [key for key in ("kubeconfig", "context") if key not in set(args.props)]
        if lacking and not _DEFAULT.fullmatch(args.name):
            report(
                f"The provider {args.name} names no {' and no '.join(lacking)}, so it follows whatever is current "
                "on the machine it runs on. Make it with connect() in components/cluster.py.",
                None,
            )
    if not args.resource_type.startswith("kubernetes:"):
        return
    provider = args.provider.name if args.provider else "default"
    if _DEFAULT.fullmatch(provider):
        report(
            f"{_described(args)} has no provider of its own and goes to whatever kube context is current. Give it, "
            "or the component above it, the provider of its cluster.",
            None,
        )
        return
    cluster = _cluster(args)
    if cluster and provider != cluster:
        report(
            f"{_described(args)} belongs to the cluster {cluster} and goes to {provider}. Leave its provider out, so "
            "that it has its component's, or name that of its cluster.",
            None,
        )


def authority_keys_on_management(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """No Secret elsewhere holds one of the relay's keys by name, or by its content a key that is no client's."""
    provider = args.provider.name if args.provider else "default"
    if not _is_kind(args, "Secret") or provider == _MANAGEMENT:
        return
    name = known(args.props, "metadata", "name")
    content = secret_content(args.props)
    keyed = "tls.key" in content or any(_PRIVATE_KEY.search(text or "") for text in content.values())
    if (name in _RELAY_KEYS and keyed) or _holds_authority(content):
        report(
            f"{_described(args)} puts a private key of the relay, or one that isn't a client's beside it, on "
            f"{provider}: who holds it may pose as the relay or let agents in. Workers get ca.crt and the token, and "
            "at most a client's own pair; leave the key out, or give the Secret the management cluster's provider.",
            None,
        )


class Secrecy:
    """Whether what must be secret is: licences, tokens, passwords, keys, and every Secret's content.

    The policy SDK unwraps secrets before it validates. It keeps them apart for remediations, which the
    engine asks first, resource by resource: `look` is one that changes nothing, `report` tells what it saw.
    """

    def __init__(self) -> None:
        self._seen: dict[str, list[str]] = {}

    def look(self, args: ResourceValidationArgs) -> None:
        """As the remediation: note where `args` has in plaintext what must be secret."""
        content = ("data", "stringData") if _is_kind(args, "Secret") else ()
        self._seen[args.urn] = [
            ".".join(path)
            for path, value in leaves(wire(args))
            if isinstance(value, str) and value and (path[0] in content or _is_secret(path, value))
        ]

    def report(self, args: ResourceValidationArgs, report: ReportViolation) -> None:
        """As the validation: one sentence for each place that was noted."""
        if args.urn not in self._seen:
            report("This rule sees nothing unless its enforcementLevel is remediate; take out the other one.", None)
        for path in self._seen.pop(args.urn, []):
            report(
                f"{_described(args)} has {path} in plaintext, which ends in the state and on screens. Read it with "
                "pulumi.Config().require_secret, or wrap it with pulumi.Output.secret.",
                None,
            )


def no_automatic_restarts(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """autoRestartPods is false in every VirtualMesh: it deletes all pods of a mesh at once (vendor page)."""
    if _is_kind(args, "VirtualMesh"):
        for path, value in leaves(args.props):
            if path[-1] == "autoRestartPods" and _is_on(value):
                report(
                    f"{_described(args)} has {'.'.join(path)}: true, which restarts every workload of the mesh at "
                    "once. Write false, and restart workloads one by one when the root changes.",
                    None,
                )


def no_insecure_connection(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """No value called `insecure` is true: global, relay, settings.relay.server of both charts, and Settings."""
    if args.resource_type.startswith("kubernetes:"):
        for path, value in leaves(args.props):
            if path[-1] == "insecure" and _is_on(value):
                report(f"{_described(args)} has {'.'.join(path)}: true, which drops TLS. Leave it out.", None)


def no_self_signed_relay(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """selfSigned is false; the chart's default is true, and its certificates would replace the program's."""
    if _is_kind(args, "Release") and _chart(args) == product.MANAGEMENT_CHART:
        value = at(args.props, "values", "enterprise-networking", "selfSigned")
        if value is not False:
            report(
                f"{_described(args)} has values.enterprise-networking.selfSigned: "
                f"{'true by default' if value is None else str(value).lower()}, so the chart overwrites the relay's "
                "certificates and tokens with its own. Write false.",
                None,
            )


def exact_charts(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """A release's chart is a local archive of an exact version that its name carries: no range, no download.

    The kubernetes plugin puts the version it found in place of a range, so the range itself is rarely seen here.
    """
    if not _is_kind(args, "Release"):
        return
    chart, version = at(args.props, "chart"), at(args.props, "version")
    exact = re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", str(version))
    remote = "://" in str(chart) or at(args.props, "repositoryOpts", "repo")
    if remote or not exact or not str(chart).endswith(f"-{version}.tgz"):
        report(
            f"{_described(args)} has chart: {chart} and version: {version}, which is no vendored archive of one exact "
            "version. Bring one with `python -m operations charts pull VERSION`, or `charts add FILE`, and write its "
            "path and version, such as ./charts/enterprise-agent-1.2.9.tgz and 1.2.9.",
            None,
        )


def protected_root(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """Root key and certificate are protected, unless the stack's configuration says `protect: false`."""
    is_root = args.resource_type == "tls:index/selfSignedCert:SelfSignedCert" or (
        args.resource_type == "tls:index/privateKey:PrivateKey" and args.name.endswith("-root-key")
    )
    if is_root and not args.opts.protect and pulumi.Config("gloo-mesh").get_bool("protect") is not False:
        report(
            f"{_described(args)} isn't protected; its loss cuts every worker off at once. Give it protect=True, or "
            "write gloo-mesh:protect: false for a stack that nobody will miss.",
            None,
        )


def injection(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """The addons' namespace is labelled for injection, the agents' and management plane's never (vendor page)."""
    if not _is_kind(args, "Namespace"):
        return
    name = at(args.props, "metadata", "name")
    labels = at(args.props, "metadata", "labels") or {}
    injected = product.injected_by(labels)
    if name == product.ADDONS_NAMESPACE and not injected:
        report(
            f"{_described(args)} has no label for injection, so the addons stay outside the mesh. Write "
            "istio-injection: enabled, or istio.io/rev with the revision.",
            None,
        )
    if name == (pulumi.Config("gloo-mesh").get("namespace") or "gloo-mesh") and injected:
        report(
            f"{_described(args)} is labelled for injection, so the fleet's control would depend on the webhook of the "
            "mesh that it controls. Take istio-injection and istio.io/rev away.",
            None,
        )


def certificate_lifetimes(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """Authorities live at most `authorityYears`, everything else `leafDays`; the policy's configuration says more."""
    hours = at(args.props, "validityPeriodHours")
    if not args.resource_type.startswith("tls:") or hours is None:
        return
    config = args.get_config()
    days, setting = config.get("leafDays", LEAF_DAYS), "leafDays"
    if at(args.props, "isCaCertificate"):
        days, setting = config.get("authorityYears", AUTHORITY_YEARS) * 365, "authorityYears"
    if hours > days * 24:
        report(
            f"{_described(args)} has validityPeriodHours: {hours:.0f}, more than the {days * 24:.0f} allowed. Write "
            f"less (pki.profile: strict does), or raise {setting} in the file given as --policy-pack-config.",
            None,
        )


def _described(args: ResourceValidationArgs) -> str:
    name = known(args.props, "metadata", "name")
    return f"{args.resource_type.rpartition(':')[2]} {args.name}" + (f" ({name})" if name else "")


def _is_kind(args: ResourceValidationArgs, kind: str) -> bool:
    """Whether it is that Kubernetes kind, or a patch of one."""
    package, _, found = args.resource_type.rpartition(":")
    return package.startswith("kubernetes:") and found.removesuffix("Patch") == kind


def _is_on(value: object) -> bool:
    """Helm and protobuf's JSON both take the word for the boolean."""
    return str(value).lower() == "true"


def _is_secret(path: tuple[str, ...], value: str) -> bool:
    text = plain_and_decoded(value)
    # A provider takes a path or the whole of a kubeconfig, which holds credentials of whatever kind.
    if path[-1] == "kubeconfig" and ("\n" in value or value.startswith("{")):
        return True
    return bool(_SECRET_NAME.search(path[-1]) or _PRIVATE_KEY.search(text) or _TOKEN.search(text))


def _chart(args: ResourceValidationArgs) -> str:
    """The chart's name, without folder, version and ending."""
    return re.sub(r"(-\d+\.\d+\.\d+.*)?(\.tgz)?$", "", PurePosixPath(str(at(args.props, "chart"))).name)


def _cluster(args: ResourceValidationArgs) -> str | None:
    """The cluster whose provider a child of one of the program's components goes through, by the component's name."""
    types, _, name = (args.opts.parent or "").rpartition("::")
    component = types.rpartition("gloo-mesh:index:")[2]
    if component in _ON_MANAGEMENT or args.resource_type.endswith(f":{product.CLUSTER_KIND}"):
        return _MANAGEMENT
    return {"WorkerCluster": name, "Addons": name.removesuffix("-addons")}.get(component)


def _holds_authority(content: Mapping[str, str | None]) -> bool:
    """Whether a private key among the PEMs is that of a certificate that may sign others, or of none among them."""
    keys: list[object] = []
    clients: list[object] = []
    authorities: list[object] = []
    for block in _PEM.finditer("\n".join(text or "" for text in content.values())):
        try:
            if block[1].endswith("PRIVATE KEY"):
                keys.append(load_pem_private_key(block[0].encode(), None).public_key())
            elif block[1] == "CERTIFICATE":
                certificate = x509.load_pem_x509_certificate(block[0].encode())
                (authorities if _may_sign(certificate) else clients).append(certificate.public_key())
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # Encrypted or damaged: nothing that could be used.
            continue
    # Where something isn't known yet, that may be the certificate.
    whole = None not in content.values()
    return any(key in authorities or (whole and key not in clients) for key in keys)


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
