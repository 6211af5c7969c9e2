"""What the constructs have in common: keyword arguments, metadata, and checks at synth."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypedDict

from cdk8s import ApiObject, Names
from constructs import Construct
from msgspec import Struct

from dask_crds import names
from dask_crds.model import InvalidManifest, dump, parse, without_nulls

from .agreement import Declared
from .conflicts import conflicts
from .described import Described
from .findings import Findings
from .keywords import Options, accepted
from .manifest import api_object
from .origins import findings, with_origins
from .pods import Pods
from .roles import Role
from .values import Text


class Metadata(TypedDict, total=False):
    """Metadata of a resource."""

    name: Text | None
    """Name of the resource; left out, cdk8s makes one up from the construct's path."""
    namespace: Text | None
    """Namespace; left out, that of the chart."""
    labels: Mapping[Text, str] | None
    """Labels; what the operator makes gets them as well, but for those by which tools track or queue what is theirs."""
    annotations: Mapping[Text, str] | None
    """Annotations; they are passed on like labels."""


class DaskConstruct(Construct, metaclass=Described):
    """A construct whose keyword arguments are checked, and which tells at synth what is wrong with it.

    A subclass yields from ``_problems`` what is wrong with what it has made.
    """

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        self._mistakes: list[str] = []
        Findings.of(self).members.append(self)

    def problems(self) -> list[str]:
        """All that is wrong, in arguments and in manifests as they will be written, as ``field: message``."""
        return [*self._mistakes, *self._problems()]

    def declared(self) -> Declared | None:
        """The Dask resource that this is, as ``problems`` saw it last; ``None`` if it is none."""
        return None

    def _accepted(self, given: Mapping[str, Any], declared: type) -> Options:
        """The keyword arguments that are right; the others are told at synth."""
        options = accepted(given, declared, self._mistakes.append)
        conflicting = dict(conflicts(options))
        self._mistakes += [f"{keyword}: {message}" for keyword, message in conflicting.items()]
        refused = {re.split(r"[.[]", keyword)[0] for keyword in conflicting}
        return {name: value for name, value in options.items() if name not in refused}

    def _problems(self) -> Iterator[str]:
        yield from ()

    def _made_up_name(self, longest: int) -> str:
        """The name that cdk8s makes up, or the chart in its own way; if that is too long, a shorter one."""
        draft = ApiObject(self, "Resource", api_version="v1", kind="Draft")
        name = draft.name if len(draft.name) <= longest else Names.to_dns_label(draft, max_len=longest)
        self.node.try_remove_child("Resource")
        return name


class DaskResource(DaskConstruct):
    """One of our four kinds: a cdk8s object that is checked at synth.

    Attributes:
        api_object: the manifest; ``api_object.add_json_patch(...)`` has the last word on it, and is checked as well.
        spec: the spec as it was declared, before such patches.
    """

    KIND: ClassVar[str]
    #: Names that are made up are no longer than this.
    LONGEST_NAME: ClassVar[int] = 63
    #: The kinds of Pods that it consists of, and where their templates are in the manifest, as JSON pointers.
    ROLES: ClassVar[Mapping[Role, str]] = {}

    api_object: ApiObject
    spec: Mapping[str, Any]

    def _named(self, options: Options, suffix: str = "") -> Options:
        """The options with a name, which leaves room for a suffix if it is made up."""
        return {**options, "name": options.get("name") or self._made_up_name(self.LONGEST_NAME - len(suffix))}

    def _declare(self, spec: Mapping[str, Any], options: Options, *, suffix: str = "") -> None:
        """Make the manifest of a spec and of the metadata among ``options``; ``suffix`` is appended to its name."""
        self.spec, self._options = spec, options
        options = self._named(options, suffix)
        metadata = {key: options[key] for key in Metadata.__annotations__ if key in options}
        metadata["name"] += suffix
        manifest = {"apiVersion": names.API_VERSION, "kind": self.KIND, "metadata": metadata, "spec": spec}
        self.api_object = api_object(self, "Resource", manifest)

    def _pods(self, role: Role) -> Pods:
        return Pods(self, role, self.ROLES[role], self._accepted)

    def _problems(self) -> Iterator[str]:
        self._written = self.api_object.to_json()
        self._found = findings(self._written, self.ROLES)
        declared = {**self._written, "spec": self.spec}
        yield from with_origins(self._found, declared, self.ROLES, self._options)

    def declared(self) -> Declared | None:
        """The resource as ``problems`` saw it last; ``None`` if it cannot be read, as a spec with a field missing."""
        if self._found:  # else it has been read already
            try:
                parse(self._written)
            except InvalidManifest:
                return None
        return Declared(self.node.path, self._written)

    @property
    def kind(self) -> str:
        """Kind of the resource."""
        return self.KIND

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return self.api_object.name

    @property
    def namespace(self) -> str | None:
        """``metadata.namespace``, ``None`` where neither the resource nor its chart states one."""
        return self.api_object.metadata.namespace


class Exact(DaskResource):
    """Constructor of the exact form, put before that of the short form by ``from_spec``."""

    def __init__(self, scope: Construct, id: str, spec: Struct | Mapping[str, Any], metadata: Metadata) -> None:
        DaskConstruct.__init__(self, scope, id)
        body, own = exact_form(spec, self.KIND, self._dumped)
        self._declare(body, self._accepted({**own, **metadata}, Metadata))

    @staticmethod
    def _dumped(spec: Any) -> dict[str, Any]:
        return dump(spec)


def exact_form(
    given: Struct | Mapping[str, Any], kind: str, dumped: Callable[[Any], dict[str, Any]] = dump
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The spec as it is written, and metadata, of a struct, of the mapping that a spec is, or of a whole manifest.

    A mapping says just what it states: ``replicas: 1`` stays, though it is the API's default. Nulls, which
    dask-kubernetes' ``make_cluster_spec`` has, are left out, as the API server does.

    Raises:
        TypeError: it is something else.
        ValueError: it is a manifest of another kind, or of another API.
    """
    if isinstance(given, Struct):
        return dumped(given), {}
    if not isinstance(given, Mapping):
        raise TypeError(f"spec: must be the spec of a {kind}, as a struct or a mapping, not {reprlib.repr(given)}")
    body: dict[str, Any] = without_nulls(dict(given))
    if "kind" not in body:
        return body, {}
    if (body.get("apiVersion"), body["kind"]) != (names.API_VERSION, kind):
        found = f"{body['kind']} of {body.get('apiVersion')}"
        raise ValueError(f"spec: must be a {kind} of {names.API_VERSION}, not a {found}")
    metadata = {key: body.get("metadata", {}).get(key) for key in Metadata.__annotations__}
    return body.get("spec", {}), metadata


def state_replicas(worker: dict[str, Any], options: Options) -> None:
    """Write ``replicas: 1`` where it was asked for, which ``dump`` leaves out as the API's default.

    Stated in Git it is reverted to 1, left out it may be scaled.
    """
    if "workers" in options:
        worker["replicas"] = options["workers"]
