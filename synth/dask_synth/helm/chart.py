"""The files of the chart. Its values are keyword arguments of ``DaskOperator``, by the names that they have there."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import yaml
from msgspec import Meta

import dask_constructs  # noqa: F401 - first of all, so that jsii finds Node.js

# isort: split
from cdk8s import Chart, Testing

from dask_constructs import DaskCustomResourceDefinitions, DaskOperator
from dask_constructs.limits import Limits, written
from dask_constructs.operator import OperatorProps
from dask_constructs.operator_pod import NAME, VERSION
from dask_crds.docstrings import field_docstrings
from dask_crds.kubernetes.core_v1 import ResourceRequirements, Toleration

from ..config import Configuration
from .templating import Template, Value

_Text = Annotated[str, Meta(min_length=1)]
_Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
_Address = Annotated[str, Meta(pattern="^[0-9a-fA-F.:]+/[0-9]+$")]


class _Option(NamedTuple):
    """A keyword argument of ``DaskOperator`` as a value of the chart.

    Attributes:
        type: what values.schema.json says of it.
        mark: its value in the full example, see `templating`.
        default: in values.yaml.
        condition: what is true if it makes a difference; empty where there is always a value.
        without: what it is in the example without it.
        passed: whether it is put in as it is.
        json: what stands for it in the full example where it is put in as JSON; empty where it is not.
    """

    type: Any
    mark: Any
    default: Any = None
    condition: str = "$.Values.{}"
    without: Any = None
    passed: bool = False
    json: str = ""


#: Limits in the full example.
_LIMITS = {"jobs": 97, "namespaces": {"mark-limits": {"jobs": "none"}}}
#: What is true if there are queues, which depends on two values.
_QUEUES = f'include "{NAME}.queues" $'


def _options(configuration: Configuration) -> dict[str, _Option]:
    """By their names in ``DaskOperator``. Configured values are the defaults, but for what belongs to a variant."""
    return {
        "image": _Option(_Text, "mark/image", configuration.image, condition=""),
        "image_pull_secrets": _Option(list[_Name], ["mark-pull-secret"], [*configuration.image_pull_secrets]),
        "replicas": _Option(
            Annotated[int, Meta(ge=0, le=100)], 97, configuration.replicas, "gt (int $.Values.{}) 1", without=1
        ),
        "namespaces": _Option(list[_Name], ["mark-namespaces"], []),
        "crds": _Option(bool, False, True, condition=""),
        "create_namespace": _Option(bool, True, False, without=False),
        "aggregated_roles": _Option(bool, True, True, without=False),
        "confined": _Option(bool, True, True, without=False),
        "queues": _Option(bool, True, condition=_QUEUES, without=False),
        "limits": _Option(Limits, _LIMITS, {}, json=written(_LIMITS)),
        "metrics_namespaces": _Option(list[_Name], ["mark-metrics-namespace"], [*configuration.metrics_namespaces]),
        "metrics_tls": _Option(_Name, "mark-metrics-tls", configuration.metrics_tls),
        "api_server": _Option(list[_Address], ["192.0.2.99/32"], []),
        "egress": _Option(list[dict[str, Any]], [{"to": [{"ipBlock": {"cidr": "192.0.2.98/32"}}]}], [], passed=True),
        "cluster_domain": _Option(_Text, "mark.cluster-domain", configuration.cluster_domain, condition=""),
        "not_inherited": _Option(list[_Text], ["mark.not-inherited/"], [*configuration.not_inherited]),
        "resources": _Option(ResourceRequirements, {"limits": {"memory": "97Mi"}}, passed=True),
        "priority_class": _Option(_Name, "mark-priority-class", configuration.priority_class),
        "node_selector": _Option(dict[_Text, str], {"mark": "node-selector"}, {}, passed=True),
        "tolerations": _Option(list[Toleration], [{"key": "mark-toleration", "operator": "Exists"}], [], passed=True),
        "host_users": _Option(bool, False, condition='eq (toString $.Values.{}) "false"'),
        "args": _Option(list[_Text], ["mark-args"], []),
    }


_CLUSTER_NAME = f'include "{NAME}.nameInCluster" $'
_HELPERS = f"""\
{{{{- /* Name of what has no namespace: two operators in one cluster have one each. */ -}}}}
{{{{- define "{NAME}.nameInCluster" -}}}}
{{{{- if eq .Release.Namespace "{NAME}" }}}}{NAME}{{{{ else }}}}{NAME}-{{{{ .Release.Namespace }}}}{{{{ end }}}}
{{{{- end }}}}
{{{{- /* Whether there are queues: as it is said, else unless namespaces are listed. */ -}}}}
{{{{- define "{NAME}.queues" -}}}}
{{{{- if kindIs "invalid" .Values.queues }}}}{{{{ if not .Values.namespaces }}}}true{{{{ end }}}}
{{{{- else if .Values.queues }}}}true{{{{ end }}}}
{{{{- end }}}}
"""
_CRDS = """\
{{- if .Values.crds }}
{{- range $path, $_ := .Files.Glob "files/crds/*.yaml" }}
---
{{ $.Files.Get $path }}
{{- end }}
{{- end }}
"""
_NOTES = f"""\
{{{{ .Values.replicas }}}} operator(s) of {NAME} {{{{ .Chart.AppVersion }}}} in namespace {{{{ .Release.Namespace }}}}.

  kubectl rollout status --namespace {{{{ .Release.Namespace }}}} deployment/{NAME}
  kubectl get dask --all-namespaces

The CustomResourceDefinitions stay when the release is uninstalled, and all Dask resources with them.
"""
_README = f"""\
# {NAME}

The operator of [dask-gitops](https://github.com/dask-gitops/dask-gitops): Dask clusters, jobs and autoscalers from Git.

    helm install {NAME} oci://ghcr.io/dask-gitops/charts/{NAME} --version {VERSION} \\
      --namespace {NAME} --create-namespace

All values are explained in `values.yaml`. An upgrade brings the CustomResourceDefinitions along. When the release is
uninstalled they stay, and all Dask resources with them.
"""
#: Of the release, in the full example.
_NAMESPACE = "mark-release"


def chart(configuration: Configuration) -> dict[Path, str]:
    """Contents of the files of the chart, by their path in it.

    Raises:
        ValueError: an option of the construct cannot be put into a template.
    """
    options = _options(configuration)
    crds = {f"files/crds/{crd['spec']['names']['plural']}.yaml": _written(crd) for crd in _definitions()}
    files = {
        "Chart.yaml": _chart_yaml(),
        "README.md": _README,
        "values.yaml": "".join(_values_yaml(options)),
        "values.schema.json": json.dumps(_schema(options), indent=2) + "\n",
        "templates/NOTES.txt": _NOTES,
        "templates/_helpers.tpl": _HELPERS,
        "templates/crds.yaml": _CRDS,
        "templates/operator.yaml": _template(),
        **crds,
    }
    return {Path(name): text for name, text in files.items()}


@cache
def _template() -> str:
    """Namespace, permissions, Deployment and the rest, from examples of the construct."""
    options = _options(Configuration())
    full = {name: option.mark for name, option in options.items()}
    values = [
        Value(f"{NAME}-{_NAMESPACE}", _CLUSTER_NAME),
        Value(_NAMESPACE, "$.Release.Namespace"),
        *(
            Value(option.json, f"toJson $.Values.{_camel(name)}")
            if option.json
            else Value(option.mark, f"$.Values.{_camel(name)}", option.passed)
            for name, option in options.items()
            if not isinstance(option.mark, bool)
        ),
    ]
    template = Template(_operator(full), values)
    for name, option in options.items():
        if option.condition:
            changed = {**full, name: option.without}
            nor = {_QUEUES: _operator({**changed, "queues": False})} if name == "namespaces" else None
            template.without(option.condition.format(_camel(name)), _operator(changed), nor)
    # The operator may go anywhere unless one of these says where.
    template.without("or $.Values.apiServer $.Values.egress", _operator({**full, "api_server": None, "egress": None}))
    return template.text()


def _operator(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    chart = Chart(Testing.app(), "operator")
    DaskOperator(chart, "operator", **{**options, "namespace": _NAMESPACE})
    return list(Testing.synth(chart))


def _definitions() -> list[dict[str, Any]]:
    chart = Chart(Testing.app(), "crds")
    DaskCustomResourceDefinitions(chart, "crds")
    return list(Testing.synth(chart))


# --- what is said of it -----------------------------------------------------------------------------------------------


def _chart_yaml() -> str:
    return _written(
        {
            "apiVersion": "v2",
            "name": NAME,
            "version": VERSION,
            "appVersion": VERSION,
            "description": "Operator for Dask clusters, jobs and autoscalers from Git",
            "type": "application",
            "home": "https://github.com/dask-gitops/dask-gitops",
            "sources": ["https://github.com/dask-gitops/dask-gitops"],
            "annotations": {"artifacthub.io/license": "Apache-2.0", "artifacthub.io/operator": "true"},
        }
    )


def _values_yaml(options: Mapping[str, _Option]) -> Iterator[str]:
    """Defaults, each with what the construct's documentation says of it."""
    said = {**field_docstrings(OperatorProps), **_SAID}
    yield f"# Values of the chart {NAME}: what the construct DaskOperator takes. null and [] count as left out.\n"
    for name, option in options.items():
        yield "\n"
        yield from (f"# {line}\n" for line in textwrap.wrap(_of_the_chart(said[name]), 116))
        yield _written({_camel(name): option.default})


#: What is said of those that are not the same here.
_SAID = {
    "create_namespace": "Whether the namespace of the release is part of the chart, with restricted Pod security, for "
    "those who apply what `helm template` writes. `helm install --create-namespace` makes it by itself; not both.",
    "metrics_namespaces": "Namespaces whose Pods may read metrics, that of Prometheus say.",
    "host_users": "false: its Pods are in user namespaces (default: Kubernetes' own, which is that of the node).",
}


def _of_the_chart(text: str) -> str:
    """What is said of a keyword argument, of the value: its default stands below it."""
    text = re.sub(r" \(default(?: true| 2| none| ``cluster.local``|: that of this release)?\)", "", text)
    text = text.replace("``namespace``", "the namespace of the release").replace("``", "")
    return text.replace("the construct", "the chart")


def _schema(options: Mapping[str, _Option]) -> dict[str, Any]:
    """JSON schema by which Helm refuses values before anything is applied."""
    types = [option.type for option in options.values()]
    schemas, definitions = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    properties = {
        _camel(name): schema if option.default is not None else {"anyOf": [schema, {"type": "null"}]}
        for (name, option), schema in zip(options.items(), schemas, strict=True)
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        # Helm forgets a value that is null, and so would a policy be left out by mistake.
        "required": [_camel(name) for name, option in options.items() if isinstance(option.default, bool | int | str)],
        # What Helm adds by itself, for those that take this chart for a part of theirs.
        "properties": {**properties, "global": {"type": "object"}},
        "$defs": definitions,
    }


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)


def _written(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=116)
