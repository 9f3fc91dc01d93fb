"""What was collected in one place, for a bundle, and what could not be."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from components.settings import ConfigurationError
from operations.api import Refused, Unanswered
from operations.releases import HelmError
from operations.stack import UsageError

T = TypeVar("T")


@dataclass
class Part:
    """What was collected in one place, secrets still in it."""

    files: dict[str, Any] = field(default_factory=dict, repr=False)
    """By path, a text or what is written as JSON."""
    missing: list[tuple[str, str]] = field(default_factory=list)
    """What could not be had, and why."""
    known: dict[str, str] = field(default_factory=dict, repr=False)
    """Secrets, each with what it is called."""

    def attempt(self, what: str, ask: Callable[[], T]) -> T | None:
        """What `ask` answers; None, and a note, where it is refused or there is none."""
        try:
            return ask()
        except Refused as refused:
            self.missing.append((what, f"{refused.status} {refused}"))
        except (UsageError, ConfigurationError, OSError, subprocess.SubprocessError, HelmError) as error:
            self.missing.append((what, str(error)))
        except Unanswered:
            # Whoever looks at that cluster has nothing more to ask it.
            raise
        except Exception as error:
            # Support needs the rest the more, where something is odd; of what it says nobody knows what is in it.
            self.missing.append((what, f"this program stumbled: {type(error).__name__}"))
        return None
