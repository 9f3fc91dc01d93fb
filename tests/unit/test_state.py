"""The state as a document: what is taken in, worn down or half done, and its description."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from operations import backend, state
from tests.unit.stored import document, provider, release, secret, urn


def names(of: dict[str, Any]) -> list[str]:
    return [state.name(resource["urn"]) for resource in state.entries(of)]


def test_what_exists_comes_behind_what_it_leans_on_and_nothing_stays_pending() -> None:
    before = document(provider("cluster-1"), pending=[{"type": "creating", "resource": secret("root", "cluster-1")}])
    whole = copy.deepcopy(before)
    found = secret("root", "cluster-1", dependencies=[urn("x", "gone"), urn(state.PROVIDER, "cluster-1")])

    after = state.adopted(before, [found])

    assert names(after) == ["cluster-1", "root"]
    assert state.entries(after)[1]["dependencies"] == [urn(state.PROVIDER, "cluster-1")]
    assert state.pending(after) == []
    assert before == whole, "the document that was exported was changed"


def test_what_was_being_replaced_still_has_to_go() -> None:
    old, new = secret("root", "cluster-1") | {"id": "old/root"}, secret("root", "cluster-1") | {"id": "new/root"}
    after = state.entries(state.adopted(document(provider("cluster-1"), old), [new]))

    assert [(e["id"], e.get("delete", False)) for e in after[1:]] == [("new/root", False), ("old/root", True)]


def test_what_was_deleted_to_be_replaced_is_the_new_one_alone() -> None:
    old = secret("root", "cluster-1", pendingReplacement=True)
    after = state.entries(state.adopted(document(provider("cluster-1"), old), [secret("root", "cluster-1")]))

    assert [e.get("pendingReplacement", False) for e in after[1:]] == [False]


def test_what_the_state_has_already_is_not_taken_in_twice() -> None:
    before = document(provider("cluster-1"), secret("root", "cluster-1"))

    assert names(state.adopted(before, [secret("root", "cluster-1")])) == ["cluster-1", "root"]


def test_a_release_is_taken_in_without_its_values_and_they_are_secret_when_they_are_read() -> None:
    taken = state.minimal(release("enterprise-agent", "cluster-1"))

    assert taken["inputs"]["values"] == state._SECRET | {"plaintext": "{}"}
    assert "ciphertext" not in json.dumps(taken)
    assert taken["additionalSecretOutputs"] == ["values"]


def test_a_release_that_is_half_gone_is_known_too_little_to_pass_for_unchanged() -> None:
    whole = release("enterprise-agent", "cluster-1", dependencies=["others"], outputs={"values": "ciphertext"})
    whole["inputs"]["maxHistory"] = 10

    (_, worn), (_, kept) = (
        state.entries(state.worn(document(provider("cluster-1"), whole), urns)) for urns in ({whole["urn"]}, set())
    )

    assert set(worn["inputs"]) == {"name", "namespace", "chart", "values"}
    assert (worn["id"], worn["dependencies"]) == (whole["id"], ["others"])
    assert kept == whole
    assert (state.again(worn), state.again(kept)) == (True, False)


def test_what_failed_is_half_done_until_it_is_worn() -> None:
    whole = release("enterprise-agent", "cluster-1", initErrors=["timed out"])
    whole["inputs"]["maxHistory"] = 10
    failed = document(provider("cluster-1"), whole)

    worn = state.worn(failed, state.half_done(failed))

    assert state.half_done(failed) == [whole["urn"]]
    assert state.half_done(worn) == []
    assert state.again(state.entries(worn)[-1])


def test_an_object_that_isnt_ready_is_no_release_that_failed() -> None:
    assert state.half_done(document(secret("root", "cluster-1", initErrors=["not ready"]))) == []


def test_an_object_is_taken_in_by_its_name_alone() -> None:
    whole = secret("root", "cluster-1")
    whole["inputs"]["data"] = {"ca.crt": "[secret]"}

    assert state.minimal(whole)["inputs"] == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "root", "namespace": "gloo-mesh"},
    }


def test_a_description_that_was_cut_off_is_found_of_this_stack_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".pulumi/stacks/gloo-mesh"
    folder.mkdir(parents=True)
    for name in ("prod.json", "prod.json.bak", "prod.json.gz", "other.json"):
        (folder / f"{name}.attrs").write_text("")
    (folder / "prod.json.bak.attrs").write_text("{}")
    (folder / "prod.json.gz.attrs").write_text('{"user.')
    monkeypatch.setattr(backend, "url", lambda: f"file://{tmp_path}?no_tmp_dir=true")

    assert backend.cut_off("prod") == [folder / "prod.json.attrs", folder / "prod.json.gz.attrs"]

    monkeypatch.setattr(backend, "url", lambda: "s3://bucket")
    assert backend.cut_off("prod") == []


def test_what_is_on_a_cluster_includes_a_namespace_under_the_urn_that_it_would_change_hands_to() -> None:
    one, other = (urn(f"kubernetes:core/v1:{kind}", "namespace") for kind in ("Namespace", "NamespacePatch"))

    for there, twin in ((one, other), (other, one)):
        namespace = {"urn": there, "type": "any", "provider": secret("x", "cluster-1")["provider"]}
        state_of_two = document(provider("cluster-1"), namespace, secret("root", "cluster-1"), secret("r", "cluster-2"))
        assert state.on(state_of_two, ["cluster-1"]) == [there, urn("kubernetes:core/v1:Secret", "root"), twin]
