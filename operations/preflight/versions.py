"""Whether a cluster's Kubernetes can take the charts.

Owns the comparison of the API server's version with what the vendored charts ask for. The vendor's range of
supported versions is in the runbook: an up doesn't fail over it.
"""

import re
from collections.abc import Iterator

from semver import Version

from components.settings import ClusterSettings
from operations.charts import Demands
from operations.findings import Finding, Kind

_PAGE = "platform"
TOO_OLD_OR_NEW = Kind(
    "kubernetes-version", "Helm refuses a chart on a Kubernetes outside of its range.", _PAGE, stops=True
)
CRD_API = Kind("crd-api-version", "The API server no longer knows the kind of these CRDs.", _PAGE, stops=True)

V1BETA1_ENDS = Version(1, 22, 0)
_PART = re.compile(
    r"(>=|=>|<=|=<|!=|~>|[=<>~^])?\s*v?(\d+|[xX*])(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?(-[\w.-]+)?(?:\+\S+)?"
)


def findings(cluster: ClusterSettings, version: str, asked: Demands, folder: str) -> Iterator[Finding]:
    """What its chart, of a `folder` of charts, asks for and this API server's `version` hasn't."""
    called = f"{cluster.name} (context {cluster.context}) is Kubernetes {version}"
    if within(version, asked.kubernetes) is False:
        yield TOO_OLD_OR_NEW.found(
            cluster.name,
            f"{called}, and {cluster.chart} {cluster.version} asks for {asked.kubernetes}.",
            "Vendor a version of the charts that fits, and write it in gloo-mesh:version: "
            f"python -m operations charts pull VERSION --charts {folder}",
        )
    server = _version(version)
    ended = [name for name, api in asked.crds.items() if api.endswith("/v1beta1")]
    if server and server >= V1BETA1_ENDS and ended:
        yield CRD_API.found(
            cluster.name,
            f"{called}; {len(ended)} CRDs of {cluster.chart} {cluster.version} are apiextensions.k8s.io/v1beta1, which "
            f"ended with 1.22: {', '.join(sorted(ended))}.",
            "Vendor a later patch of the charts, and write it in gloo-mesh:version: "
            f"python -m operations charts pull VERSION --charts {folder}",
        )


def within(version: str, constraint: str) -> bool | None:
    """Whether Helm finds `version` in a chart's `kubeVersion`; None where it can't be said."""
    found = _version(version)
    if found is None or not constraint.strip():
        return None
    try:
        return any(_all(found, alternative) for alternative in constraint.split("||"))
    except ValueError:
        return None


def _all(version: Version, constraint: str) -> bool:
    # 1.17 - 1.23 is a range, where 1.17-0 is a pre-release.
    spread = re.sub(r"(\S+)\s+-\s+(\S+)", r">=\1 <=\2", constraint.strip())
    parts = [part for part in re.split(r"[,\s]+", re.sub(r"([<>=~^!]+)\s+", r"\1", spread)) if part]
    matches = [match for part in parts if (match := _PART.fullmatch(part))]
    if not parts or len(matches) < len(parts):
        raise ValueError(constraint)
    # Helm keeps a server's pre-release, such as 1.27.3-gke.100, out of a range in which, since 3.19, no part names one.
    if version.prerelease and not any(match[5] for match in matches):
        return False
    return all(_one(version, match) for match in matches)


def _one(version: Version, match: re.Match[str]) -> bool:
    operator, *numbers, prerelease = match.groups()
    given = [int(number) for number in _until_wildcard(numbers)]
    if not given:
        return True
    low = Version(*[*given, 0, 0][:3], prerelease=(prerelease or "-")[1:] or None)
    above = _above(low, operator or "=", given)
    # A pre-release of what comes above is above, too.
    below = version.finalize_version() < above
    match operator or "=":
        case ">=" | "=>":
            return version >= low
        case ">":
            return not below if len(given) < 3 else version > low
        case "<":
            return version < low
        case "<=" | "=<":
            return below if len(given) < 3 else version <= low
        case "!=":
            return not (low <= version and below) if len(given) < 3 else version != low
        case "=" if len(given) == 3:
            return version == low
        case _:
            return low <= version and below


def _until_wildcard(numbers: list[str | None]) -> Iterator[str]:
    for number in numbers:
        if number is None or not number.isdigit():
            return
        yield number


def _above(low: Version, operator: str, given: list[int]) -> Version:
    """The first version that a range with these numbers leaves out."""
    if operator == "^":
        if low.major:
            return Version(low.major + 1)
        return Version(0, low.minor + 1) if low.minor or len(given) < 3 else Version(0, 0, low.patch + 1)
    return Version(low.major + 1) if len(given) == 1 else Version(low.major, low.minor + 1)


def _version(text: str) -> Version | None:
    try:
        return Version.parse(text.removeprefix("v"))
    except ValueError:
        return None
