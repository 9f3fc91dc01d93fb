"""A TLS handshake with the relay, as an agent would begin one.

Owns name, connection and handshake from where this runs, and what a failure means. Knows nothing of Pulumi. Nothing
of the relay's own protocol is spoken, and nothing is sent.
"""

import asyncio
import socket
import ssl

from components.settings.pem import covers


class MisnamedError(ssl.SSLCertVerificationError):
    """A certificate under the root, and for other names than the one that was asked for."""


def trusting(root_pem: str) -> ssl.SSLContext:
    """A context that trusts `root_pem` and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=root_pem)
    # As the agents, which are Go programs, see it: any certificate they are given is an anchor.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # OpenSSL refuses the vendor page's `*.gloo-mesh`, which agents accept; names are compared as they do, below.
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    return context


async def shake_hands(address: str, authority: str, context: ssl.SSLContext, seconds: float) -> None:
    """Return once `address` (host:port) has answered for `authority`; raises OSError, see `cause`."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(seconds):
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context, server_hostname=authority)
        certificate = writer.get_extra_info("peercert")
        writer.transport.abort()
    names = [name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"]
    # A company's root signs others' servers, too.
    if not any(covers(name, authority) for name in names):
        raise MisnamedError(ssl.SSL_ERROR_SSL, f"its certificate is for {', '.join(names) or 'no DNS name'}")


def cause(error: OSError, authority: str) -> str:
    """Why a handshake failed, as the end of a sentence."""
    match error:
        case socket.gaierror():
            return "its name does not resolve"
        case MisnamedError():
            return f"{error.strerror}, so something else listens there, or ends TLS on the way"
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
