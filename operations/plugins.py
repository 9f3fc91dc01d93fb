"""Which provider plugins the engine will start: the real ones, or the lab's stand-ins.

Owns the sentence that opens every run. The engine looks on PATH before it looks in its plugins folder.
"""

import os
import shutil
from importlib.metadata import version
from pathlib import Path

PROVIDERS = ("kubernetes", "random", "tls")


def announcement() -> str:
    """One sentence; it never passes a stand-in off as the real thing."""
    stand_ins = [name for name in PROVIDERS if "stand-ins" in str(shutil.which(f"pulumi-resource-{name}"))]
    real = [_described(name) for name in PROVIDERS if name not in stand_ins]
    parts = [f"Provider plugins: {', '.join(real)}."] if real else []
    if stand_ins:
        parts.append(f"STAND-INS of the lab, not Pulumi's plugins: {', '.join(stand_ins)}.")
    return " ".join(parts)


def _described(name: str) -> str:
    wanted = version(f"pulumi-{name}")
    on_path = shutil.which(f"pulumi-resource-{name}")
    if on_path:
        return f"{name} from {on_path}"
    home = Path(os.environ.get("PULUMI_HOME", Path.home() / ".pulumi"))
    installed = (home / "plugins" / f"resource-{name}-v{wanted}").is_dir()
    return f"{name} {wanted}" if installed else f"{name} {wanted} (not installed: pulumi install)"
