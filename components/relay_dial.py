"""A first call to the relay, made before any agent makes one.

Owns name, connection and TLS handshake from where the program runs. Nothing of the relay's own
protocol is spoken, and nothing is sent.
"""

import asyncio
import socket
import ssl

import pulumi

_ATTEMPT_SECONDS = 5
_PAUSE_SECONDS = 1


async def answer(address: str, authority: str, root_pem: str, seconds: float) -> None:
    """Return once `address` (host:port) answers TLS for `authority` with a certificate under the root.

    A cloud's hostname exists minutes before it resolves, so every failure is tried again for
    `seconds`. Raises RunError with the last one.
    """
    context = _trusting(root_pem)
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    said = False
    while True:
        try:
            async with asyncio.timeout(min(_ATTEMPT_SECONDS, max(until - loop.time(), _PAUSE_SECONDS))):
                await _shake_hands(address, authority, context)
            return
        except OSError as error:
            cause = _cause(error, authority)
        if loop.time() + _PAUSE_SECONDS >= until:
            raise pulumi.RunError(
                f"The relay didn't answer at {address} within {seconds:g} s: {cause}. Agents would dial it in vain. "
                "Allow more time with gloo-mesh:relay.readyWithin, or, where only the workers can reach that "
                "address, set gloo-mesh:relay.dialFromHere to false."
            )
        if not said:
            pulumi.log.info(f"Waiting up to {seconds:g} s for the relay to answer at {address}; so far {cause}.")
            said = True
        await asyncio.sleep(_PAUSE_SECONDS)


def _trusting(root_pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=root_pem)
    # As the agents, which are Go programs, see it: any certificate they are given is an anchor.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # OpenSSL refuses the vendor page's `*.gloo-mesh`, which agents accept. The root signs servers only here.
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    return context


async def _shake_hands(address: str, authority: str, context: ssl.SSLContext) -> None:
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context, server_hostname=authority)
    writer.transport.abort()


def _cause(error: OSError, authority: str) -> str:
    match error:
        case socket.gaierror():
            return "its name does not resolve"
        case ssl.SSLCertVerificationError():
            return (
                "what answers there is not under this fleet's root "
                f"({error.verify_message}), so something else listens there, or ends TLS on the way"
            )
        case ssl.SSLError() | ConnectionResetError() | ConnectionAbortedError():
            return f"what answers there speaks no TLS for the server name {authority}"
        case ConnectionRefusedError():
            return "the connection is refused"
        case TimeoutError():
            return "nothing answers there"
        case _:
            return error.strerror or str(error)
