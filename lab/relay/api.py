"""A cluster's API server as its administrator sees it: objects followed as they change, and Secrets made.

Asks in HTTP/1.0, whose answers end with the connection and need no parser; the Kubernetes client would take more
memory in each agent than everything else together.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

Object = dict[str, Any]
PAUSE_SECONDS = 0.5
LONGEST_LINE = 2**24


class Api:
    """An API server, asked with kwok's administrator's certificate."""

    def __init__(self, url: str, folder: Path) -> None:
        """The server at `url`; its CA and the certificate lie in the cluster's folder."""
        parts = urlsplit(url)
        self._place = (parts.hostname, parts.port)
        self._trust = ssl.create_default_context(cafile=folder / "pki/ca.crt")
        self._trust.load_cert_chain(folder / "pki/admin.crt", folder / "pki/admin.key")

    @asynccontextmanager
    async def ask(self, path: str, body: Object | None = None) -> AsyncIterator[asyncio.StreamReader]:
        """The answer's body, to a POST where something is given; OSError where it is no success."""
        content = json.dumps(body).encode() if body is not None else b""
        head = f"{'POST' if content else 'GET'} {path} HTTP/1.0\r\nHost: kubernetes\r\nAccept: application/json\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        reader, writer = await asyncio.open_connection(*self._place, ssl=self._trust, limit=LONGEST_LINE)
        try:
            writer.write(head.encode() + content)
            status = (await reader.readline()).decode().split(" ", 2)
            while (await reader.readline()).strip():
                continue
            if len(status) < 3 or not status[1].startswith("2"):
                raise OSError(f"the API server answered {' '.join(status[1:]).strip() or 'nothing'} to {path}")
            yield reader
        finally:
            writer.transport.abort()

    async def create(self, path: str, body: Object) -> Object:
        """Make an object in a collection; it as it was made."""
        async with self.ask(path, body) as answer:
            return json.loads(await answer.read())


class Watched:
    """The objects of a collection that a field selector picks, as they are now."""

    def __init__(self, api: Api, path: str, fields: str = "") -> None:
        """Of the collection at `path`, in all namespaces; nothing is asked yet."""
        self._api = api
        self._path = path
        self._fields = fields
        self._objects: dict[str, Object] = {}

    def find(self, namespace: str, name: str) -> Object | None:
        """The object of this name, if there is one."""
        return self._objects.get(f"{namespace}/{name}")

    def all(self) -> list[Object]:
        """Every object there is, in the order of their names."""
        return [self._objects[key] for key in sorted(self._objects)]

    def keep(self, found: Object) -> None:
        """Know an object before the API server tells of it."""
        self._objects[_key(found)] = found

    async def follow(self, changed: Callable[[], None]) -> None:
        """Stay up to date for ever, and say when something has changed; an API server that is away is waited for."""
        while True:
            try:
                version = await self._list()
                changed()
                while True:
                    version = await self._watch(version, changed)
            except (OSError, ValueError, KeyError):
                # Gone, stopped, or the version is too old to go on from.
                await asyncio.sleep(PAUSE_SECONDS)

    async def _list(self) -> str:
        async with self._api.ask(self._query()) as answer:
            listed = json.loads(await answer.read())
        self._objects = {_key(item): item for item in listed["items"]}
        return listed["metadata"]["resourceVersion"]

    async def _watch(self, version: str, changed: Callable[[], None]) -> str:
        query = self._query(watch="1", resourceVersion=version, allowWatchBookmarks="true")
        async with self._api.ask(query) as answer:
            while line := await answer.readline():
                event = json.loads(line)
                found = event["object"]
                if event["type"] == "ERROR":
                    raise ValueError(found.get("message"))
                version = found["metadata"]["resourceVersion"]
                if event["type"] == "DELETED":
                    self._objects.pop(_key(found), None)
                elif event["type"] != "BOOKMARK":
                    self.keep(found)
                changed()
        return version

    def _query(self, **parameters: str) -> str:
        return f"{self._path}?{urlencode({'fieldSelector': self._fields, **parameters})}"


def secrets(api: Api) -> Watched:
    """Every Secret but Helm's records, which are large and nobody's business here."""
    return Watched(api, "/api/v1/secrets", "type!=helm.sh/release.v1")


def deployments(api: Api, name: str) -> Watched:
    """The Deployments of this name."""
    return Watched(api, "/apis/apps/v1/deployments", f"metadata.name={name}")


def _key(found: Object) -> str:
    return f"{found['metadata'].get('namespace', '')}/{found['metadata']['name']}"
