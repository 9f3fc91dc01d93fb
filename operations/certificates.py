"""The fleet's certificates and its licence: when each ends, who renews it, and from when on.

Owns reading them: live from every cluster, and from the fleet's record where a cluster doesn't answer. Of each Secret
only the certificate is kept. Whether a certificate is the right one is `check`'s question.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from components import product
from components.connection import reason
from components.settings import MANAGEMENT, ClusterSettings, Settings, pem
from operations import everywhere, licence, renewals
from operations.api import Api
from operations.findings import Finding, Kind
from operations.record import Record
from operations.renewals import CLIENT, ROOT, SIGNING, Renewal
from operations.stack import UsageError, command

SECONDS = 20
"""Deadline of looking at a cluster, its login aside."""

EXPIRED = Kind("certificate-expired", "Whoever verifies it refuses the connection it is shown on.", "expiry")
DUE = Kind("certificate-due", "It ends soon, and should have been renewed by now.", "expiry")
UNREADABLE = Kind("certificate-unreadable", "Nobody can say when it ends, and its users may not start.", "expiry")
UNSEEN = Kind(
    "expiry-unseen", "What ends on a cluster that isn't looked at ends without a warning.", "expiry", unseen=True
)
LICENCE_EXPIRED = Kind("licence-expired", "The vendor's pods need a licence that is in force.", "expiry")
LICENCE_DUE = Kind("licence-due", "A new licence comes from the vendor, which takes its time.", "expiry")
LICENCE_UNREADABLE = Kind("licence-unreadable", "The vendor's pods find no licence.", "expiry")


@dataclass(frozen=True)
class Certificate:
    """One certificate in one cluster."""

    cluster: str
    name: str
    secret: str
    end: datetime
    opens: datetime
    """From when on it is to be renewed."""
    renewal: Renewal
    sha256: str
    live: bool
    """Whether it was read from its cluster; else all that is known is the record's."""
    recorded: bool | None
    """Whether the fleet's record has the same; None where it has none of the name, or wasn't read."""

    def report(self, now: datetime) -> dict[str, Any]:
        """For machines."""
        return {
            "cluster": self.cluster,
            "certificate": self.name,
            "secret": self.secret,
            "notAfter": pem.rfc3339(self.end),
            "daysLeft": days_left(self.end, now),
            "renewalOpens": pem.rfc3339(self.opens),
            "renewal": self.renewal,
            "sha256": self.sha256,
            "live": self.live,
            "recorded": self.recorded,
        }


@dataclass(frozen=True)
class Licence:
    """The licence on the management cluster."""

    end: datetime | None
    """None where it has no date in it."""

    def report(self, now: datetime) -> dict[str, Any]:
        """For machines."""
        if self.end is None:
            return {"notAfter": None, "daysLeft": None}
        return {"notAfter": pem.rfc3339(self.end), "daysLeft": days_left(self.end, now)}


@dataclass
class Expiry:
    """Everything that ends, the most urgent first."""

    at: datetime
    certificates: list[Certificate] = field(default_factory=list)
    licence: Licence | None = None
    findings: list[Finding] = field(default_factory=list)
    answered: dict[str, bool] = field(default_factory=dict)
    """By cluster, whether it could be looked at."""


@dataclass(frozen=True)
class _Seen:
    """What one cluster holds: of each Secret the certificate, None where there is no such Secret or key."""

    pems: Mapping[str, str | None]
    """By the certificate's name."""
    licence: str | None = field(default=None, repr=False)
    record: Record | None = None


def look(stack: str, settings: Settings) -> Expiry:
    """Read every certificate and the licence of a stack's fleet; raises UsageError where nothing is deployed."""
    looked = everywhere.look(settings.clusters, lambda cluster, api: _seen(cluster, api, settings.namespace), SECONDS)
    found = Expiry(
        datetime.now(UTC), answered={cluster.name: cluster.name in looked.seen for cluster in settings.clusters}
    )
    management = looked.seen.get(MANAGEMENT)
    fleet = _Fleet(stack, settings, management.record if management else None, found.at)
    if fleet.record:
        found.findings += fleet.record.of_another(stack, "certificates")
    if management and not fleet.record and not any(management.pems.values()):
        raise UsageError(
            f"Nothing of {stack} is deployed yet: {MANAGEMENT} has no {product.FLEET_CONFIG_MAP} and no certificate in "
            f"namespace {settings.namespace}. Deploy it with: {fleet.up}"
        )
    for cluster in settings.clusters:
        if cluster.name in looked.seen:
            found.certificates += fleet.certificates(cluster, looked.seen[cluster.name], found.findings)
        else:
            found.certificates += fleet.remembered(cluster)
            found.findings.append(fleet.unseen(cluster, looked.unseen[cluster.name]))
    found.certificates.sort(key=lambda certificate: (certificate.end, certificate.name))
    if management:
        found.licence = Licence(licence.end(management.licence)) if management.licence else None
        found.findings += fleet.licence_faults(found.licence)
    return found


def days_left(end: datetime, now: datetime) -> int:
    """Whole days until an end; negative after it."""
    return (end - now).days


def _seen(cluster: ClusterSettings, api: Api, namespace: str) -> _Seen:
    def content(secret: str, key: str) -> str | None:
        found = api.get(f"/api/v1/namespaces/{namespace}/secrets/{secret}")
        value = ((found or {}).get("data") or {}).get(key)
        return base64.b64decode(value).decode(errors="replace") if value else None

    pems = {name: content(*place) for name, place in renewals.places(cluster).items()}
    if cluster.name != MANAGEMENT:
        return _Seen(pems)
    return _Seen(pems, content(product.LICENSE_SECRET, product.LICENSE_SECRET_KEY), Record.read(api, namespace))


@dataclass(frozen=True)
class _Fleet:
    """What is known of a fleet beside its Secrets."""

    stack: str
    settings: Settings
    record: Record | None
    now: datetime

    @property
    def up(self) -> str:
        return command("up", self.stack)

    def certificates(self, cluster: ClusterSettings, seen: _Seen, told: list[Finding]) -> Iterator[Certificate]:
        """What a cluster holds; what is wrong with it is `told`."""
        for name, (secret, key) in renewals.places(cluster).items():
            text, known = seen.pems[name], self._known(cluster, name)
            where = f"{key} of Secret {secret} in namespace {self.settings.namespace}"
            restored = renewals.restored(self.stack, self.settings, cluster, name)
            if text is None:
                if known or self._existing(name):
                    told.append(UNREADABLE.found(cluster.name, f"{where} is not there.", restored))
                continue
            try:
                begin, end = pem.lifetime(pem.as_read(text, key, where), where)
            except ValueError as error:
                told.append(UNREADABLE.found(cluster.name, str(error), restored))
                continue
            same = known is not None and known["sha256"] in pem.fingerprints(text)
            certificate = Certificate(
                cluster=cluster.name,
                name=name,
                secret=secret,
                end=end,
                opens=renewals.opens(name, begin, end),
                renewal=renewals.by(self.settings, name),
                sha256=known["sha256"] if known and same else pem.fingerprint(text),
                live=True,
                recorded=same if known else None,
            )
            told += self._due(certificate, cluster)
            yield certificate

    def remembered(self, cluster: ClusterSettings) -> Iterator[Certificate]:
        """What the record says of a cluster that doesn't answer."""
        for name, (secret, _) in renewals.places(cluster).items():
            if known := self._known(cluster, name):
                end = datetime.fromisoformat(known["notAfter"])
                opens, renewal = end - renewals.soon(name), renewals.by(self.settings, name)
                yield Certificate(cluster.name, name, secret, end, opens, renewal, known["sha256"], False, None)

    def unseen(self, cluster: ClusterSettings, error: Exception) -> Finding:
        what = f"{cluster.name} (context {cluster.context}) could not be looked at: {reason(error)}."
        return UNSEEN.found(cluster.name, what, f"{cluster.kubectl} get --raw /readyz")

    def licence_faults(self, found: Licence | None) -> Iterator[Finding]:
        renew = f"pulumi config set --secret gloo-mesh:licenseKey --stack {self.stack} < FILE; then: {self.up}"
        if found is None:
            if self.record:
                where = f"{product.LICENSE_SECRET_KEY} of Secret {product.LICENSE_SECRET}"
                helm = f"{self.settings.management_cluster.helm} -n {self.settings.namespace}"
                again = f"{helm} history {product.MANAGEMENT_RELEASE}; then, to the last of these: "
                again += f"{helm} rollback {product.MANAGEMENT_RELEASE} REVISION"
                yield LICENCE_UNREADABLE.found(MANAGEMENT, f"{where} is not there.", again)
        elif found.end and found.end <= self.now:
            yield LICENCE_EXPIRED.found(MANAGEMENT, f"The licence ended on {found.end:%Y-%m-%d}.", renew)
        elif found.end and found.end - self.now < pem.SOON:
            left = days_left(found.end, self.now)
            yield LICENCE_DUE.found(MANAGEMENT, f"The licence ends on {found.end:%Y-%m-%d}, in {left} days.", renew)

    def _known(self, cluster: ClusterSettings, name: str) -> dict[str, str] | None:
        """What the record says of a certificate."""
        if self.record is None or cluster.name not in self.record.clusters:
            return None
        return self.record.certificates.get(renewals.recorded_as(name, cluster))

    def _existing(self, name: str) -> bool:
        """Whether somebody else's Secret should be there: of those the record knows the root alone."""
        absent = SIGNING if self.settings.pki.per_worker else CLIENT
        return self.record is not None and self.settings.pki.source == "existing" and name not in (absent, ROOT)

    def _due(self, certificate: Certificate, cluster: ClusterSettings) -> Iterator[Finding]:
        what = f"{certificate.name} in Secret {certificate.secret}"
        renew = partial(renewals.renewed, self.stack, self.settings, cluster, certificate.name)
        if certificate.end <= self.now:
            what += f" ended on {certificate.end:%Y-%m-%d}."
            yield EXPIRED.found(cluster.name, what, renew(ended=True))
        elif certificate.opens <= self.now:
            left = days_left(certificate.end, self.now)
            what += (
                f" ends on {certificate.end:%Y-%m-%d}, in {left} days; it is due since {certificate.opens:%Y-%m-%d}."
            )
            yield DUE.found(cluster.name, what, renew(ended=False))
