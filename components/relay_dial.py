"""A first call to the relay, made before any agent makes one.

Owns the waiting for it, during a deployment; the call itself is `handshake`'s.
"""

import asyncio

import pulumi

from components.handshake import cause, shake_hands, trusting

_ATTEMPT_SECONDS = 5
_PAUSE_SECONDS = 1


async def answer(address: str, authority: str, root_pem: str, seconds: float) -> None:
    """Return once `address` (host:port) answers TLS for `authority` with a certificate under the root.

    A cloud's hostname exists minutes before it resolves, so every failure is tried again for
    `seconds`. Raises RunError with the last one.
    """
    context = trusting(root_pem)
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    said = False
    while True:
        try:
            attempt = min(_ATTEMPT_SECONDS, max(until - loop.time(), _PAUSE_SECONDS))
            await shake_hands(address, authority, context, attempt)
            return
        except OSError as error:
            why = cause(error, authority)
        if loop.time() + _PAUSE_SECONDS >= until:
            raise pulumi.RunError(
                f"The relay didn't answer at {address} within {seconds:g} s: {why}. Agents would dial it in vain. "
                "Allow more time with gloo-mesh:relay.readyWithin, or, where only the workers can reach that "
                "address, set gloo-mesh:relay.dialFromHere to false."
            )
        if not said:
            pulumi.log.info(f"Waiting up to {seconds:g} s for the relay to answer at {address}; so far {why}.")
            said = True
        await asyncio.sleep(_PAUSE_SECONDS)
