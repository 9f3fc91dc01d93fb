"""Whether the RBAC webhook would lock the deploying identity out."""

import pytest

from components.settings.management import AdminSubject
from operations.preflight.identity import Caller, locked_out

ANN = Caller("ann", frozenset({"ops", "system:authenticated"}))
CI = Caller("system:serviceaccount:build:ci", frozenset({"system:serviceaccounts", "system:authenticated"}))
WHERE = "management (context mgmt-cluster)"


def subject(kind: str, name: str, namespace: str | None = None) -> AdminSubject:
    return AdminSubject.model_validate({"kind": kind, "name": name, "namespace": namespace})


@pytest.mark.parametrize(
    ("caller", "other"),
    [
        (ANN, subject("User", "bob")),
        (ANN, subject("User", "ops")),
        (ANN, subject("Group", "ann")),
        (CI, subject("ServiceAccount", "ci", "other")),
        (CI, subject("ServiceAccount", "build", "ci")),
        (CI, subject("User", "ci")),
    ],
)
def test_somebody_else_does_not_open_the_door(caller: Caller, other: AdminSubject) -> None:
    assert locked_out(caller, [other], WHERE)


@pytest.mark.parametrize(
    ("caller", "wanted"),
    [
        (ANN, "{kind: User, name: ann}"),
        (CI, "{kind: ServiceAccount, name: ci, namespace: build}"),
        (Caller("system:admin", frozenset()), "{kind: User, name: system:admin}"),
    ],
)
def test_a_refusal_names_identity_subjects_cluster_and_what_to_add(caller: Caller, wanted: str) -> None:
    told = " ".join(locked_out(caller, [subject("User", "bob"), subject("ServiceAccount", "cd", "build")], WHERE) or ())

    for part in (caller.user, "User bob, ServiceAccount build/cd", WHERE, f"Add {wanted}"):
        assert part in told


@pytest.mark.parametrize(
    ("caller", "offered"),
    [
        (ANN, "ops"),
        (CI, "none"),
        (Caller("ci", CI.groups | {"system:serviceaccounts:ci"}), "system:serviceaccounts:ci"),
    ],
)
def test_no_group_is_offered_that_everybody_is_in(caller: Caller, offered: str) -> None:
    _, remedy = locked_out(caller, [subject("User", "bob")], WHERE) or ("", "")

    assert remedy.endswith(f"a Group that you are in: {offered}.")


@pytest.mark.parametrize(
    ("caller", "own"),
    [
        (ANN, subject("User", "ann")),
        (ANN, subject("Group", "ops")),
        (CI, subject("ServiceAccount", "ci", "build")),
        (CI, subject("User", "system:serviceaccount:build:ci")),
        (CI, subject("Group", "system:serviceaccounts")),
    ],
)
def test_whoever_is_named_may_deploy(caller: Caller, own: AdminSubject) -> None:
    assert locked_out(caller, [subject("User", "bob"), own], WHERE) is None
