"""The relay's trust as it lies in the clusters: certificates against the record, tokens against each other.

Owns the look at the Secrets that this program makes, and at the certificate that an agent got from the relay. What
certificates have to be is told by the checks of supplied ones. A token is compared, and never shown.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from components import product
from components.settings import pem
from components.settings.pem import Pem, PemPair, Trust
from operations import renewals
from operations.check.view import Fleet, Secrets, View
from operations.findings import Finding, Kind

CHANGED = Kind(
    "certificate-changed",
    why="Somebody else than this program replaced it, so relay and agents may not trust each other any more.",
    page="certificates",
)
UNUSABLE = Kind(
    "certificate-unusable",
    why="The other side refuses it, at the next connection at the latest.",
    page="certificates",
)
EXPIRING = Kind(
    "certificate-expiring",
    why="Relay and agents refuse it from its end on.",
    page="certificates",
)
LOST = Kind(
    "client-certificate-missing",
    why="The agent runs on what it has in memory; when it starts anew it has to ask the relay for another.",
    page="certificates",
)
MISSING = Kind(
    "relay-secret-missing",
    why="Relay or agent finds it by its name, and doesn't start again without it.",
    page="certificates",
)
TOKEN = Kind(
    "token-differs",
    why="The relay turns away an agent that shows another token, so the worker gets no certificate from it.",
    page="certificates",
)


def management(view: View, held: Secrets) -> Iterator[Finding]:
    """Of the management cluster, whose Secrets are `held`."""
    yield from _missing(view, held)
    changed = dict(_changed(view, held))
    yield from changed.values()
    # What was replaced is told once.
    sound = {secret: content for secret, content in held.items() if secret not in changed}
    yield from _unusable(view, pem.faults(_trust(view, sound)))
    yield from _expiring(view, sound, renewals.places(view.cluster))


def worker(view: View, held: Secrets) -> Iterator[Finding]:
    """Of a worker, whose Secrets are `held`."""
    yield from _missing(view, held)
    changed = dict(_changed(view, held))
    yield from changed.values()
    token = held.get(product.RELAY_TOKEN_SECRET, {}).get("token")
    wanted = view.fleet.trust.get(product.RELAY_TOKEN_SECRET, {}).get("token")
    if not view.fleet.settings.pki.per_worker and token and wanted and token != wanted:
        yield TOKEN.found(
            view.name,
            f"Secret {product.RELAY_TOKEN_SECRET} in namespace {view.namespace} holds another token than the "
            "management cluster's.",
            view.fleet.up,
        )
    client = held.get(product.RELAY_CLIENT_SECRET, {}).get("tls.crt")
    root = _root(view.fleet.trust)
    if client and root and product.RELAY_CLIENT_SECRET not in changed:
        # The relay may hand out a certificate without that of the authority that signed it.
        signing = view.fleet.trust.get(product.RELAY_SIGNING_SECRET, {}).get("tls.crt", "")
        name = f"tls.crt of Secret {product.RELAY_CLIENT_SECRET} in namespace {view.namespace}"
        shown = Pem(name, client.rstrip("\n") + "\n" + signing)
        pair = PemPair(shown, _key(held, product.RELAY_CLIENT_SECRET))
        trust = Trust(authority="", root=root, clients={view.name: pair})
        # The root's own faults are the management cluster's.
        told = set(pem.faults(Trust(authority="", root=root)))
        yield from _unusable(view, (fault for fault in pem.faults(trust) if fault not in told))
        yield from _expiring(view, held, [renewals.CLIENT])


def lost(fleet: Fleet, workers: Iterable[str]) -> Iterator[Finding]:
    """Of `workers`, whose agents are connected: that the certificate they are connected with is kept nowhere."""
    known = {worker.name: worker for worker in fleet.settings.worker_clusters}
    for name in sorted(workers):
        again = f"{known[name].kubectl} -n {fleet.settings.namespace} rollout restart deployment"
        what = (
            f"The agent is connected, and there is no Secret {product.RELAY_CLIENT_SECRET} for it to start with again."
        )
        yield LOST.found(name, what, f"{again} {product.AGENT_DEPLOYMENT}")


def _missing(view: View, held: Secrets) -> Iterator[Finding]:
    for name, keys in view.fleet.settings.pki.secrets(bool(view.worker)).items():
        lacking = [key for key in keys if not held.get(name, {}).get(key)]
        if lacking:
            called = f"Secret {name} in namespace {view.namespace}"
            what = f"{called} has no {', '.join(lacking)}." if name in held else f"There is no {called}."
            yield MISSING.found(view.name, what, _restored(view, name))


def _restored(view: View, secret: str) -> str:
    for certificate, (of, _) in renewals.PLACES.items():
        if of == secret:
            return renewals.restored(view.fleet.stack, view.fleet.settings, view.cluster, certificate)
    # A token.
    return view.fleet.up


def _changed(view: View, held: Secrets) -> Iterator[tuple[str, Finding]]:
    """What isn't as the record has it, with its Secret's name; existing certificates are on no record."""
    record, here = view.fleet.record, renewals.places(view.cluster)
    places = [(renewals.recorded_as(name, view.cluster), *place) for name, place in here.items()]
    if not view.worker:
        # The root lies beside each certificate, too.
        places += [(renewals.ROOT, secret, "ca.crt") for name, (secret, _) in here.items() if name != renewals.ROOT]
    for name, secret, key in places:
        known = record.certificates.get(name) if record else None
        content = held.get(secret, {}).get(key)
        if known and content is not None and known["sha256"] not in pem.fingerprints(content):
            what = f"{key} of Secret {secret} in namespace {view.namespace} isn't the {name} of the fleet's record."
            yield secret, CHANGED.found(view.name, what, view.fleet.up)


def _trust(view: View, held: Secrets) -> Trust:
    """The management cluster's certificates, by what they have to be."""
    pairs = {
        secret: PemPair(Pem(f"tls.crt of Secret {secret}", held[secret]["tls.crt"]), _key(held, secret))
        for secret in (product.RELAY_SERVER_SECRET, product.RELAY_SIGNING_SECRET)
        if held.get(secret, {}).get("tls.crt")
    }
    return Trust(
        authority=view.fleet.settings.authority,
        root=_root(held),
        server=pairs.get(product.RELAY_SERVER_SECRET),
        signing=pairs.get(product.RELAY_SIGNING_SECRET),
    )


def _key(held: Secrets, secret: str) -> Pem | None:
    """A certificate's private key, which pods read no sooner than they start again."""
    content = held.get(secret, {}).get("tls.key")
    return Pem(f"tls.key of Secret {secret}", content) if content else None


def _root(held: Secrets) -> Pem | None:
    """The root, as agents read it."""
    name = f"ca.crt of Secret {product.RELAY_ROOT_SECRET}"
    content = held.get(product.RELAY_ROOT_SECRET, {}).get("ca.crt")
    try:
        return Pem(name, pem.first_pem(content, name)) if content else None
    except ValueError:
        return Pem(name, content or "")


def _unusable(view: View, faults: Iterable[str]) -> Iterator[Finding]:
    for fault in faults:
        # A sentence names first what it is about.
        named = [(fault.find(secret), name) for name, (secret, _) in renewals.PLACES.items() if secret in fault]
        _, certificate = min(named, default=(0, renewals.ROOT))
        # A key that was overwritten is put back by whoever made it; its certificate needn't be another.
        own = _restored(view, renewals.PLACES[certificate][0]) if fault.startswith("tls.key of") else None
        yield UNUSABLE.found(view.name, fault, own or _renewed(view, certificate, ended=True))


def _renewed(view: View, certificate: str, *, ended: bool) -> str:
    return renewals.renewed(view.fleet.stack, view.fleet.settings, view.cluster, certificate, ended=ended)


def _expiring(view: View, held: Secrets, certificates: Iterable[str]) -> Iterator[Finding]:
    """What ends soon of the certificates that are on the record; others renew themselves."""
    record = view.fleet.record
    for certificate in certificates:
        secret, key = renewals.PLACES[certificate]
        name, content = renewals.recorded_as(certificate, view.cluster), held.get(secret, {}).get(key)
        if not record or name not in record.certificates or not content:
            continue
        begin, end = pem.lifetime(pem.as_read(content, key, name), name)
        if renewals.opens(certificate, begin, end) <= datetime.now(UTC) < end:
            what = f"{key} of Secret {secret} in namespace {view.namespace} ends on {end:%Y-%m-%d}."
            yield EXPIRING.found(view.name, what, _renewed(view, certificate, ended=False))
