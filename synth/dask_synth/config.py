"""The one configuration file of the app, see ``synth/config.yaml`` for what each field means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta, Struct

from dask_constructs.operator_pod import DEFAULT_IMAGE

from .failure import Failure

_Text = Annotated[str, Meta(min_length=1)]


#: https://github.com/distribution/reference/blob/main/reference.go, IP addresses of version 6 apart.
_IMAGE = re.compile(
    r"(?:[A-Za-z0-9]+(?:[.-][A-Za-z0-9-]+)*(?::[0-9]+)?/)?"  # registry
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"  # repository
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


class ConfigurationError(Failure):
    """The configuration file does not say what it should; the message names file and field."""


class Configuration(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What may differ from one installation to the next."""

    image: _Text = DEFAULT_IMAGE
    namespace: _Text = "dask-operator"
    namespaces: Annotated[tuple[_Text, ...], Meta(min_length=1)] = ("default",)
    replicas: Annotated[int, Meta(ge=1)] = 2
    cluster_domain: _Text = "cluster.local"
    not_inherited: tuple[_Text, ...] = ()
    priority_class: _Text | None = None
    image_pull_secrets: tuple[_Text, ...] = ()
    metrics_namespaces: tuple[_Text, ...] = ()
    metrics_tls: _Text | None = None
    monitoring_labels: dict[_Text, str] = msgspec.field(default_factory=lambda: {"release": "kube-prometheus-stack"})
    example_image: _Text = "ghcr.io/dask/dask:2026.8.0"
    repository: _Text = "https://github.com/dask-gitops/dask-gitops.git"
    revision: _Text = "main"
    manifests: _Text = "dist"
    workloads: _Text = "clusters"


def load(path: Path) -> Configuration:
    """The configuration in a YAML file.

    Raises:
        ConfigurationError: no such file, not YAML, an unknown field or a value that does not fit.
    """
    try:
        configuration = msgspec.convert(yaml.safe_load(path.read_bytes()) or {}, Configuration)
        for field in ("image", "example_image"):
            check_image(getattr(configuration, field))
    except (OSError, yaml.YAMLError, msgspec.ValidationError, ConfigurationError, RecursionError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return configuration


def check_image(reference: str) -> None:
    """Refuse what no container runtime takes for the reference of an image.

    Raises:
        ConfigurationError: it is none.
    """
    if not _IMAGE.fullmatch(reference):
        expected = "registry.example.com/team/name:tag@sha256:<64 hexadecimal digits>"
        raise ConfigurationError(f"{reference!r} is not the reference of an image, such as {expected}")
