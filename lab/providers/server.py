"""Pulumi's provider protocol: a resource's life as calls on plain Python, with one process per provider.

What a resource is and does belongs to the modules `random`, `tls`, `kubernetes` and `helm`.
"""

# ruff: noqa: N802 - the protocol's own names

import functools
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar, NoReturn, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from lab.providers.properties import UNKNOWN, Properties, differences, merged, packed, plain

# Helm values with a chart's CRDs in the state are far above gRPC's default of 4 MB.
OPTIONS = [("grpc.max_receive_message_length", 1 << 29), ("grpc.max_send_message_length", 1 << 29)]
CALLS_AT_ONCE = 32

Reply = TypeVar("Reply")


class ProviderError(Exception):
    """A sentence for the user: nothing was done."""


class InputError(ProviderError):
    """A sentence about one input; it stops the run before anything is deployed."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name


class HalfDoneError(ProviderError):
    """Something was made, but isn't right yet: it goes into the state, and the next run updates it."""

    def __init__(self, sentence: str, id: str, state: Properties) -> None:
        super().__init__(sentence)
        self.id = id
        self.state = state


@dataclass(frozen=True)
class Diff:
    """How a resource would change: paths to ADD, DELETE or UPDATE, and which of them need a new resource."""

    changes: dict[str, str] = field(default_factory=dict)
    replaces: frozenset[str] = frozenset()
    delete_first: bool = False


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the engine knows when it asks; parts that a call doesn't come with are empty."""

    urn: str
    id: str = ""
    inputs: Properties = field(default_factory=dict)
    old_inputs: Properties = field(default_factory=dict)
    state: Properties = field(default_factory=dict)
    timeout: float = 0

    @property
    def type(self) -> str:
        """The resource's own type, without the components around it."""
        return self.urn.split("::")[2].rpartition("$")[2]


class Resource:
    """A kind of resource that lives in the state only, as keys and passwords do."""

    computed: ClassVar[tuple[str, ...]] = ()
    """Outputs that nobody knows before the resource is there."""

    def check(self, request: Request) -> Properties:
        """The inputs, completed; InputError where they can't be right."""
        return request.inputs

    def diff(self, request: Request) -> Diff:
        """What would change; for something that is only in the state, everything means a new one."""
        changes = differences(request.old_inputs, request.inputs)
        return Diff(changes, frozenset(changes))

    def preview(self, request: Request) -> Properties:
        """The state that create or update would leave, as far as it can be told without doing it."""
        return dict.fromkeys(self.computed, UNKNOWN) | merged(request.state, request.inputs)

    def create(self, request: Request) -> tuple[str, Properties]:
        """Make it; returns its id and state."""
        raise NotImplementedError

    def read(self, request: Request) -> tuple[Properties, Properties] | None:
        """What is there now, as inputs and state, or None if it is gone."""
        return request.old_inputs, request.state

    def update(self, request: Request) -> Properties:
        """Change it in place; returns its state."""
        return request.state | request.inputs

    def delete(self, request: Request) -> None:
        """Remove it, and come back when it is gone."""


class Provider:
    """A set of resources and what they share."""

    def diff_config(self, old: Properties, new: Properties) -> Diff:
        """What a change of the provider's own settings means."""
        return Diff(differences(old, new))

    def configure(self, settings: Properties) -> None:
        """Take the settings; called once, before any resource."""

    def resource(self, type: str) -> Resource:
        """The kind of resource behind a type token."""
        raise NotImplementedError

    def cancel(self) -> None:
        """End whatever runs, soon and cleanly."""


def _answering(call: Callable[..., Reply]) -> Callable[..., Reply]:
    """Turn a failure into the status the engine expects, with its sentence and never a traceback."""

    @functools.wraps(call)
    def answer(self: "_Service", message: Any, context: grpc.ServicerContext) -> Reply:
        try:
            return call(self, message)
        except HalfDoneError as failure:
            _abort_half_done(context, failure)
        except ProviderError as failure:
            context.abort(grpc.StatusCode.UNKNOWN, str(failure))

    return answer


def _abort_half_done(context: grpc.ServicerContext, failure: HalfDoneError) -> NoReturn:
    detail = provider_pb2.ErrorResourceInitFailed(
        id=failure.id, properties=packed(failure.state), reasons=[str(failure)]
    )
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(failure))
    status.details.add().Pack(detail)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode.UNKNOWN, str(failure))


def _changes(diff: Diff) -> provider_pb2.DiffResponse:
    def kind(path: str) -> Any:
        suffix = "_REPLACE" if path in diff.replaces else ""
        return provider_pb2.PropertyDiff.Kind.Value(diff.changes[path] + suffix)

    return provider_pb2.DiffResponse(
        changes=provider_pb2.DiffResponse.DIFF_SOME if diff.changes else provider_pb2.DiffResponse.DIFF_NONE,
        replaces=sorted(diff.replaces),
        deleteBeforeReplace=diff.delete_first,
        detailedDiff={path: provider_pb2.PropertyDiff(kind=kind(path)) for path in diff.changes},
        hasDetailedDiff=True,
    )


class _Service(provider_pb2_grpc.ResourceProviderServicer):
    def __init__(self, provider: Provider, package: str) -> None:
        self.provider = provider
        self.package = package

    def _request(self, message: Any, *, inputs: Struct | None = None, state: Struct | None = None) -> Request:
        old_inputs = getattr(message, "old_inputs", None)
        return Request(
            urn=message.urn,
            id=getattr(message, "id", ""),
            inputs=plain(inputs) if inputs is not None else {},
            old_inputs=plain(old_inputs) if old_inputs is not None else {},
            state=plain(state) if state is not None else {},
            timeout=getattr(message, "timeout", 0),
        )

    @_answering
    def Handshake(self, request: provider_pb2.ProviderHandshakeRequest) -> provider_pb2.ProviderHandshakeResponse:
        return provider_pb2.ProviderHandshakeResponse()

    @_answering
    def GetPluginInfo(self, request: Empty) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=version(self.package))

    @_answering
    def CheckConfig(self, request: provider_pb2.CheckRequest) -> provider_pb2.CheckResponse:
        return provider_pb2.CheckResponse(inputs=request.news)

    @_answering
    def DiffConfig(self, request: provider_pb2.DiffRequest) -> provider_pb2.DiffResponse:
        return _changes(self.provider.diff_config(plain(request.olds), plain(request.news)))

    @_answering
    def Configure(self, request: provider_pb2.ConfigureRequest) -> provider_pb2.ConfigureResponse:
        self.provider.configure(plain(request.args))
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    @_answering
    def Check(self, request: provider_pb2.CheckRequest) -> provider_pb2.CheckResponse:
        asked = Request(urn=request.urn, inputs=plain(request.news), old_inputs=plain(request.olds))
        try:
            return provider_pb2.CheckResponse(inputs=packed(self.provider.resource(asked.type).check(asked)))
        except InputError as failure:
            refusal = provider_pb2.CheckFailure(property=failure.name, reason=str(failure))
            return provider_pb2.CheckResponse(inputs=request.news, failures=[refusal])

    @_answering
    def Diff(self, request: provider_pb2.DiffRequest) -> provider_pb2.DiffResponse:
        asked = self._request(request, inputs=request.news, state=request.olds)
        return _changes(self.provider.resource(asked.type).diff(asked))

    @_answering
    def Create(self, request: provider_pb2.CreateRequest) -> provider_pb2.CreateResponse:
        asked = self._request(request, inputs=request.properties)
        resource = self.provider.resource(asked.type)
        if request.preview:
            return provider_pb2.CreateResponse(properties=packed(resource.preview(asked)))
        id, state = resource.create(asked)
        return provider_pb2.CreateResponse(id=id, properties=packed(state))

    @_answering
    def Read(self, request: provider_pb2.ReadRequest) -> provider_pb2.ReadResponse:
        asked = Request(
            urn=request.urn, id=request.id, old_inputs=plain(request.inputs), state=plain(request.properties)
        )
        found = self.provider.resource(asked.type).read(asked)
        if found is None:
            return provider_pb2.ReadResponse()
        inputs, state = found
        return provider_pb2.ReadResponse(id=request.id, inputs=packed(inputs), properties=packed(state))

    @_answering
    def Update(self, request: provider_pb2.UpdateRequest) -> provider_pb2.UpdateResponse:
        asked = self._request(request, inputs=request.news, state=request.olds)
        resource = self.provider.resource(asked.type)
        state = resource.preview(asked) if request.preview else resource.update(asked)
        return provider_pb2.UpdateResponse(properties=packed(state))

    @_answering
    def Delete(self, request: provider_pb2.DeleteRequest) -> Empty:
        asked = self._request(request, state=request.properties)
        self.provider.resource(asked.type).delete(asked)
        return Empty()

    @_answering
    def Cancel(self, request: Empty) -> Empty:
        self.provider.cancel()
        return Empty()


def serve(provider: Provider, package: str) -> None:
    """Print the port, then serve until the engine ends us or is gone itself; what it asked for by then is done."""
    stopped = threading.Event()
    # The engine starts us in a process group of our own and ends us by SIGINT; a user's Ctrl-C comes as Cancel.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    engine = os.getppid()

    calls = ThreadPoolExecutor(CALLS_AT_ONCE)
    server = grpc.server(calls, options=OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(_Service(provider, package), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)

    while not stopped.wait(1) and os.getppid() == engine:
        pass
    if stopped.is_set():
        provider.cancel()
        server.stop(5).wait()
    else:
        # As the real plugin does, an orphan finishes what it is at, though nobody will write it down.
        calls.shutdown()
    os._exit(0)
