"""Which of Pulumi's provider plugins are the real ones, and shims for those that can't be had.

A real plugin is an executable on PATH, one that came with the downloaded engine, or one in Pulumi's own
plugin folder at the version of its SDK. For each that is missing the lab writes a shim that starts its stand-in
from `lab/providers`; what a stand-in does is decided there.
"""

import os
import shutil
import sys
from pathlib import Path

from lab.toolbox import PROVIDERS, PULUMI, cache_folder

REPOSITORY = Path(__file__).parent.parent
FOLDER = "stand-ins"
HOME = "pulumi"
# Its second line is a command to the shell and a string to Python. So the process bears the plugin's name, by which
# it is told from others; in a `#!` line Python's path may be too long.
SHIM = """\
#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import runpy, sys
sys.path[0] = {repository!r}
sys.argv.insert(1, {name!r})
runpy.run_module("lab.providers", run_name="__main__")
"""


def stand_ins() -> list[str]:
    """The providers that run as stand-ins: those without a real plugin, or all when that is asked for."""
    if os.environ.get("GLOO_MESH_PROVIDERS") == "stand-in":
        return list(PROVIDERS)
    return [name for name, version in PROVIDERS.items() if not _has_plugin(name, version)]


def describe() -> str:
    """Say in one sentence for people which providers are real and which are simulated."""
    simulated = stand_ins()
    real = ", ".join(f"{name} {version}" for name, version in PROVIDERS.items() if name not in simulated)
    if not simulated:
        return f"Providers: real plugins {real}."
    also = f"; real plugins {real}" if real else ""
    return f"Providers: STAND-INS for {', '.join(simulated)} (simulated by the lab, not Pulumi's plugins){also}."


def write_shims(root: Path) -> list[Path]:
    """Put exactly the needed shims below a lab's root; the folders that belong in front of PATH."""
    folder = root / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    needed = stand_ins()
    for name in needed:
        folder.mkdir(exist_ok=True)
        shim = folder / f"pulumi-resource-{name}"
        shim.write_text(SHIM.format(python=sys.executable, repository=str(REPOSITORY), name=name))
        shim.chmod(0o755)
    return [folder] if needed else []


def make_home(root: Path) -> Path:
    """Put a home of Pulumi's own below a lab's root: its logs and logins stay there, the plugins are the user's."""
    home = root / HOME
    home.mkdir(exist_ok=True)
    link = home / "plugins"
    plugins = (_home() / "plugins").resolve()
    link.unlink(missing_ok=True)
    if plugins.is_dir():
        link.symlink_to(plugins)
    return home


def _has_plugin(name: str, version: str) -> bool:
    executable = f"pulumi-resource-{name}"
    # A PATH taken from a lab's environment file has that lab's shims on it.
    path = [entry for entry in os.get_exec_path() if Path(entry).name != FOLDER]
    places = [*path, cache_folder() / PULUMI.key("official"), _home() / f"plugins/resource-{name}-v{version}"]
    return shutil.which(executable, path=os.pathsep.join(map(str, places))) is not None


def _home() -> Path:
    return Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
