"""Which version may stand beside which, and which may follow which.

Owns the order between versions, as reasons that a sentence can end in; what is deployed where is not
known here. Precedence is Semantic Versioning's (semver.org, 11), pre-releases included.
"""

from semver import Version


def skew(agent: str, management: str) -> str | None:
    """Why an agent of one version can't work for a management plane of another, and what to write; None if it can.

    The vendor releases both charts together and asks for equal versions. Behind by patches alone is what
    every upgrade passes through, one worker after the other.
    """
    ours, theirs = Version.parse(agent), Version.parse(management)
    minor = f"{theirs.major}.{theirs.minor}"
    if ours > theirs:
        return (
            f"an agent may lag behind the management plane, which is {management}, but never lead it, so write "
            f"{management}, an earlier one of {minor}, or nothing"
        )
    if (ours.major, ours.minor) != (theirs.major, theirs.minor):
        return (
            f"an agent may lag behind the management plane, which is {management}, by patches alone, so write "
            f"{management}, an earlier one of {minor}, or nothing"
        )
    return None


def is_downgrade(deployed: str, wanted: str) -> bool:
    """Whether `wanted` comes before what is deployed."""
    return Version.parse(wanted) < Version.parse(deployed)
