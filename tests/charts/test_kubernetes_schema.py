"""Every manifest is one that the Kubernetes of the default K3s knows, with all its fields."""

from __future__ import annotations

import kubernetes_validate
import pytest
from harness import KUBE_VERSION, PROFILES, Chart, Manifest, charts_with_a_release, planned, template_planned

from piclusterops.catalogue import Profile

#: The minor version, which schemas are made for.
MINOR = ".".join(KUBE_VERSION.split(".")[:2])
#: Groups of custom resources, whose schemas come with what brings them.
CUSTOM = (
    "cert-manager.io",
    "external-secrets.io",
    "helm.cattle.io",
    "metallb.io",
    "monitoring.coreos.com",
    "traefik.io",
)


def validate(manifest: Manifest) -> None:
    """Raises: kubernetes_validate.ValidationError: Kubernetes would refuse it, or not know a field."""
    kubernetes_validate.validate(manifest, MINOR, strict=True)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("chart", charts_with_a_release(), ids=lambda chart: chart.name)
def test_kubernetes_knows_all_fields(chart: Chart, profile: Profile) -> None:
    for manifest in template_planned(planned(chart.name, profile)):
        if not manifest["apiVersion"].split("/")[0].endswith(CUSTOM):
            validate(manifest)


def test_a_misspelt_field_is_found() -> None:
    with pytest.raises(kubernetes_validate.ValidationError, match="nodeSelektor"):
        validate(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "one"},
                "spec": {"nodeSelektor": {}, "containers": [{"name": "one", "image": "one"}]},
            }
        )
