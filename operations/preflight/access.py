"""Whether a cluster can be entered, and if not, whose turn it is.

Owns the telling apart: a credential plugin, a login, an expired credential, a denial, silence, a stranger's TLS. A
cluster that can't be entered doesn't stop an `up`, because the others complete; a login that hangs does.
"""

import base64
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from components.connection import AccessError, HangingLoginError, LoginError, PluginMissingError
from components.settings import ClusterSettings
from components.settings import kubeconfig as kubeconfigs
from operations.api import FIRST_SECONDS, Refused, Unanswered, silence
from operations.findings import Finding, Kind

_PAGE = "access"
_STALE = "Nothing is done on this cluster: an up completes on the others and ends with an error."

PLUGIN_MISSING = Kind("credential-plugin-missing", _STALE, _PAGE, unseen=True)
LOGIN_NEEDED = Kind("login-needed", _STALE, _PAGE, unseen=True)
LOGIN_HANGS = Kind(
    "login-hangs",
    "Pulumi's plugin has no deadline for a login, so an up would wait for ever.",
    _PAGE,
    stops=True,
    unseen=True,
)
EXPIRED = Kind("credentials-expired", _STALE, _PAGE, unseen=True)
DENIED = Kind("access-denied", _STALE, _PAGE, unseen=True)
NO_ANSWER = Kind("no-answer", _STALE, _PAGE, unseen=True)
NOT_TRUSTED = Kind(
    "tls-not-trusted",
    "Something else may be listening there; no credential is sent to it, and nothing is done on this cluster.",
    _PAGE,
    unseen=True,
)
KUBECONFIG = Kind("kubeconfig-unusable", _STALE, _PAGE, unseen=True)


def finding(cluster: ClusterSettings, error: Exception) -> Finding:
    """What to say of a cluster that could not be looked at; raises what is nobody's but this program's fault."""
    if not isinstance(error, Refused | Unanswered):
        raise error
    cause = error.__cause__
    called = f"{cluster.name} (context {cluster.context})"
    look = f"{cluster.kubectl} version"
    match cause:
        case PluginMissingError():
            return PLUGIN_MISSING.found(
                cluster.name,
                f"{called} can't be entered: {error}.",
                f"Install it, or put the folder it is in on PATH; then: {look}",
            )
        case HangingLoginError():
            return LOGIN_HANGS.found(cluster.name, f"{called} can't be entered: {error}.", look)
        case LoginError():
            return LOGIN_NEEDED.found(
                cluster.name, f"{called} can't be entered: {error}.", f"Sign in again, then: {look}"
            )
        case AccessError():
            return KUBECONFIG.found(
                cluster.name, f"{called} can't be entered: {error}.", f"Mend that kubeconfig, then: {look}"
            )
        case _ if (ended := _end(cluster)) and (_status(error) == 401 or _is_tls(error)):
            return EXPIRED.found(
                cluster.name,
                f"The client certificate of {called} in {cluster.kubeconfig} ended on {ended:%Y-%m-%d %H:%M} UTC.",
                f"Bring a new kubeconfig for it, as for the first time; then: {look}",
            )
        case _ if _status(error) == 401:
            return EXPIRED.found(
                cluster.name,
                f"{called} answers 401: it doesn't know the credential in {cluster.kubeconfig}, or no longer.",
                f"Sign in again or bring a new token, then: {look}",
            )
        case _ if _status(error) == 403:
            return DENIED.found(
                cluster.name,
                f"{called} answers 403 to its first questions: {error}.",
                f"{cluster.kubectl} auth whoami; have that identity let in.",
            )
        case _ if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error)):
            return NOT_TRUSTED.found(
                cluster.name,
                f"What answers for {called} has a certificate that {cluster.kubeconfig} doesn't trust: {error}.",
                f"Bring a new kubeconfig for it; see with: {look}",
            )
        case _:
            doesnt = "" if isinstance(error, Refused) else f"doesn't answer within {FIRST_SECONDS} s: "
            return NO_ANSWER.found(cluster.name, f"{called} {doesnt}{silence(error)}.", look)


def _status(error: Exception) -> int:
    return error.status if isinstance(error, Refused) else 0


def _is_tls(error: Exception) -> bool:
    return any(isinstance(cause, ssl.SSLError) for cause in causes(error))


def _end(cluster: ClusterSettings) -> datetime | None:
    """When the kubeconfig's client certificate ended; None while it holds, and where there is none."""
    try:
        kubeconfig = kubeconfigs.read(cluster.kubeconfig, {cluster.kubeconfig.value: cluster.kubeconfig_content})
        user = kubeconfig.of("user", cluster.context) if kubeconfig else {}
        if data := user.get("client-certificate-data"):
            pem = base64.b64decode(data)
        elif path := user.get("client-certificate"):
            pem = Path(path).read_bytes()
        else:
            return None
        end = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    except (kubeconfigs.KubeconfigError, OSError, TypeError, ValueError):
        return None
    return end if end < datetime.now(UTC) else None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and whatever it came of."""
    while error is not None:
        yield error
        # urllib3 wraps what it caught, some of it as an argument alone.
        yield from (inner for inner in error.args if isinstance(inner, BaseException))
        error = error.__cause__ or error.__context__
