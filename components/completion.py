"""The end of a run in which something failed.

Owns the waiting for whatever doesn't need what failed. The SDK ends a program at the first resource that can't be
registered because another failed, and the engine then begins nothing more on any cluster.
"""

from typing import Any

from pulumi.runtime import settings
from pulumi.runtime.stack import ResourceRegistrationFailed, wait_for_rpcs


async def completion() -> None:
    """Return when all is registered that can be; raises ResourceRegistrationFailed then, where anything failed.

    A run that seemed to have ended well would delete what it couldn't register.
    """
    untyped: Any = settings.SETTINGS
    manager = untyped.rpc_manager
    failed: list[ResourceRegistrationFailed] = []
    while True:
        try:
            # What it has begun to wait for it doesn't wait for again.
            await wait_for_rpcs()
        except ResourceRegistrationFailed as error:
            failed.append(error)
            if isinstance(manager.unhandled_exception, ResourceRegistrationFailed):
                manager.unhandled_exception = None
        else:
            break
    if failed:
        raise failed[0]
