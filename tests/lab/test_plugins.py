"""Which providers count as real, and how a stand-in is started in place of one that isn't."""

import os
import subprocess
from pathlib import Path

import pytest

from lab import plugins
from lab.toolbox import PROVIDERS


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any plugin."""
    monkeypatch.delenv("GLOO_MESH_PROVIDERS", raising=False)
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "pulumi"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def install(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"pulumi-resource-{name}").write_text("#!/bin/sh\n")
    (folder / f"pulumi-resource-{name}").chmod(0o755)


def install_all(home: Path) -> None:
    for name, version in PROVIDERS.items():
        install(home / f"plugins/resource-{name}-v{version}", name)


def test_a_plugin_of_another_version_than_its_sdk_is_not_used(tmp_path: Path) -> None:
    install(tmp_path / "pulumi/plugins/resource-random-v0.0.1", "random")

    assert "random" in plugins.stand_ins()


def test_a_shim_of_another_lab_on_the_path_is_no_real_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "lab/stand-ins", "tls")
    monkeypatch.setenv("PATH", f"{tmp_path}/lab/stand-ins:/usr/bin:/bin")

    assert "tls" in plugins.stand_ins()


def test_without_plugins_every_provider_is_announced_as_simulated() -> None:
    said = plugins.describe()

    assert plugins.stand_ins() == ["kubernetes", "random", "tls"]
    assert said.startswith("Providers: STAND-INS for kubernetes, random, tls (simulated")
    assert "real" not in said


def test_stand_ins_are_used_for_exactly_the_missing_plugins(tmp_path: Path) -> None:
    install_all(tmp_path / "pulumi")
    (tmp_path / f"pulumi/plugins/resource-tls-v{PROVIDERS['tls']}/pulumi-resource-tls").unlink()

    folders = plugins.write_shims(tmp_path)

    assert [shim.name for folder in folders for shim in folder.iterdir()] == ["pulumi-resource-tls"]
    assert "STAND-INS for tls (" in plugins.describe()
    assert f"real plugins kubernetes {PROVIDERS['kubernetes']}, random {PROVIDERS['random']}" in plugins.describe()


def test_an_executable_on_the_path_is_a_real_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "bin", "random")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")

    assert plugins.stand_ins() == ["kubernetes", "tls"]


def test_with_every_real_plugin_nothing_stands_in_and_old_shims_go(tmp_path: Path) -> None:
    plugins.write_shims(tmp_path)
    install_all(tmp_path / "pulumi")

    assert plugins.write_shims(tmp_path) == []
    assert not (tmp_path / "stand-ins").exists()
    assert plugins.describe() == "Providers: real plugins " + ", ".join(f"{n} {v}" for n, v in PROVIDERS.items()) + "."


def test_stand_ins_can_be_asked_for_where_the_real_plugins_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_all(tmp_path / "pulumi")
    monkeypatch.setenv("GLOO_MESH_PROVIDERS", "stand-in")

    assert plugins.stand_ins() == list(PROVIDERS)


def test_a_labs_own_home_has_the_users_plugins_also_when_made_from_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab").mkdir()
    plugins.make_home(tmp_path / "lab")
    install_all(tmp_path / "pulumi")
    monkeypatch.setenv("PULUMI_HOME", str(plugins.make_home(tmp_path / "lab")))

    plugins.make_home(tmp_path / "lab")

    assert plugins.stand_ins() == []


def test_a_shim_hands_arguments_and_streams_to_the_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "repository/lab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    told = "print(os.getpid(), Path(sys.argv[0]).name, *sys.argv[1:], sys.stdin.read())"
    (package / "providers.py").write_text(f"import os, sys; from pathlib import Path; {told}")
    monkeypatch.setattr(plugins, "REPOSITORY", tmp_path / "repository")
    [folder] = plugins.write_shims(tmp_path)

    # The working folder's own `lab` must not be taken for the library.
    (tmp_path / "lab.py").write_text("raise SystemExit(9)")
    with subprocess.Popen(
        [folder / "pulumi-resource-tls", "127.0.0.1:4321"],
        cwd=tmp_path,
        env=os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as shim:
        output, _ = shim.communicate("hello")

    assert output.split() == [str(shim.pid), "pulumi-resource-tls", "tls", "127.0.0.1:4321", "hello"]
