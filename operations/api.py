"""One API server, asked in plain JSON within a deadline.

Owns requests and what they end in; what is asked is the caller's. Nothing is written but by `change` and `remove`:
every other request that would change something is a dry run.
"""

import json
import time
from typing import Any
from urllib.parse import quote

from components.connection import connected, reason
from components.settings import ClusterSettings

SECONDS = 15
"""Deadline of one request, within that of all."""
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Unanswered(Exception):  # noqa: N818 - what happened, not whose fault it is
    """There was no answer, in time or at all."""


class Refused(Exception):  # noqa: N818
    """The API server's own answer."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Api:
    """A cluster's API server, until a moment of `time.monotonic`."""

    def __init__(self, cluster: ClusterSettings, until: float) -> None:
        try:
            self._client: Any = connected(cluster)
        except Exception as error:
            raise Unanswered(reason(error)) from None
        self._until = until
        self._kinds: dict[str, dict[str, Any]] = {}

    def left(self) -> float:
        """Seconds until the deadline; raises Unanswered when there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise Unanswered("the time for all clusters ran out")
        return left

    def get(self, path: str, **query: str) -> Any:
        """An object or a list; None where there is none."""
        try:
            return self._request("GET", path, None, query)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def metadata(self, path: str, **query: str) -> list[dict[str, Any]]:
        """The metadata of each object in a list, for what is large; empty where there is no such list."""
        try:
            found = self._request("GET", path, None, query, Accept=_METADATA_ONLY)
        except Refused as refused:
            if refused.status == 404:
                return []
            raise
        return [item["metadata"] for item in found["items"]]

    def change(self, path: str, fields: Any) -> None:
        """Write some fields of an object for good, by a merge patch."""
        self._request("PATCH", path, fields, {}, **{"Content-Type": "application/merge-patch+json"})

    def remove(self, path: str) -> None:
        """Delete an object for good, if it is there."""
        try:
            self._request("DELETE", path, None, {})
        except Refused as refused:
            if refused.status != 404:
                raise

    def tried(self, method: str, path: str, body: Any) -> Any:
        """What a write would make, by a dry run; raises Refused where the server or its admission would."""
        return self._request(method, path, body, {"dryRun": "All", "fieldManager": "gloo-mesh-diff"})

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

    def _request(self, method: str, path: str, body: Any, query: dict[str, str], **headers: str) -> Any:
        timeout = min(SECONDS, self.left())
        headers = {"Accept": "application/json", "Content-Type": "application/json"} | headers
        method, url, headers, body, form = self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._client.call_api(method, url, headers, body, form, _request_timeout=timeout)
            content = answer.read()
        except Exception as error:
            raise Unanswered(reason(error)) from None
        try:
            document = json.loads(content)
        except ValueError:
            # A proxy, or a server on its way up, answers in plain text.
            document = {}
        if answer.status >= 400 or not document:
            why = document.get("reason") or str(answer.reason)
            raise Refused(answer.status, why, document.get("message") or why)
        return document
