"""The command line: `python -m operations VERB --stack S`.

A table of contents. Exit codes: 0 well, 1 something failed, was found or was refused, 2 could not look everywhere, or
broke.
"""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Iterable
from importlib import import_module

import typer

from components.settings import ConfigurationError
from operations.console import err
from operations.stack import UsageError

VERBS = {
    "plan": "plan",
    "preflight": "preflight",
    "preview": "deployment",
    "up": "deployment",
    "remove": "deployment",
    "diff": "diff",
    "check": "check",
    "certificates": "certificates",
    "recover": "recover",
    "forget": "forget",
    "gather": "gather",
    "charts": "charts",
}
"""By verb, its module in `operations.verbs`."""


def app(modules: Iterable[str] = tuple(VERBS.values())) -> typer.Typer:
    """The commands of some of the modules."""
    commands = typer.Typer(
        help="Run and look after a fleet of Gloo Mesh Enterprise.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for module in dict.fromkeys(modules):
        commands.add_typer(import_module(f"operations.verbs.{module}").app)
    return commands


def main() -> None:
    """Run the command line; what is the user's to mend is told as sentences, without a traceback."""
    # As Ctrl-C does, so that credentials in temporary files go with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Who started it by nohup wants it to outlive the terminal.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    # What the SDK loads is never garbage; looking for some in it takes a fifth of the loading.
    gc.set_threshold(100_000)
    try:
        # Loading the engine's interface takes as long as a check of a whole fleet, which doesn't need it.
        asked = [VERBS[word] for word in sys.argv[1:2] if word in VERBS]
        app(asked or VERBS.values())()
    except (UsageError, ConfigurationError) as error:
        err.print(str(error), markup=False)
        sys.exit(2)
    except OSError as error:
        # On a full disk, say; Python would try once more as it ends, and say so in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        what = error.filename or "What was found can't be written"
        err.print(f"{what}: {error.strerror}.", markup=False)
        sys.exit(2)
    except Exception:
        # Python would end with the code of a finding.
        traceback.print_exc()
        err.print("This is a fault of this program's own, and says nothing of the fleet.", markup=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
