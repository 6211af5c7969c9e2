"""What the fields of a Pod and of a Service may be, as a table: what the API server says only when these are created.

Source: ``pkg/apis/core/validation/validation.go`` of the Kubernetes release that the schemas are of. Only what holds in
every cluster is here: of a feature that is off, the API server drops the fields unseen, so the fields of features that
are off by default (``grpc.mode``, ``httpGet.protocol``, ``stopSignal``, ``bindMountOptions``, ``emptyDir.mode``, owners
of files, ``evictionResponders``, ``schedulingGroup``) have no rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .rules import (
    ABSOLUTE,
    ADDRESS,
    DATA_KEY,
    FILE,
    ID,
    INSIDE,
    KEY,
    LABEL,
    LABEL_VALUE,
    NAME,
    NETWORK,
    PORT_NUMBER,
    SEARCH,
    UPWARD,
    VARIABLE,
    Rule,
    amount,
    amounts,
    between,
    both,
    each,
    labels,
    not_empty,
    one_of,
    optional,
    port,
    text,
    unique,
)

_MODE = between(0, 0o777)
_COUNT = between(0, 2**31 - 1)
_PROTOCOL = optional(one_of("TCP", "UDP", "SCTP"))
_PULL_POLICY = optional(one_of("Always", "IfNotPresent", "Never"))
_WEIGHT = between(1, 100)
_PATH_LENGTH = 4095
_HEADER = text(re.compile("[-A-Za-z0-9]+").fullmatch, "must be the name of a header: letters, digits and '-'")
_SIGNER = text(
    re.compile(
        r"(?=[^/]{1,253}/)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+/(?=.{1,317}$)"
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
    ).fullmatch,
    "must be a signer such as example.com/signer",
)
_IQN = text(
    re.compile(
        r"iqn.*iqn\.\d{4}-\d{2}\.[-.a-zA-Z0-9]+:[^,;*&$|\s]+|iqn\.\d{4}-\d{2}\.[-.a-zA-Z0-9]+:[^,;*&$|\s]+|"
        "eui.[a-zA-Z0-9]{16}|naa.[a-zA-Z0-9]{32}",
        re.ASCII,
    ).fullmatch,
    "must be an iSCSI name such as iqn.2026-01.com.example:disk",
)
_SYSCTL = text(re.compile(r"(?!.{254})([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?").fullmatch,
               "must be the name of a sysctl such as net.core.somaxconn")  # fmt: skip
_DRIVER = text(
    lambda value: len(value) <= 63 and not list(NAME("", value.lower())), "must be a DNS name of at most 63 characters"
)
_NAMED: dict[str, Rule] = {"name": not_empty}
_FILES: dict[str, Rule] = {"defaultMode": _MODE}
_CONTAINER: dict[str, Rule] = {
    "name": LABEL,
    "image": both(not_empty, text(lambda value: value == value.strip(), "must not begin or end with a space")),
    "imagePullPolicy": _PULL_POLICY,
    "terminationMessagePolicy": optional(one_of("File", "FallbackToLogsOnError")),
    "restartPolicy": one_of("Always", "Never", "OnFailure"),
    "restartPolicyRules": each(lambda path, value: iter(()), most=20),
}

#: Fields without which an object is refused, though the schemas say otherwise, by definition.
NEEDED: dict[str, tuple[str, ...]] = {
    "ConfigMapEnvSource": ("name",),
    "ConfigMapKeySelector": ("name",),
    "ConfigMapProjection": ("name",),
    "ConfigMapVolumeSource": ("name",),
    "ContainerRestartRule": ("exitCodes",),
    "EphemeralVolumeSource": ("volumeClaimTemplate",),
    "ExecAction": ("command",),
    "PersistentVolumeClaimSpec": ("accessModes",),
    "PodDNSConfigOption": ("name",),
    "ScaleIOVolumeSource": ("volumeName",),
    "SecretEnvSource": ("name",),
    "SecretKeySelector": ("name",),
    "SecretProjection": ("name",),
    "SecretVolumeSource": ("secretName",),
    "StorageOSVolumeSource": ("volumeName",),
}
#: Definition -> field -> what it may be.
FIELDS: Mapping[str, Mapping[str, Rule]] = {
    # --- Pod ----------------------------------------------------------------------------------------------------------
    "PodSpec": {
        "activeDeadlineSeconds": between(1, 2**31 - 1),
        "dnsPolicy": optional(one_of("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")),
        "ephemeralContainers": text(lambda value: not value, "is not possible: they are added to Pods that run"),
        "hostname": optional(LABEL),
        "hostnameOverride": NAME,
        "nodeName": optional(NAME),
        "nodeSelector": labels,
        "preemptionPolicy": one_of("Never", "PreemptLowerPriority"),
        "priorityClassName": optional(NAME),
        "runtimeClassName": NAME,
        "serviceAccount": optional(NAME),
        "serviceAccountName": optional(NAME),
        "subdomain": optional(LABEL),
        "terminationGracePeriodSeconds": between(0, 2**63 - 1),
    },
    "Container": _CONTAINER,
    "ContainerPort": {
        "containerPort": PORT_NUMBER,
        "hostPort": optional(PORT_NUMBER),
        "name": optional(port),
        "protocol": _PROTOCOL,
    },
    "ContainerResizePolicy": {
        "resourceName": one_of("cpu", "memory"),
        "restartPolicy": one_of("NotRequired", "RestartContainer"),
    },
    "ContainerRestartRule": {"action": one_of("Restart", "RestartAllContainers")},
    "ContainerRestartRuleOnExitCodes": {
        "operator": one_of("In", "NotIn"),
        "values": each(lambda path, value: iter(()), most=255),
    },
    "EnvVar": {"name": VARIABLE},
    "EnvFromSource": {"prefix": optional(VARIABLE)},
    "ConfigMapKeySelector": {"name": NAME, "key": DATA_KEY},
    "SecretKeySelector": {"name": NAME, "key": DATA_KEY},
    "FileKeySelector": {"key": VARIABLE, "volumeName": LABEL, "path": both(not_empty, UPWARD)},
    "ConfigMapEnvSource": {"name": NAME},
    "SecretEnvSource": {"name": NAME},
    "ObjectFieldSelector": {"apiVersion": optional(one_of("v1"))},
    "Probe": {
        "failureThreshold": _COUNT,
        "initialDelaySeconds": _COUNT,
        "periodSeconds": _COUNT,
        "successThreshold": _COUNT,
        "terminationGracePeriodSeconds": between(1, 2**63 - 1),
        "timeoutSeconds": _COUNT,
    },
    "ExecAction": {"command": not_empty},
    "HTTPGetAction": {"port": port, "scheme": optional(one_of("HTTP", "HTTPS"))},
    "HTTPHeader": {"name": _HEADER},
    "TCPSocketAction": {"port": port},
    "GRPCAction": {"port": PORT_NUMBER},
    "VolumeMount": {
        "name": not_empty,
        "mountPath": not_empty,
        "mountPropagation": one_of("None", "HostToContainer", "Bidirectional"),
        "recursiveReadOnly": one_of("Disabled", "IfPossible", "Enabled"),
        "subPath": INSIDE,
        "subPathExpr": INSIDE,
    },
    "VolumeDevice": {"name": not_empty, "devicePath": both(not_empty, UPWARD)},
    "ResourceClaim": {"name": not_empty, "request": optional(LABEL)},
    "SecurityContext": {"procMount": one_of("Default", "Unmasked"), "runAsUser": ID, "runAsGroup": ID},
    "PodSecurityContext": {
        "fsGroup": ID,
        "fsGroupChangePolicy": one_of("Always", "OnRootMismatch"),
        "runAsGroup": ID,
        "runAsUser": ID,
        "seLinuxChangePolicy": one_of("MountOption", "Recursive"),
        "supplementalGroups": each(ID),
        "supplementalGroupsPolicy": one_of("Merge", "Strict"),
    },
    "SeccompProfile": {"type": one_of("Localhost", "RuntimeDefault", "Unconfined"), "localhostProfile": INSIDE},
    "AppArmorProfile": {
        "type": one_of("Localhost", "RuntimeDefault", "Unconfined"),
        "localhostProfile": text(
            lambda value: value and value == value.strip() and len(value.encode()) <= _PATH_LENGTH,
            "must be the name of a profile without spaces around it",
        ),
    },
    "Sysctl": {"name": _SYSCTL},
    "PodOS": {"name": one_of("linux", "windows")},
    "PodDNSConfig": {
        "nameservers": each(ADDRESS, most=3),
        "searches": both(
            each(SEARCH, most=32),
            text(lambda values: len(" ".join(values).encode()) <= 2048, "must have at most 2048 characters together"),
        ),
    },
    "PodDNSConfigOption": {"name": not_empty},
    "HostAlias": {"ip": ADDRESS, "hostnames": each(NAME)},
    "PodReadinessGate": {"conditionType": KEY},
    "PodSchedulingGate": {"name": KEY},
    "PodResourceClaim": {"name": LABEL, "resourceClaimName": NAME, "resourceClaimTemplateName": NAME},
    # --- where it runs ------------------------------------------------------------------------------------------------
    "Toleration": {
        "key": optional(KEY),
        "operator": optional(one_of("Equal", "Exists", "Lt", "Gt")),
        "effect": optional(one_of("NoSchedule", "PreferNoSchedule", "NoExecute")),
    },
    "NodeSelector": {"nodeSelectorTerms": not_empty},
    "PreferredSchedulingTerm": {"weight": _WEIGHT},
    "WeightedPodAffinityTerm": {"weight": _WEIGHT},
    "PodAffinityTerm": {
        "topologyKey": KEY,
        "namespaces": each(LABEL),
        "matchLabelKeys": each(KEY),
        "mismatchLabelKeys": each(KEY),
    },
    "LabelSelector": {"matchLabels": labels},
    "LabelSelectorRequirement": {
        "key": KEY,
        "operator": one_of("In", "NotIn", "Exists", "DoesNotExist"),
        "values": each(LABEL_VALUE),
    },
    "TopologySpreadConstraint": {
        "maxSkew": between(1, 2**31 - 1),
        "minDomains": between(1, 2**31 - 1),
        "topologyKey": not_empty,
        "whenUnsatisfiable": one_of("DoNotSchedule", "ScheduleAnyway"),
        "nodeAffinityPolicy": one_of("Honor", "Ignore"),
        "nodeTaintsPolicy": one_of("Honor", "Ignore"),
        "matchLabelKeys": each(KEY),
    },
    # --- volumes ------------------------------------------------------------------------------------------------------
    "Volume": {"name": LABEL},
    "AWSElasticBlockStoreVolumeSource": {"volumeID": not_empty, "partition": between(0, 255)},
    "AzureDiskVolumeSource": {
        "diskName": not_empty,
        "diskURI": not_empty,
        "cachingMode": one_of("None", "ReadOnly", "ReadWrite"),
        "kind": one_of("Shared", "Dedicated", "Managed"),
    },
    "AzureFileVolumeSource": {"secretName": not_empty, "shareName": not_empty},
    "CSIVolumeSource": {"driver": _DRIVER},
    "CephFSVolumeSource": {"monitors": not_empty},
    "CinderVolumeSource": {"volumeID": not_empty},
    "ClusterTrustBundleProjection": {"path": FILE, "signerName": _SIGNER},
    "ConfigMapProjection": _NAMED,
    "ConfigMapVolumeSource": {**_NAMED, **_FILES},
    "DownwardAPIVolumeFile": {"path": FILE, "mode": _MODE},
    "DownwardAPIVolumeSource": _FILES,
    "EmptyDirVolumeSource": {"sizeLimit": amount},
    "FlexVolumeSource": {"driver": not_empty},
    "FlockerVolumeSource": {"datasetName": text(lambda value: "/" not in value, "must not contain '/'")},
    "GCEPersistentDiskVolumeSource": {"pdName": not_empty, "partition": between(0, 255)},
    "GitRepoVolumeSource": {"repository": not_empty, "directory": INSIDE},
    "GlusterfsVolumeSource": {"endpoints": not_empty, "path": not_empty},
    "HostPathVolumeSource": {
        "path": both(not_empty, UPWARD),
        "type": one_of(
            *("", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice")
        ),
    },
    "ISCSIVolumeSource": {"targetPortal": not_empty, "iqn": _IQN, "lun": between(0, 255), "initiatorName": _IQN},
    "ImageVolumeSource": {"pullPolicy": _PULL_POLICY},
    "KeyToPath": {"key": not_empty, "path": FILE, "mode": _MODE},
    "NFSVolumeSource": {"server": not_empty, "path": ABSOLUTE},
    "PersistentVolumeClaimVolumeSource": {"claimName": not_empty},
    "PersistentVolumeClaimSpec": {
        "accessModes": both(
            not_empty, each(one_of("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"))
        ),
        "storageClassName": optional(NAME),
        "volumeAttributesClassName": optional(NAME),
        "volumeMode": one_of("Block", "Filesystem"),
    },
    "PhotonPersistentDiskVolumeSource": {"pdID": not_empty},
    "PodCertificateProjection": {
        "signerName": _SIGNER,
        "keyType": one_of("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"),
        "credentialBundlePath": optional(FILE),
        "keyPath": optional(FILE),
        "certificateChainPath": optional(FILE),
        "maxExpirationSeconds": between(3600, 91 * 24 * 3600),
    },
    "PortworxVolumeSource": {"volumeID": not_empty},
    "ProjectedVolumeSource": _FILES,
    "QuobyteVolumeSource": {"registry": not_empty, "volume": not_empty},
    "RBDVolumeSource": {"monitors": not_empty, "image": not_empty},
    "ScaleIOVolumeSource": {"gateway": not_empty, "system": not_empty, "volumeName": not_empty},
    "SecretProjection": _NAMED,
    "SecretVolumeSource": {"secretName": not_empty, **_FILES},
    "ServiceAccountTokenProjection": {"path": FILE, "expirationSeconds": between(600, 2**32)},
    "StorageOSVolumeSource": {"volumeName": LABEL, "volumeNamespace": optional(LABEL)},
    "TypedLocalObjectReference": {"kind": not_empty, "name": not_empty, "apiGroup": optional(NAME)},
    "TypedObjectReference": {
        "kind": not_empty,
        "name": not_empty,
        "apiGroup": optional(NAME),
        "namespace": optional(LABEL),
    },
    "VolumeResourceRequirements": {"limits": amounts, "requests": amounts},
    "VsphereVirtualDiskVolumeSource": {"volumePath": not_empty},
    "WindowsSecurityContextOptions": {"gmsaCredentialSpecName": NAME, "gmsaCredentialSpec": not_empty},
    # --- Service ------------------------------------------------------------------------------------------------------
    "ServiceSpec": {
        "externalIPs": each(ADDRESS),
        "externalTrafficPolicy": optional(one_of("Cluster", "Local")),
        "internalTrafficPolicy": one_of("Cluster", "Local"),
        "ipFamilies": both(each(one_of("IPv4", "IPv6")), unique),
        "ipFamilyPolicy": one_of("SingleStack", "PreferDualStack", "RequireDualStack"),
        "loadBalancerSourceRanges": each(NETWORK),
        "selector": labels,
        "sessionAffinity": optional(one_of("ClientIP", "None")),
        "trafficDistribution": one_of("PreferClose", "PreferSameZone", "PreferSameNode"),
        "type": optional(one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")),
    },
    "ServicePort": {"port": PORT_NUMBER, "targetPort": optional(port), "protocol": _PROTOCOL, "name": optional(LABEL),
                    "appProtocol": KEY},
    "ClientIPConfig": {"timeoutSeconds": between(1, 86400)},
}  # fmt: skip
