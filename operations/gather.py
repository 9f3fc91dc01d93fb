"""A support bundle: what a stranger needs to see of a fleet, without a single secret.

Owns what is in it and how it is packed. Everything goes through one redactor, which knows every secret that can be read
from here; a bundle in which it then still finds one is not written.
"""

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import yaml
from cryptography import x509

from components import product
from components.connection import reason
from components.settings import MANAGEMENT, ClusterSettings, Settings
from operations import certificates, charts, engine, everywhere, plan, plugins, releases
from operations.api import Api, Refused, Unanswered
from operations.check import check
from operations.findings import Finding
from operations.preflight import preflight
from operations.redaction import SECRET, Redactor, looks_secret
from operations.stack import PROJECT_FOLDER, Stack, UsageError

SECONDS = 90
"""Deadline of all clusters together."""
LOG_LINES = 500
"""Of each container, the last."""
KINDS = {"pods": "/api/v1", "services": "/api/v1", "configmaps": "/api/v1", "events": "/api/v1"}
KINDS |= {"deployments": "/apis/apps/v1", "replicasets": "/apis/apps/v1"}
VENDOR = "solo.io"
"""What the API groups of the vendor's kinds end in."""
PUBLIC = ("ca.crt", "tls.crt", "namespace")
"""Keys of Secrets whose values are no secrets."""
PACKAGES = ("pulumi", "pulumi-kubernetes", "pulumi-random", "pulumi-tls", "kubernetes", "cryptography", "pydantic")
COMMANDS = {"pulumi": ["version"], "helm": ["version", "--short"]}


FINDERS: dict[str, Callable[[str, Settings], list[Finding]]] = {
    "preflight": lambda stack, settings: preflight(stack, settings).findings,
    "check": lambda stack, settings: check(stack, settings).findings,
    "certificates": lambda stack, settings: certificates.look(stack, settings).findings,
}
"""By verb, how its findings are had: all of them go in."""

T = TypeVar("T")


@dataclass
class Part:
    """What was collected in one place, secrets still in it."""

    files: dict[str, Any] = field(default_factory=dict, repr=False)
    """By path, a text or what is written as JSON."""
    missing: list[tuple[str, str]] = field(default_factory=list)
    """What could not be had, and why."""
    known: dict[str, str] = field(default_factory=dict, repr=False)
    """Secrets, each with what it is called."""

    def attempt(self, what: str, ask: Callable[[], T]) -> T | None:
        """What `ask` answers; None, and a note, where it is refused or there is none."""
        try:
            return ask()
        except Refused as refused:
            self.missing.append((what, f"{refused.status} {refused}"))
        except (UsageError, OSError, subprocess.SubprocessError) as error:
            self.missing.append((what, str(error)))
        return None


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written."""

    path: Path
    files: int
    size: int
    missing: list[tuple[str, str]]


def gather(stack: Stack, output: Path | None = None) -> Bundle:
    """Write a bundle about a stack's fleet; raises UsageError when it can't, or when a secret would be in it."""
    settings = engine.opened(stack)
    made = datetime.now(UTC)
    folder = f"gloo-mesh-{stack.name}-{made:%Y%m%d-%H%M%S}"
    path = output or Path(f"{folder}.tar.gz")
    if path.exists():
        raise UsageError(f"{path} exists; name another file with --output.")
    looked = everywhere.look(settings.clusters, lambda cluster, api: _cluster(cluster, api, settings), SECONDS)
    parts = [_here(stack, settings), *looked.seen.values()]
    missing = [entry for part in parts for entry in part.missing]
    missing += [(name, reason(error)) for name, error in looked.unseen.items()]
    redactor = Redactor({value: name for part in parts for value, name in part.known.items()})
    files = {
        redactor.text(path): redactor.text(_text(redactor.document(content))).encode()
        for part in parts
        for path, content in part.files.items()
    }
    files["manifest.json"] = redactor.text(_text(_manifest(stack, made, files, missing))).encode()
    packed = _packed(folder, files, made)
    _proved(redactor, files, packed)
    _write(path, gzip.compress(packed, mtime=0))
    return Bundle(path, len(files), path.stat().st_size, [(what, redactor.text(why)) for what, why in missing])


def _here(stack: Stack, settings: Settings) -> Part:
    """What is known on this machine."""
    part = Part()
    document = yaml.load(stack.file.read_text(), yaml.CSafeLoader)
    part.files["settings.json"] = {"config": _opaque(document.get("config", {}))}
    if made := part.attempt("plan", lambda: plan.plan(stack)):
        part.files["plan.json"] = made.report()
    part.files["versions.json"] = _versions(settings, part)
    findings = {
        verb: part.attempt(verb, lambda find=find: find(stack.name, settings)) for verb, find in FINDERS.items()
    }
    part.files["findings.json"] = {
        verb: [finding.report() for finding in found] for verb, found in findings.items() if found is not None
    }
    kubeconfigs = {f"gloo-mesh:{c.kubeconfig.value}" for c in settings.clusters if c.kubeconfig.kind == "secret"}
    # Of a kubeconfig the credentials alone are secret; they come with each cluster's.
    for key, value in (part.attempt("search for the stack's secrets", lambda: engine.secrets(stack)) or {}).items():
        if key not in kubeconfigs:
            part.known |= dict.fromkeys(_values(value), f"the secret {key}")
    for name, value in os.environ.items():
        if looks_secret(name) and not os.path.exists(value):
            part.known[value] = f"the variable {name}"
    with suppress(OSError):
        part.known[Path(os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE", "")).read_text()] = "the passphrase"
    return part


def _cluster(cluster: ClusterSettings, api: Api, settings: Settings) -> Part:
    """What is known on a cluster; as much as it answers."""
    part = Part()
    try:
        _collect(part, cluster, api, settings)
    except Unanswered as silence:
        part.missing.append((f"{cluster.name}: the rest", str(silence)))
    return part


def _collect(part: Part, cluster: ClusterSettings, api: Api, settings: Settings) -> None:
    at = f"clusters/{cluster.name}"
    own = f"{cluster.name}:"
    part.known |= dict.fromkeys(api.credentials(), f"a credential for {cluster.name}")
    part.files[f"{at}/version.json"] = part.attempt(f"{own} version", lambda: api.get("/version"))
    namespaces = [settings.namespace, *([] if cluster.name == MANAGEMENT else [product.ADDONS_NAMESPACE])]
    for namespace in namespaces:
        secrets = _items(part, f"{own} Secrets in {namespace}", api, f"/api/v1/namespaces/{namespace}/secrets")
        for secret in secrets:
            part.known |= dict(_of_secret(secret, cluster.name))
        part.files[f"{at}/{namespace}/secrets.json"] = [_facts(secret) for secret in secrets]
        part.files[f"{at}/{namespace}/releases.json"] = [
            _release(releases.unpacked(secret)) for secret in secrets if secret["type"] == "helm.sh/release.v1"
        ]
        for kind, root in KINDS.items():
            listed = _items(part, f"{own} {kind} in {namespace}", api, f"{root}/namespaces/{namespace}/{kind}")
            part.files[f"{at}/{namespace}/{kind}.json"] = listed
        found = part.attempt(f"{own} namespace {namespace}", lambda it=namespace: api.get(f"/api/v1/namespaces/{it}"))
        part.files[f"{at}/{namespace}/namespace.json"] = found
    nodes = _items(part, f"{own} nodes", api, "/api/v1/nodes")
    part.files[f"{at}/nodes.json"] = [node["status"]["nodeInfo"] for node in nodes]
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    part.files[f"{at}/crds.json"] = dict(map(_definition, _items(part, f"{own} CRDs", api, definitions)))
    for group, plural, path in _vendor_kinds(part, own, api):
        if listed := _items(part, f"{own} {plural}.{group}", api, path):
            part.files[f"{at}/{group}/{plural}.json"] = listed
    for namespace in namespaces:
        _logs(part, f"{at}/{namespace}", own, api, namespace)


def _items(part: Part, what: str, api: Api, path: str) -> list[dict[str, Any]]:
    found = part.attempt(what, lambda: api.get(path))
    return (found or {}).get("items") or []


def _vendor_kinds(part: Part, own: str, api: Api) -> Iterator[tuple[str, str, str]]:
    """Group, plural and path of every kind of the vendor's."""
    for group in (part.attempt(f"{own} API groups", lambda: api.get("/apis")) or {}).get("groups", []):
        if not group["name"].endswith(VENDOR):
            continue
        path = f"/apis/{group['preferredVersion']['groupVersion']}"
        for kind in (part.attempt(f"{own} {group['name']}", lambda it=path: api.get(it)) or {}).get("resources", []):
            if "/" not in kind["name"] and "list" in kind["verbs"]:
                yield group["name"], kind["name"], f"{path}/{kind['name']}"


def _logs(part: Part, at: str, own: str, api: Api, namespace: str) -> None:
    """The last lines of every container; one that gives none says why, and what doesn't answer isn't asked again."""
    for pod in part.files[f"{at}/pods.json"]:
        name, spec = pod["metadata"]["name"], pod["spec"]
        for container in (c["name"] for c in [*spec.get("initContainers", []), *spec["containers"]]):
            path = f"/api/v1/namespaces/{namespace}/pods/{name}/log?container={container}&tailLines={LOG_LINES}"
            what = f"{own} log of {namespace}/{name} {container}"
            if text := part.attempt(what, lambda it=path: api.text(it)):
                part.files[f"{at}/logs/{name}/{container}.log"] = text


def _of_secret(secret: Mapping[str, Any], cluster: str) -> Iterator[tuple[str, str]]:
    """The values in a Secret that are secrets, each with what it is called."""
    if secret["type"] == "helm.sh/release.v1":
        return
    for key, encoded in (secret.get("data") or {}).items():
        if key not in PUBLIC:
            name = f"{key} of Secret {secret['metadata']['name']} on {cluster}"
            yield from ((value, name) for value in _values(base64.b64decode(encoded).decode(errors="replace")))


def _values(content: str) -> Iterator[str]:
    """A secret, and where it is a document what in it is secret by its name."""
    if content.lstrip().startswith("-----BEGIN CERTIFICATE") and "PRIVATE" not in content:
        return
    yield content
    try:
        document = json.loads(content)
    except ValueError:
        return
    yield from _named(document)


def _named(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for name, inner in document.items():
            if isinstance(inner, str) and (looks_secret(name) or name == "auth"):
                yield inner
            else:
                yield from _named(inner)


def _facts(secret: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to say of a Secret."""
    keys: dict[str, Any] = {}
    for key, encoded in (secret.get("data") or {}).items():
        content = base64.b64decode(encoded)
        keys[key] = {"bytes": len(content)} | ({"certificates": found} if (found := _certificates(content)) else {})
    meta = secret["metadata"]
    told = {name: meta[name] for name in ("name", "creationTimestamp", "resourceVersion", "labels") if name in meta}
    return told | {"type": secret["type"], "keys": keys}


def _certificates(content: bytes) -> list[dict[str, Any]]:
    if b"-----BEGIN CERTIFICATE-----" not in content:
        return []
    try:
        found = x509.load_pem_x509_certificates(content)
        return [
            {
                "subject": certificate.subject.rfc4514_string(),
                "issuer": certificate.issuer.rfc4514_string(),
                "serial": f"{certificate.serial_number:x}",
                "notBefore": certificates.written(certificate.not_valid_before_utc),
                "notAfter": certificates.written(certificate.not_valid_after_utc),
                "names": _dns_names(certificate),
            }
            for certificate in found
        ]
    except ValueError:
        return [{"unreadable": True}]


def _dns_names(certificate: x509.Certificate) -> list[str]:
    with suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName)
    return []


def _release(record: Mapping[str, Any]) -> dict[str, Any]:
    """Helm's record of a revision: which values were given, never what they are."""
    objects = re.findall(
        r"^kind: *(\S+)(?:.*?)^metadata:.*?^  name: *(\S+)", record["manifest"], re.DOTALL | re.MULTILINE
    )
    return {
        "name": record["name"],
        "revision": record["version"],
        "chart": f"{record['chart']['metadata']['name']} {record['chart']['metadata']['version']}",
        **{key: record["info"].get(key) for key in ("status", "description", "first_deployed", "last_deployed")},
        "values": _redacted(record.get("config") or {}),
        "manifestSha256": hashlib.sha256(record["manifest"].encode()).hexdigest(),
        "objects": [" ".join(found) for found in objects],
    }


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _redacted(inner) for key, inner in value.items()}
    return [_redacted(inner) for inner in value] if isinstance(value, list) else "(redacted)"


def _definition(crd: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    content = json.dumps(crd["spec"], sort_keys=True).encode()
    return crd["metadata"]["name"], {
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": [version["name"] for version in crd["spec"]["versions"]],
        "stored": crd.get("status", {}).get("storedVersions", []),
    }


def _versions(settings: Settings, part: Part) -> dict[str, Any]:
    commands = {name: [name, *arguments] for name, arguments in COMMANDS.items()}
    commands["program"] = ["git", "-C", str(PROJECT_FOLDER), "describe", "--always", "--dirty"]
    return {
        **{
            name: part.attempt(f"version of {name}", lambda it=command: _said(it)) for name, command in commands.items()
        },
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in PACKAGES},
        "plugins": plugins.announcement(),
        "charts": [vars(chart) for chart in charts.locked(Path(settings.charts_folder))],
        "fleet": {cluster.name: cluster.version for cluster in settings.clusters},
    }


def _said(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        raise UsageError(f"{command[0]} is not on PATH")
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def _opaque(value: Any) -> Any:
    """A stack's configuration without what it holds encrypted."""
    if isinstance(value, dict):
        return SECRET if "secure" in value else {key: _opaque(inner) for key, inner in value.items()}
    return [_opaque(inner) for inner in value] if isinstance(value, list) else value


def _manifest(stack: Stack, made: datetime, files: Mapping[str, bytes], missing: Iterable[tuple[str, str]]) -> Any:
    return {
        "stack": stack.name,
        "made": certificates.written(made),
        "files": {path: hashlib.sha256(content).hexdigest() for path, content in sorted(files.items())},
        "missing": [{"what": what, "why": why} for what, why in missing],
    }


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, indent=1) + "\n"


def _packed(folder: str, files: Mapping[str, bytes], made: datetime) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in sorted(files.items()):
            member = tarfile.TarInfo(f"{folder}/{path}")
            member.size, member.mode, member.mtime = len(content), 0o600, int(made.timestamp())
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _proved(redactor: Redactor, files: Mapping[str, bytes], packed: bytes) -> None:
    """Raises UsageError when a secret that is known is in the bundle after all."""
    if left := redactor.found(packed):
        where = [path for path, content in files.items() if redactor.found(content)] or ["the names of files"]
        raise UsageError(
            f"Nothing is written, because the bundle would hold {', '.join(left)}, in {', '.join(where)}. That is a "
            "fault of this program: please tell its maintainers, without the value."
        )


def _write(path: Path, content: bytes) -> None:
    """For its owner alone, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.") from None
