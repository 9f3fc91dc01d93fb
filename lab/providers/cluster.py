"""One Kubernetes API server, reached as a kubeconfig's context says.

It owns the connection and what it says when something fails. What is asked of the server belongs to the callers. The
whole client library would cost each of N processes half a second and 30 MB, so only its kubeconfig loader is used,
and that only once a cluster has to be asked something: most unchanged runs never get there.
"""

import json
import os
import pwd
import ssl
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

import urllib3
import yaml

from lab.providers.properties import Properties
from lab.providers.server import ProviderError

if TYPE_CHECKING:
    from kubernetes.client import Configuration

CONNECTIONS = 8
TIMEOUT = urllib3.Timeout(connect=5, read=60)
JSON = "application/json"


class UnreachableError(ProviderError):
    """There is no talking to the cluster at all."""


class ApiError(ProviderError):
    """The API server's own answer, and its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Cluster:
    """An API server behind a kubeconfig (a path or its contents) and one of its contexts."""

    def __init__(self, kubeconfig: str, context: str | None) -> None:
        self.context = context
        self.cancelled = threading.Event()
        self._kubeconfig = kubeconfig
        self._lock = threading.RLock()
        self._connection: tuple[Configuration, urllib3.PoolManager] | None = None
        self._kinds: dict[str, dict[str, Properties]] = {}
        self._contents: int | None = None

    def kubeconfig(self) -> tuple[str, tuple[int, ...]]:
        """A path for other programs, and the file descriptors they must inherit to read it."""
        path = Path(self._kubeconfig)
        if self._kubeconfig.startswith("~/"):
            # As the real plugin takes it: the account's own home, whatever HOME says.
            path = Path(pwd.getpwuid(os.getuid()).pw_dir, *path.parts[1:])
        if len(self._kubeconfig) < os.pathconf("/", "PC_PATH_MAX") and path.exists():
            return str(path), ()
        with self._lock:
            if self._contents is None:
                # In memory only: a credential in a file would survive us when we are killed.
                self._contents = os.memfd_create("kubeconfig")
                os.write(self._contents, self._kubeconfig.encode())
        return f"/proc/self/fd/{self._contents}", (self._contents,)

    def request(
        self, method: str, path: str, body: Any = None, *, content: str = JSON, accept: str = JSON, **query: str
    ) -> Properties:
        """Ask the API server; ApiError where it refuses, UnreachableError where there is none."""
        configuration, connections = self._connect()
        headers = {"Accept": accept, "Content-Type": content}
        if token := configuration.get_api_key_with_prefix("BearerToken"):
            # A token file, read anew each time, may end in a line's end, as client-go allows.
            headers["Authorization"] = token.strip()
        url = f"{configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            response = connections.request(
                method, url, body=None if body is None else json.dumps(body), headers=headers, retries=False
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(f"{configuration.host}: {error}") from error
        answer = _answer(response)
        if response.status >= 400:
            raise ApiError(response.status, answer.get("message") or f"HTTP status {response.status}")
        return answer

    def collection(self, api_version: str, kind: str, namespace: str | None) -> str:
        """Where the objects of a kind are listed and created; ApiError 404 if the server has no such kind."""
        root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        if kind not in self._kinds.get(api_version, {}):
            resources = self.request("GET", root)["resources"]
            self._kinds[api_version] = {item["kind"]: item for item in resources if "/" not in item["name"]}
        found = self._kinds[api_version].get(kind)
        if found is None:
            raise ApiError(404, f'no matches for kind "{kind}" in version "{api_version}"')
        within = f"/namespaces/{namespace or 'default'}" if found["namespaced"] else ""
        return f"{root}{within}/{found['name']}"

    def wait(self, seconds: float, started: float) -> bool:
        """Pause within a wait that began at `started`; False once it has lasted long enough, or we are told to stop."""
        spent = time.monotonic() - started
        return spent < seconds and not self.cancelled.wait(min(1, 0.1 + spent / 5, seconds - spent))

    def _connect(self) -> "tuple[Configuration, urllib3.PoolManager]":
        with self._lock:
            if self._connection is None:
                self._connection = self._connected()
            return self._connection

    def _connected(self) -> "tuple[Configuration, urllib3.PoolManager]":
        from kubernetes.client import Configuration
        from kubernetes.config import ConfigException, load_kube_config, load_kube_config_from_dict

        # A proxy is the kubeconfig's to name; one in the environment isn't meant for a cluster on loopback.
        configuration = cast("Configuration", Configuration(proxy="", no_proxy=""))
        # The loader writes keys to files because OpenSSL wants files; they are gone as soon as it has read them.
        with tempfile.TemporaryDirectory() as folder:
            options: Properties = {
                "context": self.context,
                "client_configuration": configuration,
                "persist_config": False,
                "temp_file_path": folder,
            }
            try:
                path, contents = self.kubeconfig()
                if contents:
                    load_kube_config_from_dict(yaml.safe_load(self._kubeconfig), **options)
                else:
                    load_kube_config(path, **options)
                tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
                if not configuration.verify_ssl:
                    tls.check_hostname = False
                    tls.verify_mode = ssl.CERT_NONE
                if configuration.cert_file:
                    tls.load_cert_chain(configuration.cert_file, configuration.key_file)
            except (ConfigException, OSError, yaml.YAMLError, AttributeError, TypeError) as error:
                raise self._unreachable(f"its kubeconfig can't be used: {error}") from error
        pooled: Properties = {
            "maxsize": CONNECTIONS,
            "block": True,
            "timeout": TIMEOUT,
            "ssl_context": tls,
            "server_hostname": configuration.tls_server_name or None,
        }
        proxy = configuration.proxy
        return configuration, urllib3.ProxyManager(proxy, **pooled) if proxy else urllib3.PoolManager(**pooled)

    def _unreachable(self, reason: str) -> UnreachableError:
        return UnreachableError(
            f"configured Kubernetes cluster is unreachable: context {self.context!r}, {reason}. "
            "Check the context and the network, then run it again."
        )


def _answer(response: urllib3.BaseHTTPResponse) -> Properties:
    try:
        return json.loads(response.data)
    except ValueError:
        # A proxy, or an API server on its way up, answers in plain text.
        return {"message": response.data.decode(errors="replace").strip()}
