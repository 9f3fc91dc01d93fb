"""What a cluster of the lab holds, noted and put back while it runs.

Written to etcd past the API server, which, like the controllers, hears of it as of any other change. To start a
control plane anew on old data would take ten times as long.
"""

import base64
import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import yaml

from lab import kubeconfig
from lab.fleet import Lab
from tests.awaiting import awaited

RESTLESS = (b"/registry/events/", b"/registry/leases/", b"/registry/masterleases/")
"""What changes by itself, and nothing goes by."""
STILL_SECONDS = 0.5
PATIENCE_SECONDS = 60
MOST_OPERATIONS = 100
"""In one transaction; etcd takes 128."""
OBJECTS = {"key": base64.b64encode(b"/registry/").decode(), "range_end": base64.b64encode(b"/registry0").decode()}
"""The API server's prefix, as etcd's API has it; beside it is the revision compacted last, which mustn't go back."""

Held = dict[str, str]
"""Values by key, each in base64."""


class Snapshot:
    """What one cluster held at one time, events and leases aside."""

    def __init__(self, lab: Lab, cluster: str) -> None:
        """Note what it holds, as soon as that has stopped changing."""
        self._folder = lab.root / "kwok/clusters" / cluster
        configured = next(yaml.safe_load_all((lab.root / f"kwok/{cluster}.yaml").read_text()))
        self._etcd = f"http://127.0.0.1:{configured['options']['etcdPort']}/v3/kv"
        self._birth = self._born()
        seen: Held = {}

        def changes() -> list[str]:
            nonlocal seen
            before, seen = seen, self._read()
            return _differing(before, seen)

        _await_end(changes)
        self._held = seen

    def fits(self) -> bool:
        """Whether the cluster is still the one that was noted."""
        return self._birth == self._born()

    def put_back(self) -> None:
        """Have the cluster, which must run, hold exactly that again; its audit log begins anew.

        Raises AssertionError, with what it is about, where somebody won't let it be.
        """
        # Again and again, because controllers answer what they see vanish.
        _await_end(self._differed)
        (self._folder / "logs/audit.log").write_text("")

    def _differed(self) -> list[str]:
        """The keys under which it held anything else, which it does no longer."""
        now = self._read()
        changed = _differing(now, self._held)
        for start in range(0, len(changed), MOST_OPERATIONS):
            operations = [
                {"request_put": {"key": key, "value": self._held[key]}}
                if key in self._held
                else {"request_delete_range": {"key": key}}
                for key in changed[start : start + MOST_OPERATIONS]
            ]
            self._ask("txn", {"success": operations})
        return changed

    def _read(self) -> Held:
        pairs = self._ask("range", OBJECTS)["kvs"]
        return {
            pair["key"]: pair.get("value", "")
            for pair in pairs
            if not base64.b64decode(pair["key"]).startswith(RESTLESS)
        }

    def _ask(self, what: str, body: dict[str, Any]) -> Any:
        # Never by a proxy that the environment names: it is on loopback.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{self._etcd}/{what}", json.dumps(body).encode(), timeout=10) as answer:
            return json.load(answer)

    def _born(self) -> bytes:
        """What no other cluster has, of this name or another."""
        return (self._folder / kubeconfig.CERTIFICATE).read_bytes()


def _differing(one: Held, other: Held) -> list[str]:
    return [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]


def _await_end(changes: Callable[[], list[str]]) -> None:
    """Ask until nothing has changed for a while."""
    last, changed = time.monotonic(), list[str]()

    def still() -> bool:
        nonlocal last, changed
        if found := changes():
            last, changed = time.monotonic(), found
        return time.monotonic() > last + STILL_SECONDS

    try:
        awaited(still, PATIENCE_SECONDS)
    except AssertionError:
        names = ", ".join(base64.b64decode(key).decode() for key in sorted(changed))
        raise AssertionError(f"After {PATIENCE_SECONDS} s this still changes: {names}") from None
