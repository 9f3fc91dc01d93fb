"""One `pulumi up` of a stack on the lab, without preview and refresh: what the benchmark times.

    python -m benchmarks.up STACK FILE WORKERS

It brings a fleet up, too, where a test looks at something else.
`operations up` always previews; the shell flow doesn't, so this is the like of it.
"""

import sys

from operations import engine


def main() -> None:
    """Bring the stack up; the engine's own output goes to stderr when it fails."""
    name, file, workers = sys.argv[1:]
    stack = engine.select(name)
    stack.up(
        config_file=file,
        parallel=engine.parallel(int(workers)),
        continue_on_error=True,
        color="never",
        suppress_outputs=True,
        show_secrets=False,
    )


if __name__ == "__main__":
    main()
