"""Of which fields of a Pod at most one may be set: what Kubernetes' OpenAPI document does not say.

Source: ``pkg/apis/core/validation/validation.go`` of the release that ``schema.json`` is of.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import definitions


@dataclass(frozen=True)
class Union:
    """Fields of an object that exclude each other."""

    members: tuple[str, ...]
    required: bool = True  #: whether one of them must be there


#: By the name of the object's definition.
UNIONS: dict[str, Union] = {
    # Without a source, a volume is an `emptyDir`.
    "Volume": Union(tuple(field for field in definitions()["Volume"]["properties"] if field != "name"), required=False),
    "VolumeProjection": Union(tuple(definitions()["VolumeProjection"]["properties"]), required=False),
    "Probe": Union(("exec", "grpc", "httpGet", "tcpSocket")),
    "LifecycleHandler": Union(("exec", "httpGet", "sleep", "tcpSocket")),
    "EnvVar": Union(("value", "valueFrom"), required=False),
    "EnvVarSource": Union(tuple(definitions()["EnvVarSource"]["properties"])),
    "EnvFromSource": Union(("configMapRef", "secretRef")),
    "DownwardAPIVolumeFile": Union(("fieldRef", "resourceFieldRef")),
    "ClusterTrustBundleProjection": Union(("name", "signerName")),
    "PodResourceClaim": Union(("resourceClaimName", "resourceClaimTemplateName")),
    "FCVolumeSource": Union(("targetWWNs", "wwids")),
    "FlockerVolumeSource": Union(("datasetName", "datasetUUID")),
    "VolumeMount": Union(("subPath", "subPathExpr"), required=False),
}

#: Objects whose ``type`` says which other field belongs to them: of no other type may they have it.
TYPED: dict[str, dict[str, str]] = {
    "SeccompProfile": {"Localhost": "localhostProfile"},
    "AppArmorProfile": {"Localhost": "localhostProfile"},
}
