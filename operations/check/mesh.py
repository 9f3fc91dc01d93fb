"""Whether the management plane took what it was given to do, and keeps its hands off Istio's CA.

Owns the status of VirtualMeshes, AccessPolicies and TrafficPolicies in every namespace, and the look for what Gloo
Mesh makes on a worker once it issues CA certificates.
"""

from collections.abc import Iterator

from components import product
from operations.check.view import View
from operations.findings import Finding, Kind

PLURALS = {"VirtualMesh": "virtualmeshes", "AccessPolicy": "accesspolicies", "TrafficPolicy": "trafficpolicies"}

PENDING = Kind(
    "policy-pending",
    why="The management plane hasn't taken the object in as it is written now, so the mesh doesn't follow it yet.",
    page="mesh",
)
REFUSED = Kind(
    "policy-not-accepted",
    why="The management plane looked at the object and didn't take it, so the mesh doesn't follow it.",
    page="mesh",
)
ISSUED = Kind(
    "istio-ca-issued",
    why="Gloo Mesh issues Istio's CA certificates on this worker though they are to stay outside; with the root "
    "changes what workloads trust, and those that aren't restarted stop understanding each other.",
    page="mesh",
)


def policies(view: View) -> Iterator[Finding]:
    """Of the management cluster."""
    for kind, plural in PLURALS.items():
        for item in view.items(f"/apis/{product.MESH_API_VERSION}/{plural}"):
            namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
            called, status = f"{kind} {name} in namespace {namespace}", item.get("status") or {}
            state = status.get("state")
            look = view.kubectl(f"get {plural}.{product.MESH_API_VERSION.partition('/')[0]} {name} -o yaml", namespace)
            if not state:
                yield PENDING.found(view.name, f"{called} has no status: nothing has looked at it yet.", look)
            elif status.get("observedGeneration") != item["metadata"]["generation"] or state == "PENDING":
                seen, now = status.get("observedGeneration"), item["metadata"]["generation"]
                yield PENDING.found(view.name, f"{called} is {state} as of generation {seen}, and is at {now}.", look)
            elif state != "ACCEPTED":
                errors = [str(error) for error in status.get("errors", [])[:3]]
                yield REFUSED.found(view.name, f"{called} is {state}{': ' if errors else ''}{'; '.join(errors)}.", look)


def issued(view: View) -> Iterator[Finding]:
    """Of a worker."""
    mesh = view.fleet.settings.virtual_mesh
    if mesh and mesh.istio_ca == "glooMesh":
        return
    for kind, plural in product.ISSUING_KINDS.items():
        found = view.items(f"/apis/{product.ISSUING_API_VERSION}/{plural}")
        if found:
            names = ", ".join(f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in found[:3])
            yield ISSUED.found(
                view.name,
                f"There are {len(found)} objects of kind {kind}: {names}{', …' if len(found) > 3 else ''}.",
                "Take mtlsConfig.shared out of every VirtualMesh: "
                f"{view.fleet.settings.management_cluster.kubectl} get virtualmeshes -A -o yaml",
            )
