"""A Helm release as this program makes every one of them.

Owns the options that are alike; what is installed where, with which values, is each component's.
"""

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components import product
from components.charts import Charts
from components.settings.fields import Values
from components.settings.pem import fingerprint
from components.values_digest import MASKED


def release(
    name: str,
    release_name: str,
    charts: Charts,
    chart: str,
    namespace: pulumi.Input[str],
    before_upgrade: pulumi.ResourceHook,
    opts: pulumi.ResourceOptions,
    values: Mapping[str, pulumi.Input[Any]] | None = None,
    timeout: int | None = None,
    postrender: str | None = None,
) -> k8s.helm.v3.Release:
    """A vendored chart's release; `timeout` in seconds, Helm's own five minutes by default."""
    hooks = pulumi.ResourceOptions(hooks=pulumi.ResourceHookBinding(before_update=[before_upgrade]))
    return k8s.helm.v3.Release(
        name,
        name=release_name,
        namespace=namespace,
        chart=charts.path(chart),
        version=charts.version,
        values=values,
        timeout=timeout,
        postrender=postrender,
        skip_crds=True,
        # Otherwise Helm keeps values that the configuration no longer names.
        reset_values=True,
        description=product.RELEASE_DESCRIPTION,
        max_history=10,
        # The API server validates what arrives; Helm's own check fetches its whole schema for every release.
        disable_openapi_validation=True,
        opts=pulumi.ResourceOptions.merge(opts, hooks),
    )


def crds_release(
    name: str,
    charts: Charts,
    chart: str,
    namespace: pulumi.Input[str],
    before_upgrade: pulumi.ResourceHook,
    opts: pulumi.ResourceOptions,
) -> k8s.helm.v3.Release:
    """The CRDs of `chart` as a release of their own: Helm never upgrades a chart's `crds/` folder."""
    crds = product.crds_chart(chart)
    return release(name, crds, charts, crds, namespace, before_upgrade, opts)


def checksum(*read: pulumi.Input[str]) -> Values:
    """The annotation that restarts pods when what they read as they start changes.

    Secret; masked where any of that is.
    """
    if MASKED in read:
        return {product.CHECKSUM_ANNOTATION: MASKED}
    texts = pulumi.Output.all(*read)
    return {product.CHECKSUM_ANNOTATION: pulumi.Output.secret(texts.apply(lambda texts: fingerprint(*texts)))}


def annotated(annotations: Values) -> Values:
    """Deployment overrides that give its pods annotations."""
    return {"spec": {"template": {"metadata": {"annotations": annotations}}}}
