"""What charts would bring, beside what is there: which releases are looked at, by what, and what is told."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.settings import ConfigurationError, Settings
from operations import decryption
from operations.api import OutOfTimeError, Refused
from operations.findings import Finding
from operations.preflight import chart_objects, collisions
from operations.preflight.chart_objects import Coming, coming
from operations.preflight.ownership import Ownership
from operations.stack import UsageError
from operations.state import RELEASE
from tests.unit.stored import record
from tests.unit.test_diff import helm
from tests.unit.test_plan import written

MANIFESTS = [
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "enterprise-agent"}},
    {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "elsewhere", "namespace": "team"}},
    {"apiVersion": "x.solo.io/v1", "kind": "Thing", "metadata": {"name": "of-a-kind-that-isnt-there"}},
]
SOMEBODYS = {"labels": {"app.kubernetes.io/managed-by": "Helm"}}
OURS = SOMEBODYS | {
    "annotations": {
        "meta.helm.sh/release-name": "enterprise-agent",
        "meta.helm.sh/release-namespace": "gloo-mesh",
    },
}


class Server:
    """An API server on which each name is taken, by an object with the same metadata."""

    version = "v1.34.4"

    def __init__(self, metadata: dict[str, Any], *records: dict[str, Any]) -> None:
        self.metadata = metadata
        self.records = records

    def left(self) -> float:
        return 10

    def get(self, _path: str, **_: str) -> Any:
        return {"items": list(self.records)}

    def collection(self, api_version: str, kind: str, namespace: str) -> str | None:
        return f"/apis/{api_version}/namespaces/{namespace}/{kind.lower()}s" if kind != "Thing" else None

    def named(self, _path: str) -> dict[str, Any]:
        return self.metadata


class Denying(Server):
    """One that lets nobody look."""

    def named(self, _path: str) -> dict[str, Any]:
        raise Refused(403, "Forbidden", "not for you")


@pytest.fixture
def encrypted(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"licenseKey": {"secure": "v1:x:y"}}


def of(encrypted: dict[str, Any], folder: Path, versions: dict[str, str]) -> Coming:
    """What comes where the state has every release, at these versions by cluster."""
    settings = Settings.parse(encrypted, ("licenseKey",))
    made = {one: versions[one[0]] for one in collisions.made(settings) if one[1] == RELEASE and one[0] in versions}
    return coming(written(encrypted, folder), settings, Ownership(versions=made))


def told(encrypted: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, server: Any) -> list[Finding]:
    """What is told of cluster-1's agent."""
    manifests = json.dumps(MANIFESTS)[1:-1].replace("}}, ", "}}\n---\n")
    script = f"[ \"$1\" = version ] && echo v3.19.0 && exit\necho '{manifests}'"
    monkeypatch.setenv("PATH", f"{Path(helm(folder, script)).parent}:{os.environ['PATH']}")
    found = of(encrypted, folder, {"management": "1.2.9", "cluster-2": "1.2.9"})
    agent = replace(found, releases=tuple(one for one in found.releases if one.name == "enterprise-agent"))
    (cluster, _) = Settings.parse(encrypted, ("licenseKey",)).worker_clusters
    return list(chart_objects.findings(cluster, server, agent))


def test_where_the_state_has_every_release_neither_helm_nor_the_program_is_run(
    encrypted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    versions = {"management": "1.2.9", "cluster-1": "1.2.9", "cluster-2": "1.2.9"}

    assert of(encrypted, tmp_path, versions) == Coming()
    missing = of(encrypted, tmp_path, versions | {"cluster-2": "1.2.8"}).missing
    assert missing is not None
    assert (missing.kind.code, missing.kind.stops) == ("objects-not-compared", False)
    assert "2 releases" in missing.what


def test_a_certificate_that_is_a_secret_is_read_as_one_or_told_as_what_cant_be_decrypted(
    encrypted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(helm(tmp_path, 'echo v3.19.0')).parent}:{os.environ['PATH']}")
    names = {
        key: {"secure": "v1:x:y"}
        for key in ("root", "serverCertificate", "serverKey", "signingCertificate", "signingKey")
    }
    pairs = {
        name: {part: {"secret": f"{name}{part.title()}"} for part in ("certificate", "key")}
        for name in ("server", "signing")
    }
    encrypted |= names | {"pki": {"source": "supplied", "root": {"secret": "root"}, **pairs}}
    settings = Settings.parse(encrypted, ("licenseKey", *names))

    def refused(*_: Any) -> Any:
        raise UsageError("Pulumi can't decrypt root: incorrect passphrase")

    monkeypatch.setattr(decryption, "certificates", refused)
    missing = coming(written(encrypted, tmp_path), settings, Ownership()).missing
    monkeypatch.setattr(decryption, "certificates", lambda *_: {"root": "no certificate"})

    assert missing is not None
    assert "can't decrypt root: incorrect passphrase" in missing.what
    with pytest.raises(ConfigurationError, match="holds no certificate that can be read"):
        coming(written(encrypted, tmp_path), settings, Ownership())


def test_the_releases_that_are_new_or_change_their_version_are_compared(
    encrypted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(helm(tmp_path, 'echo v3.19.0')).parent}:{os.environ['PATH']}")

    found = of(encrypted, tmp_path, {"management": "1.2.9", "cluster-1": "1.2.8"})

    names = ("enterprise-agent", "enterprise-agent-addons")
    assert {(one.cluster, one.name) for one in found.releases} == {
        (cluster, name) for cluster in ("cluster-1", "cluster-2") for name in names
    }


def test_objects_of_others_are_told_with_both_ways_on_for_each_namespace(
    encrypted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = told(encrypted, tmp_path, monkeypatch, Server(SOMEBODYS))

    assert {first.kind.code, second.kind.code} == {"objects-unowned"}
    assert "services/enterprise-agent" in first.what
    assert "-n gloo-mesh delete services/enterprise-agent;" in first.remedy
    assert "label -n team deployments.apps/elsewhere app.kubernetes.io/managed-by=Helm --overwrite" in second.remedy
    assert "annotate -n team deployments.apps/elsewhere meta.helm.sh/release-name=enterprise-agent" in second.remedy
    assert "--kube-version v1.34.4" in (tmp_path / "argv").read_text()


@pytest.mark.parametrize(
    "server",
    [
        Server(OURS),
        Denying(SOMEBODYS),
        Server(SOMEBODYS, record(1, manifest="\n---\n".join(map(json.dumps, MANIFESTS)))),
    ],
    ids=["marked as the release's", "not to be looked at", "in the release already"],
)
def test_nothing_is_told_of_objects_that_helm_takes(
    encrypted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    assert told(encrypted, tmp_path, monkeypatch, server) == []
    assert ("--is-upgrade" in (tmp_path / "argv").read_text()) is bool(server.records)


def test_a_time_that_runs_out_while_charts_are_rendered_is_told_as_that(
    encrypted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(Server):
        def left(self) -> float:
            raise OutOfTimeError("the time for all of it ran out")

    (finding,) = told(encrypted, tmp_path, monkeypatch, Late(SOMEBODYS))

    assert finding.kind.code == "objects-not-compared"


@pytest.mark.parametrize("script", ["echo 'Error: no such value' >&2; exit 1", "echo '{'"])
def test_a_chart_that_cant_be_rendered_stops_nothing(
    script: str, encrypted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = helm(tmp_path, f'[ "$1" = version ] && echo v3.19.0 && exit\n{script}')
    monkeypatch.setenv("PATH", f"{Path(command).parent}:{os.environ['PATH']}")
    found = of(encrypted, tmp_path, {})
    server: Any = Server(SOMEBODYS)

    (finding,) = chart_objects.findings(Settings.parse(encrypted, ("licenseKey",)).management_cluster, server, found)

    assert (finding.kind.code, finding.where, finding.kind.stops) == ("objects-not-compared", "management", False)
    assert json.loads((tmp_path / "stdin").read_text())["licenseKey"] == '{"secure": "v1:x:y"}', "nobody decrypts it"
