"""TLS on both ends, by OpenSSL with Go's rules, as the vendor's programs are written in Go.

gRPC's own TLS would not do: as a server it asks every caller for a certificate or none, and as a client it refuses
the name `*.gloo-mesh` of the vendor's pages. So gRPC runs inside, in the clear, and never leaves the machine.
"""

import asyncio
import re
import ssl
import tempfile
from pathlib import Path

BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
Pair = tuple[str, str]
"""A certificate, or chain, and its key; both PEM."""


class RefusedError(Exception):
    """One end didn't take the other for who it should be; in words for a log."""


def anchor(pem: str) -> str:
    """The one certificate that is trusted: the vendor's code reads no further than the first."""
    found = BLOCK.search(pem)
    if not found:
        raise RefusedError("ca.crt holds no certificate")
    return found[0]


def client(root: str, pair: Pair | None) -> ssl.SSLContext:
    """An agent's end: the server's chain must lead to the root; its name is checked by `named`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _trusting(context, root, pair)


def server(root: str, pair: Pair) -> ssl.SSLContext:
    """The relay's end: callers need no certificate, but if they show one it must be under the root."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _Alerting
    context.verify_mode = ssl.CERT_OPTIONAL
    return _trusting(context, root, pair)


def named(secured: ssl.SSLObject, authority: str) -> None:
    """Refuse a server whose certificate isn't for this name: by its DNS names alone, a star for one label."""
    certificate = secured.getpeercert() or {}
    names = [str(value) for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    wanted = authority.lower().split(".")
    for name in names:
        labels = name.lower().split(".")
        if labels == wanted or (labels[0] == "*" and len(labels) == len(wanted) and labels[1:] == wanted[1:]):
            return
    raise RefusedError(f"the relay's certificate is for {', '.join(names) or 'no name'}, not for {authority}")


class _Alerting(ssl.SSLObject):
    """A handshake whose failure the caller hears of: asyncio would hang up without sending the alert."""

    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self._failure:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            print(f"refused a caller: {getattr(error, 'verify_message', None) or error.reason}")
            self._failure = error
            # Whoever waits for more sends first what there is to send.
            raise ssl.SSLWantReadError from None


async def splice(
    outer: tuple[asyncio.StreamReader, asyncio.StreamWriter], inner: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Carry bytes both ways until one side ends, then end the other; the error that ended it, if one did."""
    ways = [asyncio.create_task(_copy(outer[0], inner[1])), asyncio.create_task(_copy(inner[0], outer[1]))]
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in done:
            way.result()
    finally:
        for way in ways:
            way.cancel()
        for _, writer in (outer, inner):
            writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()


def _trusting(context: ssl.SSLContext, root: str, pair: Pair | None) -> ssl.SSLContext:
    try:
        context.load_verify_locations(cadata=anchor(root))
        # To Go, any certificate it is told to trust is an anchor.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.set_alpn_protocols(["h2"])
        if pair:
            # OpenSSL wants files. They lie in the cluster's folder, and are gone as soon as it has read them.
            with tempfile.TemporaryDirectory(dir=".") as folder:
                certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
                certificate.write_text(pair[0])
                key.write_text(pair[1])
                context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise RefusedError(f"OpenSSL can't use these certificates: {error.reason or error}") from None
    return context
