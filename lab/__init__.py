"""The lab: real Kubernetes control planes on this machine, to try the program on.

It knows nothing of the program: a deployment reaches the lab through its stack's configuration, as it reaches
a user's clusters.
"""


class LabError(Exception):
    """One sentence for the person at the terminal: what failed, and what to do next."""
