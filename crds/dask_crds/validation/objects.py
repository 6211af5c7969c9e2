"""What the fields of one object of a Pod, or of a Service, ask of each other.

Source and scope are those of ``fields.py``.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..quantity import parse_quantity
from .rules import LABEL_VALUE, NAME, unique
from .syntax import Problems, is_key, labels_and_annotations

_ENVIRONMENT = (
    *("metadata.name", "metadata.namespace", "metadata.uid", "spec.host", "spec.nodeName", "spec.serviceAccountName"),
    *("status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"),
)
_FILES = ("metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid")
_RESOURCE = re.compile("(limits|requests)[.](cpu|memory|ephemeral-storage|hugepages-.*)", re.DOTALL)
_VALUELESS = ("Exists", "DoesNotExist")
_DAY = 24 * 3600


def _field(path: str, reference: Mapping[str, Any], fields: Sequence[str]) -> Problems:
    """A field of the Pod that a program is told."""
    written = reference["fieldPath"]
    subscript = re.fullmatch(r"([^[]*)\['(.*)'\]", written, re.DOTALL)
    if subscript is None and written not in fields:
        yield f"{path}.fieldPath", f"{reprlib.repr(written)} must be one of {', '.join(fields)}"
    elif subscript is not None:
        key = subscript[2].lower() if subscript[1] == "metadata.annotations" else subscript[2]
        if subscript[1] not in ("metadata.labels", "metadata.annotations") or not is_key(key):
            yield f"{path}.fieldPath", f"{reprlib.repr(written)} is no label or annotation of a Pod"


def _environment(path: str, source: Mapping[str, Any]) -> Problems:
    if source.get("fieldRef"):
        yield from _field(f"{path}.fieldRef", source["fieldRef"], _ENVIRONMENT)


def _file(path: str, file: Mapping[str, Any]) -> Problems:
    if file.get("fieldRef"):
        yield from _field(f"{path}.fieldRef", file["fieldRef"], _FILES)
    elif file.get("resourceFieldRef") and not file["resourceFieldRef"].get("containerName"):
        yield f"{path}.resourceFieldRef.containerName", "is missing"


def _resource(path: str, reference: Mapping[str, Any]) -> Problems:
    """A request or limit of a container that a program is told."""
    resource = _RESOURCE.fullmatch(reference["resource"])
    if resource is None:
        what = "limits. or requests. followed by cpu, memory, ephemeral-storage or hugepages-SIZE"
        yield f"{path}.resource", f"{reprlib.repr(reference['resource'])} must be {what}"
        return
    try:
        divisor = parse_quantity(0 if reference.get("divisor") is None else reference["divisor"])
    except ValueError as error:
        yield f"{path}.divisor", str(error)
        return
    units = ("1m", "1") if resource[2] == "cpu" else ("1", *(f"1{s}{i}" for s in "kKMGTPE" for i in ("", "i")))
    known = {parse_quantity(unit) for unit in units if unit not in ("1K", "1ki")}
    if divisor and divisor not in known:
        yield f"{path}.divisor", f"{reference['divisor']} must be one of the units {', '.join(sorted(units))}"


def _mount(path: str, mount: Mapping[str, Any]) -> Problems:
    if mount.get("recursiveReadOnly") not in ("IfPossible", "Enabled"):
        return
    if not mount.get("readOnly"):
        yield f"{path}.recursiveReadOnly", "needs readOnly: true"
    if mount.get("mountPropagation") not in (None, "None"):
        yield f"{path}.recursiveReadOnly", "needs mountPropagation None"


def _security(path: str, context: Mapping[str, Any]) -> Problems:
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            yield f"{path}.allowPrivilegeEscalation", "must not be false where privileged is true"
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            yield f"{path}.allowPrivilegeEscalation", "must not be false with the capability CAP_SYS_ADMIN"


def _windows(path: str, options: Mapping[str, Any]) -> Problems:
    if len((options.get("gmsaCredentialSpec") or "").encode()) > 64 * 1024:
        yield f"{path}.gmsaCredentialSpec", "must have at most 64 KiB"
    name = options.get("runAsUserName")
    if name is None:
        return
    domain, backslash, user = name.rpartition("\\")
    dns = r"[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)*"
    is_domain = re.fullmatch(rf"""[^\\/:*?"<>|.][^\\/:*?"<>|]{{0,14}}|{dns}""", domain) and len(domain) < 256
    is_user = re.fullmatch(r"""(?![. ]*$)[^"/\\:;|=,+*?<>@\[\]]{1,104}""", user) and len(user.encode()) <= 104
    if re.search(r"[\x00-\x1f\x7f]", name) or not is_user or (backslash and not is_domain):
        yield f"{path}.runAsUserName", f"{reprlib.repr(name)} must be USER or DOMAIN\\USER"


# --- where it runs ----------------------------------------------------------------------------------------------------


def _toleration(path: str, toleration: Mapping[str, Any]) -> Problems:
    key, operator, value = (toleration.get(field) or "" for field in ("key", "operator", "value"))
    if not key and operator != "Exists":
        yield f"{path}.operator", "must be Exists where no key is given"
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        yield f"{path}.effect", "must be NoExecute where tolerationSeconds is set"
    if operator == "Exists" and value:
        yield f"{path}.value", "must be left out with operator Exists"
    elif operator in ("", "Equal"):
        yield from LABEL_VALUE(f"{path}.value", value)
    elif operator in ("Lt", "Gt") and not (
        re.fullmatch("0|-?[1-9][0-9]{0,18}", value) and -(2**63) <= int(value) < 2**63
    ):
        yield f"{path}.value", f"must be a whole number with operator {operator}"


def _selected(path: str, requirement: Mapping[str, Any]) -> Problems:
    """How many values go with an operator."""
    operator, values = requirement["operator"], requirement.get("values") or ()
    if operator in ("In", "NotIn") and not values:
        yield f"{path}.values", f"must not be empty with operator {operator}"
    elif operator in _VALUELESS and values:
        yield f"{path}.values", f"must be left out with operator {operator}"
    elif operator in ("Gt", "Lt") and len(values) != 1:
        yield f"{path}.values", f"must be one value with operator {operator}"


def _node_term(path: str, term: Mapping[str, Any]) -> Problems:
    for number, requirement in enumerate(term.get("matchExpressions") or ()):
        here = f"{path}.matchExpressions[{number}]"
        yield from _selected(here, requirement)
        if requirement["operator"] not in ("In", "NotIn", "Gt", "Lt", *_VALUELESS):
            yield f"{here}.operator", "must be one of In, NotIn, Exists, DoesNotExist, Gt, Lt"
        if not is_key(requirement["key"]):
            yield f"{here}.key", f"{reprlib.repr(requirement['key'])} is not a key of labels"
    for number, requirement in enumerate(term.get("matchFields") or ()):
        here = f"{path}.matchFields[{number}]"
        values: Sequence[str] = requirement.get("values") or ()
        if requirement["key"] != "metadata.name":
            yield f"{here}.key", "must be metadata.name"
        if requirement["operator"] not in ("In", "NotIn") or len(values) != 1 or list(NAME("", values[0])):
            yield here, "must be In or NotIn with the name of one node"


def _required_nodes(path: str, selector: Mapping[str, Any]) -> Problems:
    """Kubernetes looks at values of what is required only."""
    for number, term in enumerate(selector["nodeSelectorTerms"]):
        for at, requirement in enumerate(term.get("matchExpressions") or ()):
            for each, value in enumerate(requirement.get("values") or ()):
                where = f"{path}.nodeSelectorTerms[{number}].matchExpressions[{at}].values[{each}]"
                yield from LABEL_VALUE(where, value)


def _label_keys(path: str, term: Mapping[str, Any]) -> Problems:
    selector, matched = term.get("labelSelector"), term.get("matchLabelKeys") or ()
    mismatched = term.get("mismatchLabelKeys") or ()
    if selector is None and (matched or mismatched):
        yield f"{path}.labelSelector", "is missing beside matchLabelKeys or mismatchLabelKeys"
    selected = [*((selector or {}).get("matchLabels") or ())]
    for expression in (selector or {}).get("matchExpressions") or ():
        if expression["key"] in matched and expression["key"] in selected:
            yield f"{path}.matchLabelKeys", f"{reprlib.repr(expression['key'])} is in labelSelector too"
        selected.append(expression["key"])
    if both := set(matched) & set(mismatched):
        yield f"{path}.matchLabelKeys", f"{reprlib.repr(min(both))} is in mismatchLabelKeys too"


def _spread(path: str, constraint: Mapping[str, Any]) -> Problems:
    yield from _label_keys(path, constraint)
    if constraint.get("minDomains") is not None and constraint["whenUnsatisfiable"] != "DoNotSchedule":
        yield f"{path}.minDomains", "needs whenUnsatisfiable DoNotSchedule"


# --- volumes ----------------------------------------------------------------------------------------------------------


def _claim(path: str, spec: Mapping[str, Any]) -> Problems:
    modes = spec.get("accessModes") or ()
    if "ReadWriteOncePod" in modes and set(modes) != {"ReadWriteOncePod"}:
        yield f"{path}.accessModes", "ReadWriteOncePod goes with no other mode"
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    try:
        if storage is None:
            yield f"{path}.resources.requests.storage", "is missing"
        elif parse_quantity(storage) <= 0:
            yield f"{path}.resources.requests.storage", "must be greater than 0"
    except ValueError as error:
        yield f"{path}.resources.requests.storage", str(error)
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    for field, data in (("dataSource", source), ("dataSourceRef", reference)):
        if data is not None and not data.get("apiGroup") and data["kind"] != "PersistentVolumeClaim":
            yield f"{path}.{field}.apiGroup", "is missing: only a PersistentVolumeClaim needs none"
    if source is not None and reference is not None:
        same = all((source.get(field) or "") == (reference.get(field) or "") for field in ("apiGroup", "kind", "name"))
        if reference.get("namespace") or not same:
            yield f"{path}.dataSource", "must be the same as dataSourceRef, and of this namespace, or left out"


def _claim_template(path: str, template: Mapping[str, Any]) -> Problems:
    metadata = template.get("metadata") or {}
    for field, value in metadata.items():
        if field not in ("labels", "annotations") and value not in ("", 0, None) and value != []:
            yield f"{path}.metadata.{field}", "cannot be set here"
    yield from labels_and_annotations(f"{path}.metadata", metadata.get("labels"), metadata.get("annotations"))


def _azure_disk(path: str, disk: Mapping[str, Any]) -> Problems:
    start = "/subscriptions/" if disk.get("kind") == "Managed" else "https://"
    if not disk["diskURI"].startswith(start):
        yield f"{path}.diskURI", f"must begin with {start}"


def _iscsi(path: str, source: Mapping[str, Any]) -> Problems:
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
        yield f"{path}.secretRef", "is missing for CHAP"


def _fibre_channel(path: str, source: Mapping[str, Any]) -> Problems:
    if source.get("targetWWNs") and not 0 <= (-1 if source.get("lun") is None else source["lun"]) <= 255:
        yield f"{path}.lun", "must be between 0 and 255 beside targetWWNs"


def _quobyte(path: str, source: Mapping[str, Any]) -> Problems:
    if any(not re.fullmatch(r"[^:\[\]]*:[^:\[\]]*|\[[^\[\]]*\]:[^:\[\]]*", part, re.DOTALL)
           for part in source["registry"].split(",")):  # fmt: skip
        yield f"{path}.registry", "must be HOST:PORT, or several with commas between"
    if len((source.get("tenant") or "").encode()) > 64:
        yield f"{path}.tenant", "must have at most 64 characters"


def _flex(path: str, source: Mapping[str, Any]) -> Problems:
    for option in source.get("options") or ():
        if f".{option.partition('/')[0].lower()}".endswith((".kubernetes.io", ".k8s.io")):
            yield f"{path}.options", f"{reprlib.repr(option)}: the domains kubernetes.io and k8s.io are reserved"


def _secret_of(field: str, *, checked: bool = False) -> Callable[[str, Mapping[str, Any]], Problems]:
    def check(path: str, source: Mapping[str, Any]) -> Problems:
        if source.get(field) is None:
            return
        name = source[field].get("name") or ""
        if not name:
            yield f"{path}.{field}.name", "is missing"
        elif checked:
            yield from NAME(f"{path}.{field}.name", name)

    return check


def _trust_bundle(path: str, source: Mapping[str, Any]) -> Problems:
    name = source.get("name")
    if name is None:
        return
    if source.get("labelSelector") is not None:
        yield f"{path}.labelSelector", "must be left out beside a name"
    if list(NAME("", name.replace(":", "-"))) or name.startswith(":"):
        yield f"{path}.name", f"{reprlib.repr(name)} is no name of a ClusterTrustBundle"


def _certificate(path: str, source: Mapping[str, Any]) -> Problems:
    if not any(source.get(field) for field in ("credentialBundlePath", "keyPath", "certificateChainPath")):
        yield path, "must have a credentialBundlePath, keyPath or certificateChainPath"
    domain = source["signerName"].partition("/")[0]
    if f".{domain}".endswith(".kubernetes.io") and (source.get("maxExpirationSeconds") or 0) > _DAY:
        yield f"{path}.maxExpirationSeconds", f"must be at most {_DAY} with a signer of kubernetes.io"


def _projected(path: str, source: Mapping[str, Any]) -> Problems:
    """Files of the sources must not take each other's place."""
    paths: list[str] = []
    for part in source.get("sources") or ():
        for kind in ("secret", "configMap", "downwardAPI"):
            paths += [item["path"] for item in (part.get(kind) or {}).get("items") or ()]
        paths += [part["clusterTrustBundle"]["path"]] if part.get("clusterTrustBundle") else []
        certificate = part.get("podCertificate") or {}
        paths += [certificate.get(field) or "" for field in ("credentialBundlePath", "keyPath", "certificateChainPath")]
    yield from unique(f"{path}.sources", [written for written in paths if written])


#: Definition -> what is looked at.
CHECKS: dict[str, Callable[[str, Mapping[str, Any]], Problems]] = {
    "AzureDiskVolumeSource": _azure_disk,
    "CSIVolumeSource": _secret_of("nodePublishSecretRef", checked=True),
    "CinderVolumeSource": _secret_of("secretRef"),
    "ClusterTrustBundleProjection": _trust_bundle,
    "DownwardAPIVolumeFile": _file,
    "EnvVarSource": _environment,
    "FCVolumeSource": _fibre_channel,
    "FlexVolumeSource": _flex,
    "ISCSIVolumeSource": _iscsi,
    "LabelSelectorRequirement": _selected,
    "NodeSelector": _required_nodes,
    "NodeSelectorTerm": _node_term,
    "PersistentVolumeClaimSpec": _claim,
    "PersistentVolumeClaimTemplate": _claim_template,
    "PodAffinityTerm": _label_keys,
    "PodCertificateProjection": _certificate,
    "ProjectedVolumeSource": _projected,
    "QuobyteVolumeSource": _quobyte,
    "ResourceFieldSelector": _resource,
    "SecurityContext": _security,
    "StorageOSVolumeSource": _secret_of("secretRef"),
    "Toleration": _toleration,
    "TopologySpreadConstraint": _spread,
    "VolumeMount": _mount,
    "WindowsSecurityContextOptions": _windows,
}
