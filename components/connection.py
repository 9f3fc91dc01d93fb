"""A client for a cluster, for what is asked of it beside Pulumi's provider, with the same credentials.

Owns what the client library leaves out or does without a deadline: credential plugins, token files with a line's end,
proxies with a password. Whatever goes wrong is one sentence, and never repeats a credential.
"""

import atexit
import base64
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import threading
import urllib.parse
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from components import subprocesses
from components.settings import ClusterSettings
from components.settings import kubeconfig as kubeconfigs

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

LOGIN_SECONDS = 30
"""Deadline of a credential plugin; signing in through a cloud takes a few."""
CLEAR_SECONDS = 5
"""Deadline of a thread that writes a key while this process ends."""
SCRATCH = "gloo-mesh-run-"
"""What the name of a folder with temporary files begins with, before the number of the process that they are of."""

_LOADING = threading.Lock()
"""The library hands a file on to others with the same content before it has written it."""


class AccessError(Exception):
    """Why a cluster can't be entered."""


class PluginMissingError(AccessError):
    """A credential plugin that isn't installed."""


class ContextMissingError(AccessError):
    """A kubeconfig that can be read and leads to no server by that context."""


class LoginError(AccessError):
    """A login that was tried and failed: somebody has to sign in again."""


class HangingLoginError(AccessError):
    """A credential plugin that doesn't come back; Pulumi's plugin has no deadline, and would wait for ever."""


def connected(cluster: ClusterSettings) -> "ApiClient":
    """A client that tries everything once; the caller gives each request its deadline. Raises AccessError."""
    # Half a second to import, so only what reaches for clusters pays for it.
    from kubernetes import client, config
    from urllib3.util.ssl_ import create_urllib3_context

    source = cluster.kubeconfig
    try:
        kubeconfig = kubeconfigs.read(source, {source.value: cluster.kubeconfig_content})
    except kubeconfigs.KubeconfigError as error:
        raise AccessError(f"its kubeconfig is {source}; {error}") from None
    if kubeconfig is None:
        raise AccessError(f"its kubeconfig is {source}, which isn't decrypted here")
    server, user = kubeconfig.of("cluster", cluster.context), kubeconfig.of("user", cluster.context)
    if not server.get("server"):
        raise ContextMissingError(f"its kubeconfig {source} names no server for the context {cluster.context}")
    untyped: Any = config
    settings = client.Configuration()
    # Its default of three retries would make four deadlines of one.
    settings.retries = False
    try:
        document = {
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": server}],
            "users": [{"name": "it", "user": _signed_in(server, user)}],
        }
        with _LOADING:
            untyped.load_kube_config_from_dict(
                document,
                "it",
                client_configuration=settings,
                persist_config=False,
                temp_file_path=_scratch(os.getpid()),
            )
            # It would go through its files while threads that nobody waits for add to them.
            atexit.unregister(untyped.kube_config._cleanup_temp_files)
        _through(settings, server)
        # From Python 3.13 on its default wants key identifiers in certificates, which EKS' may lack; Go wants none.
        trust = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if settings.verify_ssl else ssl.CERT_NONE)
        trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if settings.ssl_ca_cert:
            trust.load_verify_locations(settings.ssl_ca_cert)
        else:
            trust.load_default_certs()
        if settings.cert_file:
            trust.load_cert_chain(settings.cert_file, settings.key_file)
        api: Any = client.ApiClient(settings)
        # What the library loads for each connection, it would load into this one, which others use at the same time.
        loaded = dict.fromkeys(("ca_certs", "cert_file", "key_file"))
        api.rest_client.pool_manager.connection_pool_kw |= {**loaded, "ssl_context": trust}
        api.default_headers.update(_impersonated(user))
        return api
    except AccessError:
        raise
    except ImportError:
        raise AccessError("its proxy is a SOCKS proxy, for which the commands need: pip install pysocks") from None
    except Exception as error:
        # What it says of files is wanted; any other of these repeats a value, or says nothing to a reader.
        why = f": {error}" if isinstance(error, untyped.ConfigException | OSError) else ""
        raise AccessError(f"its kubeconfig {source} can't be used{why}") from None


def reason(error: Exception) -> str:
    """Why a request failed, in a line without credentials."""
    from kubernetes.client import ApiException

    if isinstance(error, ApiException):
        untyped: Any = error
        return f"answers {untyped.status} {untyped.reason}"
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return re.sub(r"//[^/@\s]*@", "//", text)


@cache
def _scratch(process: int) -> str:
    """Where the client keeps certificates and keys as files: one that is killed leaves what can be told to be its."""
    folder = tempfile.mkdtemp(prefix=f"{SCRATCH}{process}-")
    atexit.register(_clear, folder)
    return folder


def _clear(folder: str) -> None:
    # Who is still at it writes no key after this.
    _LOADING.acquire(timeout=CLEAR_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def _signed_in(server: Mapping[str, Any], user: Mapping[str, Any]) -> dict[str, Any]:
    """A kubeconfig's user with what its token file or its credential plugin says, in Go's order of precedence."""
    if "auth-provider" in user:
        # The library would run its command, or renew its token and lose it, without a deadline.
        _refuse("it logs in by an auth-provider, which Kubernetes gave up for credential plugins (exec)")
    signed_in = {key: value for key, value in user.items() if key not in ("exec", "tokenFile")}
    if user.get("tokenFile"):
        try:
            signed_in["token"] = Path(user["tokenFile"]).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not text"
            _refuse(f"its token file {user['tokenFile']} can't be read", why, LoginError)
    elif "exec" in user and not user.get("token"):
        status = _asked(server, user["exec"])
        if "token" in status:
            signed_in["token"] = status["token"]
        for theirs, ours in (("clientCertificateData", "client-certificate"), ("clientKeyData", "client-key")):
            if theirs in status:
                signed_in[f"{ours}-data"] = base64.b64encode(str(status[theirs]).encode()).decode()
    # An error of the HTTP library about a header repeats the header.
    if not re.fullmatch(r"[\x21-\x7e]*", str(signed_in.get("token") or "")):
        _refuse("its token isn't one line of plain characters")
    return signed_in


def _impersonated(user: Mapping[str, Any]) -> dict[str, str]:
    """The headers of whom a kubeconfig's user acts as; kubernetes.io, user impersonation."""
    groups: list[str] = user.get("as-groups") or []
    if len(groups) > 1 or user.get("as-user-extra"):
        # The library has one value for a header, and the server reads no list in it.
        _refuse("it acts as a user with several groups or with as-user-extra; these commands can act with one group")
    given = {"User": user.get("as"), "Uid": user.get("as-uid"), "Group": next(iter(groups), None)}
    return {f"Impersonate-{name}": str(value) for name, value in given.items() if value}


def _asked(server: Mapping[str, Any], plugin: Mapping[str, Any]) -> dict[str, Any]:
    """What a credential plugin answers; kubernetes.io, client-go credential plugins."""
    command = [str(plugin.get("command")), *map(str, plugin.get("args") or [])]
    request: dict[str, Any] = {
        "apiVersion": plugin.get("apiVersion"),
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    if plugin.get("provideClusterInfo"):
        extensions = {entry["name"]: entry["extension"] for entry in _entries(server, "extensions")}
        request["spec"]["cluster"] = {
            "server": server.get("server"),
            "tls-server-name": server.get("tls-server-name"),
            "insecure-skip-tls-verify": server.get("insecure-skip-tls-verify", False),
            "certificate-authority-data": server.get("certificate-authority-data"),
            "proxy-url": server.get("proxy-url"),
            "config": extensions.get("client.authentication.k8s.io/exec"),
        }
    environment = {
        **os.environ,
        **{entry["name"]: entry["value"] for entry in _entries(plugin, "env")},
        "KUBERNETES_EXEC_INFO": json.dumps(request),
    }
    name = f"its credential plugin {Path(command[0]).name}"
    try:
        process = subprocesses.run(command, seconds=LOGIN_SECONDS, environment=environment)
    except OSError as error:
        _refuse(f"{name} can't be started", error.strerror, PluginMissingError)
    except subprocess.TimeoutExpired:
        raise HangingLoginError(
            f"{name} hasn't answered within {LOGIN_SECONDS} s; see what it waits for by running it in a terminal"
        ) from None
    if process.returncode:
        last = (process.stderr.decode(errors="replace").strip().splitlines() or [None])[-1]
        _refuse(f"{name} failed with exit code {process.returncode}", last, LoginError)
    try:
        return dict(json.loads(process.stdout)["status"])
    except (ValueError, KeyError, TypeError):
        _refuse(f"{name} answered with something else than an ExecCredential", kind=LoginError)


def _entries(section: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    return section.get(key) or []


def _through(settings: Any, server: Mapping[str, Any]) -> None:
    """Take the proxy that Go would, with the password that may be in its address.

    That is the kubeconfig's, which NO_PROXY doesn't overrule, or the environment's for the server's scheme, which no
    loopback address is reached through (golang.org/x/net/http/httpproxy).
    """
    from urllib3.util import make_headers

    proxy, called = str(server.get("proxy-url") or ""), "its proxy-url"
    # Else the library would take ALL_PROXY.
    settings.proxy = None
    if proxy:
        settings.no_proxy = ""
    else:
        there = urllib.parse.urlsplit(str(server["server"]))
        called = f"{there.scheme.upper()}_PROXY"
        proxy = os.environ.get(called) or os.environ.get(called.lower()) or ""
        if not proxy or re.fullmatch(r"localhost|127\..*|::1", there.hostname or ""):
            return
        if "://" not in proxy:
            proxy = f"http://{proxy}"
    parts = urllib.parse.urlsplit(proxy)
    # An unescaped slash in a password ends the host before it, and an error would repeat what it takes for a port.
    if (
        not parts.hostname
        or "@" in parts.path
        or not re.fullmatch(r"(\[.*\]|[^:]*)(:\d+)?", parts.netloc.rpartition("@")[2])
    ):
        _refuse(f"{called} is no address; special characters of a password have to be percent-encoded in it")
    settings.proxy = proxy
    # One of SOCKS is logged in to by its address alone.
    if parts.username and not parts.scheme.startswith("socks"):
        settings.proxy = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        settings.proxy_headers = make_headers(proxy_basic_auth=login)


def _refuse(what: str, why: str | None = None, kind: type[AccessError] = AccessError) -> NoReturn:
    raise kind(f"{what}{f' ({why})' if why else ''}")
