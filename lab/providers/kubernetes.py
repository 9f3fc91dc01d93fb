"""The stand-in for pulumi-kubernetes: the provider's settings, and objects as the API server keeps them.

Releases are in `helm`. An object is created by POST and changed by server-side apply, and is waited for only where the
annotation pulumi.com/waitFor says so. Kinds that the real plugin waits for by itself (Deployments, Services) aren't.
"""

import base64
import hashlib
import re
import time
from collections.abc import Callable

from lab.providers.cluster import ApiError, Cluster, UnreachableError
from lab.providers.helm import Release
from lab.providers.properties import UNKNOWN, Properties, differences, merged, pruned, secret
from lab.providers.server import Diff, HalfDoneError, InputError, Provider, ProviderError, Request, Resource

CREATOR = "pulumi-kubernetes"
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
APPEARS_WITHIN = 30
DEFAULT_TIMEOUT = 600


class Object(Resource):
    """An object of any kind, which is wholly ours."""

    def __init__(self, cluster: Cluster, settings: Properties) -> None:
        self.cluster = cluster
        self.settings = settings

    def check(self, request: Request) -> Properties:
        """Bring the inputs into the form the API server will show them in."""
        inputs = dict(request.inputs)
        metadata = inputs.get("metadata") or {}
        if metadata != UNKNOWN:
            if not metadata.get("name"):
                raise InputError("metadata", "The stand-in kubernetes provider makes up no names; write metadata.name.")
            # The API server drops empty maps, which would then look like drift.
            inputs["metadata"] = {key: value for key, value in metadata.items() if value not in ({}, None)}
        if inputs.get("kind") == "Secret":
            texts = inputs.pop("stringData", None) or {}
            data = inputs.get("data") or {}
            if UNKNOWN in (texts, data):
                inputs["data"] = UNKNOWN
            elif texts or data:
                inputs["data"] = secret(data | {key: _encoded(text) for key, text in texts.items()})
        return inputs

    def diff(self, request: Request) -> Diff:
        """Compare what was there of our old inputs with the new ones, so that drift shows and the rest doesn't."""
        changes = differences(pruned(request.state, request.old_inputs), request.inputs)
        identity = {"metadata.name", "metadata.namespace"}
        fixed = self._fixed_fields(request.inputs)
        replaces = frozenset(path for path in changes if path in identity or re.split(r"[.\[]", path)[0] in fixed)
        return Diff(changes, replaces, delete_first=bool(replaces) and not identity & replaces)

    def preview(self, request: Request) -> Properties:
        """As the inputs say; an object that isn't there yet has no uid that anybody could know."""
        unborn = {} if request.state else {"metadata": {"uid": UNKNOWN}}
        return merged(unborn, super().preview(request))

    def create(self, request: Request) -> tuple[str, Properties]:
        """Create it, or fail if it is there; its kind and its namespace may take a moment to appear."""

        def post() -> Properties:
            path = self._collection(request.inputs)
            return self.cluster.request("POST", path, request.inputs, fieldManager=CREATOR)

        live = self._once_possible(post, request)
        return _id(live), self._awaited(request, live)

    def read(self, request: Request) -> tuple[Properties, Properties] | None:
        """Look it up; without old inputs it is being imported, and what people write counts as input."""
        identity = request.state or _identity(request)
        try:
            live = self.cluster.request("GET", self._path(identity))
        except UnreachableError as error:
            raise ProviderError(f"failed to read resource state due to unreachable cluster: {error}") from error
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        wanted = request.old_inputs or _written(live)
        return _kept(pruned(live, wanted)), _kept(live)

    def update(self, request: Request) -> Properties:
        """Apply the new inputs over the live object."""
        try:
            self._take_over(request)
            return self._awaited(request, self._apply(request, request.inputs))
        except ApiError as error:
            raise ProviderError(f"update of {_called(request.inputs)} failed: {error}") from error

    def delete(self, request: Request) -> None:
        """Delete it and wait until it is gone, its dependants first."""
        path = self._path(request.state)
        started = time.monotonic()
        seconds = _timeout(request, request.state)
        try:
            self.cluster.request("DELETE", path, {"propagationPolicy": "Foreground"})
            uid = request.state["metadata"].get("uid")
            while self.cluster.request("GET", path)["metadata"]["uid"] == uid:
                if not self.cluster.wait(seconds, started):
                    raise ProviderError(
                        f"{_called(request.state)} is still there {time.monotonic() - started:.0f} s after its "
                        "deletion; look at its finalizers, then run it again."
                    )
        except ApiError as error:
            if error.status != 404:
                raise ProviderError(f"{_called(request.state)} can't be deleted: {error}") from error

    def _fixed_fields(self, inputs: Properties) -> set[str]:
        match inputs.get("kind"):
            case "Secret":
                mutable = self.settings.get("enableSecretMutable") == "true" and not inputs.get("immutable")
                return {"type"} if mutable else {"type", "data"}
            case "ConfigMap":
                mutable = self.settings.get("enableConfigMapMutable") == "true" and not inputs.get("immutable")
                return set() if mutable else {"data", "binaryData"}
            case "RoleBinding" | "ClusterRoleBinding":
                return {"roleRef"}
            case _:
                return set()

    def _collection(self, object: Properties) -> str:
        return self.cluster.collection(object["apiVersion"], object["kind"], object["metadata"].get("namespace"))

    def _path(self, object: Properties) -> str:
        return f"{self._collection(object)}/{object['metadata']['name']}"

    def _apply(self, request: Request, fields: Properties) -> Properties:
        forced = "true" in (
            self.settings.get("enablePatchForce"),
            _annotations(request.inputs).get("pulumi.com/patchForce"),
        )
        return self.cluster.request(
            "PATCH",
            self._path(fields),
            fields,
            content=APPLY,
            fieldManager=_manager(request),
            force="true" if forced else "false",
        )

    def _once_possible(self, make: Callable[[], Properties], request: Request) -> Properties:
        started = time.monotonic()
        while True:
            try:
                return make()
            except ApiError as error:
                if error.status != 404 or not self.cluster.wait(APPEARS_WITHIN, started):
                    raise ProviderError(
                        f"{_called(request.inputs)} was not created or patched by the Kubernetes API server: {error}"
                    ) from error

    def _take_over(self, request: Request) -> None:
        """Make the fields we created ours to apply, else our own creation would be in conflict with us."""
        path = self._path(request.state)
        for index, entry in enumerate(self.cluster.request("GET", path)["metadata"].get("managedFields", ())):
            if entry["manager"] == CREATOR and entry["operation"] == "Update":
                entry |= {"manager": _manager(request), "operation": "Apply"}
                patch = [{"op": "replace", "path": f"/metadata/managedFields/{index}", "value": entry}]
                self.cluster.request("PATCH", path, patch, content=JSON_PATCH)

    def _awaited(self, request: Request, live: Properties) -> Properties:
        condition = _annotations(request.inputs).get("pulumi.com/waitFor")
        started = time.monotonic()
        seconds = _timeout(request, request.inputs)
        while condition is not None and not _met(condition, live):
            if not self.cluster.wait(seconds, started):
                raise HalfDoneError(
                    f"{_called(live)} failed to fully initialize or become live: "
                    f"timed out waiting for {condition} after {time.monotonic() - started:.0f} s",
                    _id(live),
                    _kept(live),
                )
            live = self.cluster.request("GET", self._path(live))
        return _kept(live)


class Patch(Object):
    """Some fields of an object that belongs to somebody else."""

    computed = ("status",)

    def _fixed_fields(self, inputs: Properties) -> set[str]:
        return set()

    def _take_over(self, request: Request) -> None:
        """Nothing: what an object was made with stays its maker's, also where that was this program."""

    def create(self, request: Request) -> tuple[str, Properties]:
        """Take the fields; an object that isn't there is made of them, if they are enough for one."""
        live = self._once_possible(lambda: self._apply(request, request.inputs), request)
        return _id(live), self._awaited(request, live)

    def delete(self, request: Request) -> None:
        """Give the fields back. As with the real plugin, an object that is gone is made again by that."""
        identity = {key: value for key, value in request.state["metadata"].items() if key in ("name", "namespace")}
        nothing = {"apiVersion": request.state["apiVersion"], "kind": request.state["kind"], "metadata": identity}
        try:
            self._apply(request, nothing)
        except ApiError as error:
            if error.status != 404:
                raise ProviderError(f"the patch of {_called(request.state)} can't be taken back: {error}") from error


def _identity(request: Request) -> Properties:
    """What a type token and an id say about an object of which we know nothing else."""
    _, api_version, kind = request.type.split(":")
    namespace, _, name = request.id.rpartition("/")
    return {
        "apiVersion": api_version.removeprefix("core/"),
        "kind": kind.removesuffix("Patch"),
        "metadata": {"name": name} | ({"namespace": namespace} if namespace else {}),
    }


def _written(live: Properties) -> Properties:
    written = ("name", "namespace", "labels", "annotations")
    metadata = {key: value for key, value in live["metadata"].items() if key in written}
    return {key: value for key, value in live.items() if key != "status"} | {"metadata": metadata}


def _kept(live: Properties) -> Properties:
    """An object as the state keeps it: without the bookkeeping, and with a Secret's data hidden."""
    metadata = {key: value for key, value in live["metadata"].items() if key != "managedFields"}
    hidden = {"data": secret(live["data"])} if live["kind"] == "Secret" and "data" in live else {}
    return live | {"metadata": metadata} | hidden


def _met(condition: str, live: Properties) -> bool:
    found = re.fullmatch(r"jsonpath=\{\.([\w.]+)\}(?:=(.+))?", condition)
    if not found:
        raise ProviderError(
            f"pulumi.com/waitFor: {condition} is more than the stand-in kubernetes provider can wait for; "
            "write jsonpath={.path.to.field} or jsonpath={.path.to.field}=value."
        )
    path, expected = found.groups()
    value = live
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value is not None if expected is None else str(value) == expected


def _timeout(request: Request, object: Properties) -> float:
    return request.timeout or float(_annotations(object).get("pulumi.com/timeoutSeconds", DEFAULT_TIMEOUT))


def _manager(request: Request) -> str:
    name = f"{CREATOR}-{hashlib.sha256(request.urn.encode()).hexdigest()[:8]}"
    return _annotations(request.inputs or request.old_inputs).get("pulumi.com/patchFieldManager", name)


def _annotations(object: Properties) -> Properties:
    return object.get("metadata", {}).get("annotations") or {}


def _called(object: Properties) -> str:
    return f'{object["kind"]} "{_id(object)}"'


def _id(object: Properties) -> str:
    metadata = object["metadata"]
    return "/".join(part for part in (metadata.get("namespace"), metadata["name"]) if part)


def _encoded(text: str) -> str:
    return text if text == UNKNOWN else base64.b64encode(text.encode()).decode()


class Kubernetes(Provider):
    """One cluster, by kubeconfig and context."""

    def __init__(self) -> None:
        self.settings: Properties = {}
        self.cluster = Cluster("", None)

    def diff_config(self, old: Properties, new: Properties) -> Diff:
        """Only another identity is another cluster; settings change in place."""
        changes = differences(old, new)
        # Setting an identifier for the first time, or dropping it, doesn't make it another cluster.
        replaces = {"clusterIdentifier"} if changes.get("clusterIdentifier") == "UPDATE" else set[str]()
        return Diff(changes, frozenset(replaces))

    def configure(self, settings: Properties) -> None:
        """Note the settings. The cluster isn't asked yet: a preview goes on without it."""
        self.settings = settings
        self.cluster = Cluster(settings.get("kubeconfig") or "~/.kube/config", settings.get("context"))

    def resource(self, type: str) -> Resource:
        """A release, a patch or an object."""
        if type == "kubernetes:helm.sh/v3:Release":
            return Release(self.cluster)
        kind = Patch if type.endswith("Patch") else Object
        return kind(self.cluster, self.settings)

    def cancel(self) -> None:
        """End every wait and every helm."""
        self.cluster.cancelled.set()


PROVIDER = Kubernetes()
