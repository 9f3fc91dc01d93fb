"""`python -m lab.providers NAME` serves one stand-in provider, as Pulumi's engine starts its plugins.

It owns the choice of provider and nothing else: `server` speaks the protocol, each provider has its own module.
"""

import importlib
import importlib.util
import os
import sys
from types import ModuleType

PACKAGES = {"kubernetes": "pulumi-kubernetes", "random": "pulumi-random", "tls": "pulumi-tls"}


def without_the_sdk() -> None:
    """Let the protocol's stubs be imported without the SDK around them.

    The SDK takes 0.4 s and 20 MB, and there is one process per cluster.
    """
    spec = importlib.util.find_spec("pulumi")
    assert spec is not None
    (folder,) = spec.submodule_search_locations or []
    for name, path in (("pulumi", folder), ("pulumi.runtime", f"{folder}/runtime")):
        module = ModuleType(name)
        module.__path__ = [path]
        sys.modules[name] = module


def main() -> None:
    """Serve the provider named in the first argument; the engine adds its own address after it."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in PACKAGES:
        sys.exit(f"There is no stand-in provider {name!r}; use one of {', '.join(PACKAGES)}.")
    # gRPC's fork handlers complain on standard error, which the engine shows, whenever helm is started.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    without_the_sdk()
    server = importlib.import_module("lab.providers.server")
    provider = importlib.import_module(f"lab.providers.{name}")
    server.serve(provider.PROVIDER, PACKAGES[name])


if __name__ == "__main__":
    main()
