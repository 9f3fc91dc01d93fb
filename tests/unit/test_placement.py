"""What the addons' post-renderer does to manifests."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import product
from components.placement import placed
from operations.stack import PROJECT_FOLDER

OTHER = '# Source: x.yaml\nkind: Service\nmetadata: {name: redis}   # as it is: "on", 0644\n'
PLACEMENT = {
    "nodeSelector": {"pool": "mesh"},
    "tolerations": [{"key": "mesh", "operator": "Exists"}],
    "registry": "registry.example/mesh",
    "pullSecret": "ours",
}


def deployment(name: str, image: str, placement: object = None) -> str:
    pod: dict[str, Any] = {"metadata": {}, "spec": {"containers": [{"name": name, "image": image}]}}
    if placement:
        pod["metadata"]["annotations"] = {product.PLACEMENT_ANNOTATION: json.dumps(placement), "kept": "yes"}
    return yaml.safe_dump({"kind": "Deployment", "metadata": {"name": name}, "spec": {"template": pod}})


def manifests(placement: object) -> str:
    """As Helm hands them over."""
    documents = [
        OTHER,
        deployment("rate-limiter", "docker.io/soloio/rate-limiter:0.4.3", placement),
        deployment("redis", "docker.io/redis:5"),
        deployment("somebody-elses", "docker.io/else:1"),
    ]
    return "".join(f"---\n{document}" for document in documents)


def pods(text: str) -> dict[str, dict[str, Any]]:
    documents = [document for document in yaml.safe_load_all(text) if document]
    return {d["metadata"]["name"]: d["spec"]["template"] for d in documents if d["kind"] == "Deployment"}


def test_manifests_without_the_annotation_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing is installed without its placement"):
        placed(manifests(None))


def test_every_addon_is_placed_and_nobody_else() -> None:
    found = pods(placed(manifests(PLACEMENT)))

    for addon, image in {"rate-limiter": "rate-limiter:0.4.3", "redis": "redis:5"}.items():
        spec = found[addon]["spec"]
        assert spec["nodeSelector"] == {"pool": "mesh"}
        assert spec["tolerations"] == [{"key": "mesh", "operator": "Exists"}]
        assert spec["imagePullSecrets"] == [{"name": "ours"}]
        assert spec["containers"][0]["image"] == f"registry.example/mesh/{image}"
    assert found["somebody-elses"] == pods(manifests(PLACEMENT))["somebody-elses"]


def test_what_is_already_there_stays() -> None:
    text = manifests({"nodeSelector": {"pool": "mesh"}}).replace(
        "spec:\n      containers:", "spec:\n      nodeSelector: {kubernetes.io/os: linux}\n      containers:"
    )

    redis = pods(placed(text))["redis"]["spec"]
    assert redis["nodeSelector"] == {"kubernetes.io/os": "linux", "pool": "mesh"}
    assert redis["containers"][0]["image"] == "docker.io/redis:5"


def test_everything_else_passes_to_the_letter() -> None:
    text = placed(manifests(PLACEMENT))

    assert text.startswith(f"---\n{OTHER}---\n")
    assert product.PLACEMENT_ANNOTATION not in text
    assert pods(text)["rate-limiter"]["metadata"]["annotations"] == {"kept": "yes"}


@pytest.mark.parametrize("given", [None, str(PROJECT_FOLDER / ".venv/bin/python")])
def test_helm_starts_it_by_its_path_in_any_folder(given: str | None, tmp_path: Path) -> None:
    if not (PROJECT_FOLDER / ".venv/bin/python").exists():
        pytest.skip("Pulumi.yaml's virtual environment, .venv, isn't there.")
    environment = {key: value for key, value in os.environ.items() if key != "GLOO_MESH_PYTHON"}
    done = subprocess.run(
        [PROJECT_FOLDER / product.POST_RENDERER],
        cwd=tmp_path,
        env=environment | ({"GLOO_MESH_PYTHON": given} if given else {}),
        input=manifests(PLACEMENT),
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == placed(manifests(PLACEMENT))


def test_a_refusal_is_a_sentence_on_stderr() -> None:
    if not (PROJECT_FOLDER / ".venv/bin/python").exists():
        pytest.skip("Pulumi.yaml's virtual environment, .venv, isn't there.")
    done = subprocess.run(
        [PROJECT_FOLDER / product.POST_RENDERER], input=manifests(None), capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "extraTemplateAnnotations" in done.stderr
