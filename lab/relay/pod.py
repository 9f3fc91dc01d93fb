"""What a Deployment's pod would know: its namespace, its arguments and the Secrets these name."""

import base64
import json
from dataclasses import dataclass

from lab.relay.api import Object, Watched


@dataclass(frozen=True)
class Pod:
    """The one pod of a ready Deployment."""

    namespace: str
    arguments: dict[str, str]
    template: str
    """All of its template: where any of it changes, the pod is another."""

    def secret(self, secrets: Watched, option: str) -> dict[str, str]:
        """What the Secret holds that `--OPTION-name` names, as text; empty where there is none."""
        namespace = self.arguments.get(f"--{option}-namespace") or self.namespace
        found = secrets.find(namespace, self.arguments.get(f"--{option}-name", ""))
        data: dict[str, str] = (found or {}).get("data") or {}
        return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}

    def token(self, secrets: Watched) -> str:
        """The identity token; empty where there is none."""
        held = self.secret(secrets, "relay-identity-token-secret")
        return held.get(self.arguments.get("--relay-identity-token-secret-key") or "token", "")


def of(deployments: Watched) -> Pod | None:
    """The pod of the first Deployment that wants one and has one ready."""
    for found in deployments.all():
        if found["spec"].get("replicas", 1) and found.get("status", {}).get("readyReplicas"):
            return _pod(found)
    return None


def _pod(deployment: Object) -> Pod:
    template = deployment["spec"]["template"]
    arguments = template["spec"]["containers"][0].get("args") or []
    return Pod(
        namespace=deployment["metadata"]["namespace"],
        arguments=dict(argument.partition("=")[::2] for argument in arguments),
        template=json.dumps(template, sort_keys=True),
    )
