"""Who a cluster takes the caller for, and whether the RBAC webhook would lock that identity out.

Owns the question (SelfSubjectReview, authentication.k8s.io/v1, from Kubernetes 1.28 on) and the comparison with the
admin subjects. It changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.settings.management import AdminSubject

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

SECONDS = 5


@dataclass(frozen=True)
class Identity:
    """A user as an API server sees it, for admission webhooks too."""

    user: str
    groups: frozenset[str]


def identity(api: "ApiClient") -> Identity | None:
    """Whom the API server takes the caller for; None where it is too old to say. Raises what the client raises."""
    from kubernetes import client

    try:
        review: Any = client.AuthenticationV1Api(api).create_self_subject_review(
            client.V1SelfSubjectReview(), _request_timeout=SECONDS
        )
    except client.ApiException as error:
        if error.status == 404:
            return None
        raise
    info = review.status.user_info
    return Identity(info.username, frozenset(info.groups or []))


def locked_out(caller: Identity, subjects: Sequence[AdminSubject], where: str) -> str | None:
    """A sentence when none of `subjects` is the caller, whom the webhook on the cluster `where` would then deny."""
    if any(_is(caller, subject) for subject in subjects):
        return None
    return (
        f"The RBAC webhook would deny this deployment its own resources and every later change: {where} takes you for "
        f"{caller.user}, which gloo-mesh:rbac.adminSubjects ({', '.join(map(_named, subjects))}) don't hold. Add "
        f"{_subject(caller.user)} to them, or a Group that you are in: {', '.join(sorted(caller.groups)) or 'none'}."
    )


def _is(caller: Identity, subject: AdminSubject) -> bool:
    if subject.kind == "Group":
        return subject.name in caller.groups
    return caller.user == (subject.name if subject.kind == "User" else _account(subject))


def _account(subject: AdminSubject) -> str:
    """A ServiceAccount's user name (Kubernetes documentation: authenticating)."""
    return f"system:serviceaccount:{subject.namespace}:{subject.name}"


def _named(subject: AdminSubject) -> str:
    return f"{subject.kind} {subject.namespace + '/' if subject.namespace else ''}{subject.name}"


def _subject(user: str) -> str:
    """A user's name as an admin subject."""
    match user.split(":"):
        case ["system", "serviceaccount", namespace, name]:
            return f"{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}"
        case _:
            return f"{{kind: User, name: {user}}}"
