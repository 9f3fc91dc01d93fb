"""Vendoring charts: what goes into the folder, and what is refused."""

import io
import tarfile
import zlib
from pathlib import Path

import pytest
import yaml

from components import product
from components.charts import Charts, read_lock
from operations import charts
from operations.stack import UsageError
from tests.unit.conftest import Server

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.example"},
    "spec": {"description": "such as {{ .Values.x }}"},
}


def packed(files: dict[str, str | bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path, text in files.items():
            data = text if isinstance(text, bytes) else text.encode()
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def chart(name: str = "enterprise-agent", version: str = "1.2.9", more: dict[str, str | bytes] | None = None) -> bytes:
    files: dict[str, str | bytes] = {
        f"{name}/Chart.yaml": f"name: {name}\nversion: {version}\n",
        f"{name}/values.yaml": "relay: {}\n",
        f"{name}/charts/crds/crds/things.yaml": yaml.safe_dump(CRD),
    }
    return packed(files | {f"{name}/{path}": text for path, text in (more or {}).items()})


def damaged() -> bytes:
    """A chart whose compression goes wrong in the middle of a file."""
    files = zlib.decompress(packed({"a/Chart.yaml": "x" * 100_000}), wbits=31)
    packer = zlib.compressobj(wbits=31)
    return packer.compress(files[:50_000]) + packer.flush(zlib.Z_FULL_FLUSH) + b"\x07" * 100


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip",
        damaged(),
        packed({"a/b": "c"}),
        packed({"a/Chart.yaml": "["}),
        chart(more={"crds/x.yaml": "kind: CustomResourceDefinition\n"}),
    ],
    # An archive's bytes have the time in them, and two workers of one run must know a test by one name.
    ids=["empty", "no archive", "damaged", "no chart", "no YAML", "a CRD without a name"],
)
def test_a_file_that_is_no_chart_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.tgz is not a packed Helm chart"):
        charts.add(tmp_path, content, "x.tgz")


@pytest.mark.parametrize(
    ("name", "path", "text"),
    [
        ("enterprise-agent", "Chart.yaml", "- no mapping"),
        ("enterprise-agent-crds", charts.CRDS, "text"),
        ("enterprise-agent-crds", charts.CRDS, "kind: CustomResourceDefinition"),
        ("enterprise-agent-crds", charts.CRDS, b"\xff"),
    ],
    ids=["no mapping", "a CRD that is text", "a CRD without a name", "no text"],
)
def test_what_a_vendored_chart_that_is_broken_demands_is_refused_by_name(
    name: str, path: str, text: str | bytes, tmp_path: Path
) -> None:
    charts.add(tmp_path, chart(), "x.tgz")
    (tmp_path / f"{name}-1.2.9.tgz").write_bytes(packed({f"{name}/{path}": text}))

    with pytest.raises(UsageError, match=r"enterprise-agent-1\.2\.9\.tgz or .* is no packed chart"):
        charts.demands(Charts.load(tmp_path, "1.2.9"), "enterprise-agent")


def test_another_products_chart_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is the chart istiod"):
        charts.add(tmp_path, chart("istiod"), "x.tgz")


def test_a_download_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is version 1\.2\.9, not 1\.2\.8"):
        charts.add(tmp_path, chart(), "x.tgz", "1.2.8")


def test_a_chart_without_crds_is_refused(tmp_path: Path) -> None:
    bare = packed({"enterprise-agent/Chart.yaml": "name: enterprise-agent\nversion: 1.2.9\n"})

    with pytest.raises(UsageError, match="holds no CRDs"):
        charts.add(tmp_path, bare, "x.tgz")


def test_a_folder_that_cant_be_one_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "charts").write_text("a file")

    with pytest.raises(UsageError, match=r"charts can't be the folder of charts: File exists"):
        charts.add(tmp_path / "charts", chart(), "x.tgz")


def test_a_download_that_trickles_is_given_up_at_the_deadline(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.trickles.set()
    monkeypatch.setattr(charts, "SECONDS", 1)
    monkeypatch.setattr(product, "CHART_REPOSITORY", f"http://{server.host}")

    with pytest.raises(UsageError, match=r"can't be had \(not whole within 1 s\)"):
        charts.pull(tmp_path, "1.2.9")


def test_nothing_is_locked_when_a_chart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        charts.add(tmp_path, b"", "x.tgz")

    assert list(tmp_path.iterdir()) == []


def test_verifying_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="charts pull VERSION"):
        charts.verify(tmp_path)


def test_a_broken_lock_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "charts.lock").write_text("[")

    with pytest.raises(UsageError, match="can't be read"):
        charts.add(tmp_path, chart(), "x.tgz")


def test_an_altered_archive_is_named_by_verify(tmp_path: Path) -> None:
    charts.add(tmp_path, chart("gloo-mesh-enterprise"), "y.tgz")
    charts.add(tmp_path, chart(), "x.tgz")
    (tmp_path / "enterprise-agent-1.2.9.tgz").write_bytes(b"altered")

    (fault,) = charts.verify(tmp_path)
    assert "enterprise-agent-1.2.9.tgz was altered" in fault


def test_both_charts_added_make_a_version_complete(tmp_path: Path) -> None:
    charts.add(tmp_path, chart(), "x.tgz")
    charts.add(tmp_path, chart("gloo-mesh-enterprise"), "y.tgz")

    assert charts.verify(tmp_path) == []
    assert list(Charts.faults(tmp_path, "1.2.9")) == []


def test_pulled_charts_come_from_the_vendors_layout_and_are_locked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in product.CHARTS:
        (tmp_path / "repository" / name).mkdir(parents=True)
        (tmp_path / "repository" / name / f"{name}-1.2.9.tgz").write_bytes(chart(name))
    monkeypatch.setattr(product, "CHART_REPOSITORY", (tmp_path / "repository").as_uri())

    charts.pull(tmp_path / "charts", "1.2.9")

    assert charts.verify(tmp_path / "charts") == []
    origins = {entry.name: entry.origin for entry in read_lock(tmp_path / "charts") if entry.name in product.CHARTS}
    assert origins["enterprise-agent"].endswith("/repository/enterprise-agent/enterprise-agent-1.2.9.tgz")


def test_adding_twice_keeps_one_entry_and_the_same_digests(tmp_path: Path) -> None:
    charts.add(tmp_path, chart(), "x.tgz")
    once = read_lock(tmp_path)
    charts.add(tmp_path, chart(), "x.tgz")

    assert read_lock(tmp_path) == once


def test_other_bytes_under_a_locked_version_are_refused(tmp_path: Path) -> None:
    charts.add(tmp_path, chart(), "x.tgz")
    before = (tmp_path / "enterprise-agent-1.2.9.tgz").read_bytes()

    with pytest.raises(UsageError, match=r"is not the enterprise-agent 1\.2\.9 that was locked before"):
        charts.add(tmp_path, chart(more={"templates/x.yaml": "altered"}), "y.tgz")

    assert (tmp_path / "enterprise-agent-1.2.9.tgz").read_bytes() == before


def test_another_version_stays_beside_the_first(tmp_path: Path) -> None:
    charts.add(tmp_path, chart(), "x.tgz")
    charts.add(tmp_path, chart(version="1.2.10"), "x.tgz")

    assert {entry.version for entry in read_lock(tmp_path)} == {"1.2.9", "1.2.10"}


def test_crds_are_kept_on_delete_and_printed_without_templating(tmp_path: Path) -> None:
    charts.add(tmp_path, chart(), "x.tgz")
    with tarfile.open(tmp_path / "enterprise-agent-crds-1.2.9.tgz") as archive:
        files = {name: archive.extractfile(name).read().decode() for name in archive.getnames()}  # pyright: ignore[reportOptionalMemberAccess]
    (crd,) = yaml.safe_load_all(files["enterprise-agent-crds/files/crds.yaml"])

    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert crd["spec"] == CRD["spec"]
    assert "{{ .Values" not in files["enterprise-agent-crds/templates/crds.yaml"]


def test_crds_inside_a_packed_subchart_are_found(tmp_path: Path) -> None:
    inner = packed({"sub/crds/more.yaml": yaml.safe_dump(CRD | {"metadata": {"name": "more.example"}})})
    archive = charts.Archive.read(chart(more={"charts/sub-1.tgz": inner}), "x.tgz")

    assert {crd["metadata"]["name"] for crd in archive.crds} == {"things.example", "more.example"}


def test_default_values_are_the_vendors_text(tmp_path: Path) -> None:
    charts.add(tmp_path, chart(), "x.tgz")
    charts.add(tmp_path, chart("gloo-mesh-enterprise"), "y.tgz")

    assert charts.values(tmp_path, "enterprise-agent", "1.2.9") == "relay: {}\n"
