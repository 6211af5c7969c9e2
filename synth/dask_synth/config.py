"""The one configuration file of the app, see ``synth/config.yaml`` for what each field means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta, Struct

from dask_constructs.operator import DEFAULT_IMAGE

_Text = Annotated[str, Meta(min_length=1)]


class ConfigurationError(Exception):
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
        return msgspec.convert(yaml.safe_load(path.read_text()) or {}, Configuration)
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
