"""Who a cluster takes the caller for, and whether the RBAC webhook would lock that identity out.

Owns the question (SelfSubjectReview, authentication.k8s.io/v1, from Kubernetes 1.28 on) and the comparison with the
admin subjects. It changes nothing.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from components.settings import ClusterSettings
from components.settings.management import AdminSubject
from operations.api import Api, Refused
from operations.findings import Finding, Kind

_PAGE = "identity"
LOCKED_OUT = Kind(
    "locked-out",
    "The RBAC webhook would deny this deployment its own resources and every later change.",
    _PAGE,
    stops=True,
)
UNKNOWN = Kind(
    "identity-unknown", "Were it none of the admin subjects, the RBAC webhook would deny every later change.", _PAGE
)
_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@dataclass(frozen=True)
class Caller:
    """A user as an API server sees it, for admission webhooks too."""

    user: str
    groups: frozenset[str]


def identity(api: Api) -> Caller | None:
    """Whom the API server takes the caller for; None where it doesn't say, as before 1.28."""
    try:
        review = api.asked(_REVIEWS, {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
    except Refused:
        return None
    info = review["status"]["userInfo"]
    return Caller(info["username"], frozenset(info.get("groups") or []))


def findings(cluster: ClusterSettings, api: Api, subjects: Sequence[AdminSubject]) -> Iterator[Finding]:
    """Whether the webhook on the management cluster, as configured, would deny whoever runs this."""
    caller = identity(api)
    where = f"{cluster.name} (context {cluster.context})"
    if caller is None:
        yield UNKNOWN.found(
            cluster.name,
            f"{where} is Kubernetes {api.version} and doesn't say whom it takes you for.",
            f"See who you are there ({cluster.kubectl} config view --minify), and that one of "
            "gloo-mesh:rbac.adminSubjects is you.",
        )
    elif refusal := locked_out(caller, subjects, where):
        what, remedy = refusal
        yield LOCKED_OUT.found(cluster.name, what, f"{remedy} See who you are: {cluster.kubectl} auth whoami")


def locked_out(caller: Caller, subjects: Sequence[AdminSubject], where: str) -> tuple[str, str] | None:
    """What is wrong and what to write when none of `subjects` is the caller; `where` is the cluster that says so."""
    if any(_is(caller, subject) for subject in subjects):
        return None
    # Everybody is in the others, or every pod's account.
    groups = [
        group
        for group in sorted(caller.groups)
        if not re.fullmatch(r"system:(authenticated(:.*)?|serviceaccounts)", group)
    ]
    return (
        f"{where} takes you for {caller.user}, which gloo-mesh:rbac.adminSubjects ({', '.join(map(_named, subjects))}) "
        "don't hold.",
        f"Add {_subject(caller.user)} to them, or a Group that you are in: {', '.join(groups) or 'none'}.",
    )


def _is(caller: Caller, subject: AdminSubject) -> bool:
    if subject.kind == "Group":
        return subject.name in caller.groups
    # Kubernetes documentation: authenticating.
    account = f"system:serviceaccount:{subject.namespace}:{subject.name}"
    return caller.user == (subject.name if subject.kind == "User" else account)


def _named(subject: AdminSubject) -> str:
    return f"{subject.kind} {subject.namespace + '/' if subject.namespace else ''}{subject.name}"


def _subject(user: str) -> str:
    """A user's name as an admin subject."""
    match user.split(":"):
        case ["system", "serviceaccount", namespace, name]:
            return f"{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}"
        case _:
            return f"{{kind: User, name: {user}}}"
