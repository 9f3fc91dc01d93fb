"""One API server, asked in plain JSON within a deadline.

Owns requests and what they end in; what is asked is the caller's. Nothing is written but by `change` and `remove`:
every other request that would change something is a dry run.
"""

import base64
import http.client
import json
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from components.connection import connected, reason
from components.settings import ClusterSettings
from operations.deadline import within

JSON = "application/json"
METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"

SECONDS = 15
"""Deadline of one request, within that of all."""
FORWARD_SECONDS = 5
"""Deadline of a port-forward."""
FIRST_SECONDS = 5
"""Deadline of the first, which tells whether a cluster answers at all."""
TIMES = 10
"""How often what a busy server puts off is asked, as client-go does."""


class Unanswered(Exception):  # noqa: N818 - what happened, not whose fault it is
    """There was no answer, in time or at all."""


class OutOfTimeError(Unanswered):
    """The time for all of it ran out, whoever was asked."""


class Refused(Exception):  # noqa: N818
    """The API server's own answer."""

    def __init__(self, status: int, reason: str, message: str, asked: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.asked = asked
        """The request, such as `GET /api/v1/nodes`."""


def silence(error: Exception) -> str:
    """Why a cluster could not be looked at, in a line without credentials."""
    return f"answers {error.status} {error.reason}" if isinstance(error, Refused) else reason(error)


class Api:
    """A cluster's API server, for some seconds once its login, which has a deadline of its own, is through."""

    def __init__(self, cluster: ClusterSettings, seconds: float) -> None:
        try:
            self._client: Any = connected(cluster)
        except Exception as error:
            raise Unanswered(reason(error)) from error
        self._until = time.monotonic() + seconds
        self._kinds: dict[str, dict[str, Any]] = {}
        self.version = ""
        """The server's own, such as v1.34.4, once entered."""
        self.date: str | None = None
        """The server's clock, as its last answer says."""

    def left(self) -> float:
        """Seconds until the deadline; raises OutOfTimeError when there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise OutOfTimeError("the time for all of it ran out")
        return left

    def enter(self) -> None:
        """Ask the first question, which everybody may; raises within seconds where nothing answers."""
        self.version = str(self._request("GET", "/version", None, {}, seconds=FIRST_SECONDS).get("gitVersion", ""))

    def get(self, path: str, **query: str) -> Any:
        """An object or a list; None where there is none."""
        return self._found(path, query)

    def named(self, path: str) -> dict[str, Any] | None:
        """An object's metadata, and nothing of its content; None where there is none."""
        found = self._found(path, {}, METADATA.format(""))
        return found and found["metadata"]

    def names(self, path: str, **query: str) -> list[dict[str, Any]]:
        """The metadata of each object in a list, for what is large; none where there is no such kind."""
        found = self._found(path, query, METADATA.format("List"))
        # An empty list of nothing but metadata comes as null.
        return [item["metadata"] for item in found.get("items") or []] if found else []

    def text(self, path: str, seconds: float = SECONDS) -> str:
        """What answers in plain text, such as a pod's log, or a Service behind the API server's own proxy."""
        answer, content = self._answer("GET", path, None, {}, accept="*/*", seconds=seconds)
        if answer.status >= 400:
            raise Refused(answer.status, str(answer.reason), str(answer.reason), f"GET {path}")
        return content.decode(errors="replace")

    def forwarded(self, namespace: str, pod: str, port: int, path: str) -> str:
        """What a pod's port answers to an HTTP GET, through a port-forward; raises Unanswered when nothing does."""
        if any(header.startswith("Impersonate-") for header in self._client.default_headers):
            raise Unanswered("the library would forward as the user itself, not as whom it acts as")
        try:
            return within(
                min(FORWARD_SECONDS, self.left()),
                lambda: _forwarded(self._client, namespace, pod, port, path),
            )
        except TimeoutError:
            raise Unanswered("the forward gave no answer in time") from None
        except Exception as error:
            raise Unanswered(reason(error)) from None

    def asked(self, path: str, body: Any) -> Any:
        """The answer to a review: a question that is posted, of which the server keeps nothing."""
        return self._request("POST", path, body, {"dryRun": "All"})

    def credentials(self) -> list[str]:
        """Its token, password and key, for whoever has to keep them out of sight."""
        used = self._client.configuration
        shown = [Path(used.key_file).read_text()] if used.key_file else []
        for header in used.api_key.values():
            scheme, _, credential = str(header).partition(" ")
            shown.append(credential)
            if scheme == "Basic":
                shown.append(base64.b64decode(credential).decode(errors="replace").partition(":")[2])
        return shown

    def tried(self, method: str, path: str, body: Any) -> Any:
        """What a write would make, by a dry run; raises Refused where the server or its admission would."""
        return self._request(method, path, body, {"dryRun": "All", "fieldManager": "gloo-mesh-diff"})

    def change(self, path: str, fields: Any) -> None:
        """Write some fields of an object for good, by a merge patch."""
        self._request("PATCH", path, fields, {}, sent="application/merge-patch+json")

    def remove(self, path: str) -> None:
        """Delete an object for good, if it is there."""
        try:
            self._request("DELETE", path, None, {})
        except Refused as refused:
            if refused.status != 404:
                raise

    def collection(self, api_version: str, kind: str, namespace: str) -> str | None:
        """Where objects of a kind are; None while the server knows no such kind."""
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        if api_version not in self._kinds:
            found = self.get(root) or {"resources": []}
            self._kinds[api_version] = {
                entry["kind"]: entry for entry in found["resources"] if "/" not in entry["name"]
            }
        known = self._kinds[api_version].get(kind)
        if known is None:
            return None
        return (
            f"{root}/namespaces/{quote(namespace)}/{known['name']}"
            if known["namespaced"]
            else f"{root}/{known['name']}"
        )

    def _found(self, path: str, query: dict[str, str], accept: str = JSON) -> Any:
        try:
            return self._request("GET", path, None, query, accept=accept)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def _request(self, method: str, path: str, body: Any, query: dict[str, str], **options: Any) -> Any:
        answer, content = self._answer(method, path, body, query, **options)
        try:
            document = json.loads(content)
        except ValueError:
            document = None
        # A proxy, or a server on its way up, answers in plain text, or with JSON of its own.
        if not isinstance(document, dict):
            document = {}
        if answer.status >= 400 or not document:
            why = document.get("reason") or str(answer.reason)
            raise Refused(answer.status, why, document.get("message") or why, f"{method} {path}")
        return document

    def _answer(self, method: str, path: str, body: Any, query: dict[str, str], **options: Any) -> tuple[Any, bytes]:
        """The server's answer, awaited for as long as it puts the question off.

        A server does so for a second after a change of CRDs ("storage is (re)initializing"), and when it is flooded.
        """
        for _ in range(TIMES - 1):
            answer, content = self._once(method, path, body, query, **options)
            pause = answer.getheader("Retry-After") or ""
            if answer.status != HTTPStatus.TOO_MANY_REQUESTS or not pause.isdecimal() or int(pause) >= self.left():
                return answer, content
            time.sleep(int(pause))
        return self._once(method, path, body, query, **options)

    def _once(
        self,
        method: str,
        path: str,
        body: Any,
        query: dict[str, str],
        *,
        accept: str = JSON,
        sent: str = JSON,
        seconds: float = SECONDS,
    ) -> tuple[Any, bytes]:
        timeout = min(seconds, self.left())
        headers = {"Accept": accept, "Content-Type": sent}
        method, url, headers, body, form = self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )

        def ask() -> tuple[Any, bytes]:
            answered = self._client.call_api(method, url, headers, body, form, _request_timeout=timeout)
            return answered, answered.read()

        try:
            # The client's own deadline is for each read, and a server that trickles would never come to it.
            answer, content = within(timeout + 1, ask)
            self.date = answer.getheader("Date")
        except TimeoutError as error:
            raise Unanswered(f"it hasn't answered within {timeout:.0f} s") from error
        except Exception as error:
            raise Unanswered(reason(error)) from error
        return answer, content


def _forwarded(client: Any, namespace: str, pod: str, port: int, path: str) -> str:
    # Not by the client's class for the core API, which takes seconds to load.
    from kubernetes.stream import ws_client

    untyped: Any = ws_client
    at = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/portforward"
    ports = [("ports", str(port))]
    method, url, headers, *_ = client.param_serialize("GET", at, query_params=ports, auth_settings=["BearerToken"])
    forward = untyped.portforward_call(client.configuration, method, url, headers=headers)
    try:
        connection = http.client.HTTPConnection("pod", port)
        connection.sock = forward.socket(port)
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read().decode(errors="replace")
    finally:
        forward.close()
    if answer.status >= 400:
        raise Unanswered(f"the pod answers {answer.status}")
    return content
