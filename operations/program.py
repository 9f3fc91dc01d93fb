"""The deployment's program, run as a user's Pulumi would run it, under whatever monitor there is.

Owns the run of `__main__.py` and a monitor that records instead of deploying. What the SDK keeps
semi-private (MockMonitor, the settings, the secret envelope, servers for callbacks, its debug messages and stack
traces) is touched here alone, but for the workspace and the stack that `engine.py` lends it, and the waiting of
`components/completion.py`.
"""

import asyncio
import base64
import json
import runpy
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pulumi
from google.protobuf.json_format import MessageToDict
from pulumi.runtime import _callbacks, mocks, resource, rpc, settings
from pulumi.runtime.proto import source_pb2
from pulumi.runtime.stack import run_in_stack

from components.settings import PROJECT
from operations.stack import PROJECT_FOLDER, UsageError

PYTHON_VARIABLE = "GLOO_MESH_PYTHON"
"""Names the interpreter that `components/place-addons` runs on."""


def run() -> None:
    """Run the program: the engine's inline programs and the recording monitor call this."""
    # A run that was cut short leaves its server here, and every later one of this process would try to stop it, too.
    _callbacks._CallbackServicer._servicers.clear()
    # Hundreds a run, each sent to the engine and back as an event that nobody shows.
    setattr(pulumi.log, "debug", lambda *_args, **_options: None)  # noqa: B010 - typed as the SDK's own
    # Else a third of the state: for each resource, two kilobytes of paths on the machine that deployed last.
    setattr(resource, "_get_stack_trace", source_pb2.StackTrace)  # noqa: B010 - no name of the SDK's own to set
    runpy.run_path(str(PROJECT_FOLDER / "__main__.py"), run_name="__main__")


@dataclass(frozen=True, kw_only=True)
class Registered:
    """One resource as the program registered it; names instead of URNs."""

    type: str
    name: str
    parent: str
    provider: str
    """The provider's logical name; empty for a component."""
    dependencies: frozenset[str]
    """`type::name` of everything it waits for."""
    protect: bool = False
    aliases: tuple[str, ...] = ()
    """The types it had before."""
    before_create: tuple[str, ...] = ()
    before_update: tuple[str, ...] = ()
    on_error: tuple[str, ...] = ()
    timeouts: tuple[str, str] = ("", "")
    """Of create and update, as durations."""
    read: str = ""
    """The id of what is read and not made; empty for everything else."""
    inputs: dict[str, Any] = field(default_factory=dict)
    """With secrets in the SDK's envelope, see `is_secret`."""
    wire: dict[str, Any] = field(default_factory=dict)
    """The inputs as they travelled: there the envelope is around what is secret and nothing else."""

    @property
    def key(self) -> str:
        """What `dependencies` of others call this resource."""
        return f"{self.type}::{self.name}"


EXISTING_ROOT = """\
-----BEGIN CERTIFICATE-----
MIIBiDCCAS2gAwIBAgIUa6Q8DtEjGcIe6MiD2mdy4FWV+JkwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNZXhpc3Rpbmctcm9vdDAgFw0yNjExMjIwMjU4NTVaGA8yMTI2
MTAyOTAyNTg1NVowGDEWMBQGA1UEAwwNZXhpc3Rpbmctcm9vdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABLn1UGTBYrIb4cnACBFFtPvuLRLNHbj34iqJ/a/K0Dbx
iEYPoZPa7NTey99XTo/smmUDLH+gm/BgY8lmjX7rL+ejUzBRMB0GA1UdDgQWBBTl
P9SdRLG0CuIsZUDH9J1/74zBizAfBgNVHSMEGDAWgBTlP9SdRLG0CuIsZUDH9J1/
74zBizAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQCv0gxRs72c
4FyTKH2OE0YhXTVvXBt45w9utnJ0ulVYYgIhAMxxYW4EGi2bGT5IOQZ+0FAMVt33
H/+ff4Gj25p58jMN
-----END CERTIFICATE-----
"""
"""What a read of the relay's root finds: somebody's root, for it is parsed."""


class _Outputs(mocks.Mocks):
    """Plausible outputs: what was put in, and what the program reads on top."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        outputs = dict(args.inputs)
        if args.typ.startswith("tls:"):
            pem = f"(PEM of {args.name})"
            outputs |= {"privateKeyPem": pem, "publicKeyPem": pem, "certRequestPem": pem, "certPem": pem}
            outputs |= {"validityEndTime": "2031-01-01T00:00:00Z"}
        elif args.typ.startswith("random:"):
            outputs |= {"result": f"(value of {args.name})"}
        elif args.typ.endswith((":ServicePatch", ":Service")):
            ports = [
                {"name": "grpc", "port": 9900, "nodePort": 30900},
                {"name": "https", "port": 443, "nodePort": 30443},
            ]
            outputs |= {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}, "spec": {"ports": ports}}
        elif args.typ.endswith(":Endpoints"):
            outputs |= {"subsets": [{"addresses": [{"ip": "198.51.100.2", "nodeName": "node-2"}]}]}
        elif args.typ.endswith(":Node"):
            outputs |= {
                "status": {"addresses": [{"type": "InternalIP", "address": f"(address of {args.resource_id})"}]}
            }
        elif args.typ.endswith(":Secret") and args.resource_id:
            outputs["data"] = {"ca.crt": base64.b64encode(EXISTING_ROOT.encode()).decode()}
        elif args.typ.endswith((":Namespace", ":NamespacePatch")):
            outputs["metadata"] = {**outputs["metadata"], "uid": f"(UID of {args.name})"}
        return f"{args.name}-id", outputs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], None]:
        return {}, None


class _OpaqueOutputs(_Outputs):
    """The same, marked as secret: what comes of them can then be told from what was configured."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        resource_id, outputs = super().new_resource(args)
        given = args.inputs
        return resource_id, {
            key: value if given.get(key) == value else rpc.wrap_rpc_secret(value) for key, value in outputs.items()
        }


class Recorder(mocks.MockMonitor):
    """A monitor that deploys nothing and keeps what mocks are never shown."""

    def __init__(self, outputs: mocks.Mocks) -> None:
        super().__init__(outputs)
        self.loops: list[asyncio.AbstractEventLoop] = []
        """One for each of the SDK's threads, which would make its own and never close it."""
        self.registered: list[Registered] = []
        self.hooks: dict[str, pulumi.ResourceHook] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        self._make_loop()
        response = super().RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            self.registered.append(
                Registered(
                    type=request.type,
                    name=request.name,
                    parent=_name(request.parent),
                    provider=_name(request.provider.rpartition("::")[0]),
                    dependencies=frozenset(map(_key, request.dependencies)),
                    protect=request.protect,
                    aliases=tuple(alias.spec.type for alias in request.aliases),
                    before_create=tuple(request.hooks.before_create),
                    before_update=tuple(request.hooks.before_update),
                    on_error=tuple(request.hooks.on_error),
                    timeouts=(request.customTimeouts.create, request.customTimeouts.update),
                    inputs=rpc.deserialize_properties(request.object),
                    wire=MessageToDict(request.object),
                )
            )
        return response

    def ReadResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        self._make_loop()
        response = super().ReadResource(request)
        self.registered.append(
            Registered(
                type=request.type,
                name=request.name,
                parent=_name(request.parent),
                provider=_name(request.provider.rpartition("::")[0]),
                dependencies=frozenset(map(_key, request.dependencies)),
                read=request.id,
            )
        )
        return response

    def _make_loop(self) -> None:
        try:
            asyncio.get_event_loop()
        except RuntimeError:
            self.loops.append(asyncio.new_event_loop())
            asyncio.set_event_loop(self.loops[-1])


class _Hooks:
    """Takes hooks in, as the callback server of a real run does; a recorder never calls them."""

    def __init__(self, known: dict[str, pulumi.ResourceHook]) -> None:
        self._known = known

    def register_resource_hook(self, hook: pulumi.ResourceHook) -> None:
        self._known[hook.name] = hook

    def register_error_hook(self, hook: pulumi.ErrorHook) -> None:
        pass


def is_secret(value: object) -> bool:
    """Whether a recorded input travelled in the SDK's secret envelope."""
    return isinstance(value, Mapping) and value.get(rpc._special_sig_key) == rpc._special_secret_sig


@contextmanager
def recording(stack: str, config: Mapping[str, str], secret: list[str], *, opaque: bool = False) -> Iterator[Recorder]:
    """A new event loop and a recorder, so that nothing leaks from one run into the next.

    To the program it is a preview: nothing is there that could be dialled. With `opaque`, whatever only a deployment
    can know is marked as secret.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    before = settings.SETTINGS
    recorder = Recorder(_OpaqueOutputs() if opaque else _Outputs())
    mocks.set_mocks(recorder.mocks, project="gloo-mesh", stack=stack, preview=True, monitor=recorder)
    setattr(settings.SETTINGS, "callbacks", _Hooks(recorder.hooks))  # noqa: B010 - typed as the SDK's own server
    # What an earlier run that failed left in there is of a loop that is closed.
    setattr(settings.SETTINGS, "outputs", set())  # noqa: B010 - typed as a property
    pulumi.runtime.set_all_config(dict(config), secret)
    try:
        yield recorder
    finally:
        settings.configure(before)
        asyncio.set_event_loop(None)
        for made in (loop, *recorder.loops):
            # One of the SDK's threads may still be at work when the program has failed.
            with suppress(RuntimeError):
                made.close()


def recorded(stack: str, config: Mapping[str, object], secret: Collection[str]) -> list[Registered]:
    """What the program makes of a configuration, of which `secret` names the secret keys; secrets may be encrypted.

    Whatever only a deployment can know is marked as secret, too. Raises UsageError where the program refuses.
    """
    with recording(stack, given(config), [f"{PROJECT}:{key}" for key in secret], opaque=True) as recorder:
        try:
            drained(run)
        except pulumi.RunError as error:
            raise UsageError(str(error)) from None
    return recorder.registered


def given(config: Mapping[str, object]) -> dict[str, str]:
    """A configuration as the engine hands it to the program."""
    return {f"{PROJECT}:{key}": value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}


def drained(program: Callable[[], None]) -> None:
    """Run a program to the end of everything it started, as the engine has it run, so that absence can be asserted."""
    # The one that mocks bring is finished, and takes no `pulumi.run`.
    settings.ROOT.set(None)
    asyncio.get_event_loop().run_until_complete(run_in_stack(program))


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def _key(urn: str) -> str:
    types, _, name = urn.partition("::")[2].partition("::")[2].partition("::")
    return f"{types.rpartition('$')[2]}::{name}"
