"""The command line: `python -m operations VERB --stack S`.

A table of contents. Exit codes: 0 well, 1 something failed, was found or was refused, 2 could not look.
"""

import sys

import typer

from components.settings import ConfigurationError
from operations.console import err
from operations.stack import UsageError
from operations.verbs import certificates, charts, check, deployment, diff, forget, gather, plan, preflight, recover

app = typer.Typer(
    help="Run and look after a fleet of Gloo Mesh Enterprise.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (plan, preflight, deployment, diff, check, certificates, recover, forget, gather):
    app.add_typer(verb.app)
app.add_typer(charts.app, name="charts")


def main() -> None:
    """Run the command line; what is the user's to mend is told as sentences, without a traceback."""
    try:
        app()
    except (UsageError, ConfigurationError) as error:
        err.print(str(error), markup=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
