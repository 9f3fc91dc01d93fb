"""The policy pack: a table of contents. Pulumi's engine runs this folder; building the pack serves it."""

import sys
from pathlib import Path

from pulumi_policy import EnforcementLevel, PolicyConfigSchema, PolicyPack, ResourceValidationPolicy

# The engine starts this folder with nothing of the project importable.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from policies import rules

secrecy = rules.Secrecy()

PolicyPack(
    "gloo-mesh",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[
        ResourceValidationPolicy(
            "own-provider",
            "Every Kubernetes resource goes through the provider of its own cluster.",
            rules.own_provider,
        ),
        ResourceValidationPolicy(
            "authority-keys-on-management",
            "The relay's keys, and any authority's, lie on the management cluster alone.",
            rules.authority_keys_on_management,
        ),
        ResourceValidationPolicy(
            "no-plaintext-secret",
            "A licence, token, password or key is secret wherever it stands.",
            secrecy.report,
            # The SDK shows what is secret to remediations alone; this one changes nothing.
            remediate=secrecy.look,
            enforcement_level=EnforcementLevel.REMEDIATE,
        ),
        ResourceValidationPolicy(
            "no-automatic-restarts",
            "A mesh never restarts its workloads by itself.",
            rules.no_automatic_restarts,
        ),
        ResourceValidationPolicy(
            "no-insecure-connection",
            "Nothing talks to the relay, or to anything else, without TLS.",
            rules.no_insecure_connection,
        ),
        ResourceValidationPolicy(
            "no-self-signed-relay",
            "The management chart makes no certificates and tokens of its own.",
            rules.no_self_signed_relay,
        ),
        ResourceValidationPolicy(
            "exact-charts",
            "Every release installs a vendored archive at an exact version.",
            rules.exact_charts,
        ),
        ResourceValidationPolicy(
            "protected-root",
            "The relay's root key and certificate are protected.",
            rules.protected_root,
        ),
        ResourceValidationPolicy(
            "injection",
            "Istio injects the addons' namespace and never the management plane's and agents'.",
            rules.injection,
        ),
        ResourceValidationPolicy(
            "certificate-lifetimes",
            "No certificate outlives its bound.",
            rules.certificate_lifetimes,
            config_schema=PolicyConfigSchema(
                {
                    "authorityYears": {"type": "integer", "minimum": 1, "default": rules.AUTHORITY_YEARS},
                    "leafDays": {"type": "integer", "minimum": 1, "default": rules.LEAF_DAYS},
                }
            ),
        ),
    ],
)
