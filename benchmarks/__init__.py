"""The same end state by other tools, side by side on the same machine in one run."""
