"""Where images come from: what the charts' values say about them."""

import pytest
from pydantic import ValidationError

from components.images import image_values
from components.settings.clusters import ImagesSettings


def images(**given: object) -> ImagesSettings:
    return ImagesSettings.model_validate(given)


def test_nothing_said_leaves_the_charts_own_images() -> None:
    assert image_values(ImagesSettings(), "1.2.9") == {}


def test_another_vendors_image_has_no_fips_build() -> None:
    assert image_values(images(fips=True)) == {}


def test_fips_builds_are_tagged_with_the_exact_version() -> None:
    assert image_values(images(fips=True), "1.2.9") == {"tag": "1.2.9-fips"}


def test_a_secret_that_is_called_as_the_one_that_is_made_is_refused() -> None:
    with pytest.raises(ValidationError, match="gloo-mesh-registry is what the Secret is called that this program"):
        images(pullSecret="gloo-mesh-registry")


@pytest.mark.parametrize(
    ("given", "name"), [(None, None), ("ours", "ours"), ({"secret": "registry"}, "gloo-mesh-registry")]
)
def test_a_pull_secret_is_one_that_is_there_or_the_one_that_is_made(given: object, name: str | None) -> None:
    found = images(pullSecret=given)

    assert found.pull_secret_name == name
    assert image_values(found, "1.2.9").get("pullSecret") == name


def test_a_private_registry_replaces_the_vendors() -> None:
    assert image_values(images(registry="registry.example/mesh"), "1.2.9") == {"registry": "registry.example/mesh"}
