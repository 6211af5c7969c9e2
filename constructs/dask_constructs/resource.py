"""What the constructs have in common: keyword arguments, metadata, and checks at synth."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypedDict

from cdk8s import ApiObject, Chart, Names
from constructs import Construct
from msgspec import Struct

from dask_crds import names
from dask_crds.model import InvalidManifest, dump, parse, without_nulls
from dask_crds.names import Label

from .agreement import Declared
from .conflicts import conflicts
from .described import Described
from .findings import Findings
from .handed_in import HandedIn, handed_in
from .keywords import Options, accepted
from .manifest import api_object, misnamed
from .origins import Call, Manifest, findings, with_origins
from .pods import Pods
from .roles import Role
from .values import Text
from .writable import plain, unwritable


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

    Attributes:
        handed_in: objects among the arguments, which are applied before what the construct makes.
    """

    _namespace: str | None = None  #: that was stated

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        self._mistakes: list[str] = []
        self.handed_in: list[HandedIn] = []
        Findings.of(self).members.append(self)

    def problems(self) -> list[str]:
        """All that is wrong, in arguments and in manifests as they will be written, as ``field: message``."""
        elsewhere = (line for one in self.handed_in for line in self._elsewhere(one))
        told = [*self._mistakes, *self._problems()]
        told += [line for line in self._misnamed() if not any(other.endswith(line) for other in told)]
        return [*told, *elsewhere]

    @property
    def namespace(self) -> str | None:
        """Namespace of what it makes, ``None`` where neither the construct nor its chart states one."""
        return self._namespace or Chart.of(self).namespace

    def declared(self) -> Declared | None:
        """The Dask resource that this is, as ``problems`` saw it last; ``None`` if it is none."""
        return None

    def _accepted(self, given: Mapping[str, Any], declared: type) -> Options:
        """The keyword arguments that are right; the others are told at synth."""
        options = accepted(given, declared, self._mistakes.append)
        conflicting = dict(conflicts(options))
        self._mistakes += [f"{keyword}: {message}" for keyword, message in conflicting.items()]
        refused = {re.split(r"[.[]", keyword)[0] for keyword in conflicting}
        self._namespace = options.get("namespace", self._namespace)
        self._take(list(handed_in(given)))
        return {name: value for name, value in options.items() if name not in refused}

    def _take(self, objects: list[HandedIn]) -> None:
        self.handed_in += objects
        made = [child for child in self.node.children if isinstance(child, ApiObject)] if objects else []
        for one in objects:
            for child in made:
                one.precedes(child)

    def _elsewhere(self, one: HandedIn) -> Iterator[str]:
        return one.elsewhere(self.namespace)

    def _problems(self) -> Iterator[str]:
        yield from ()

    def _misnamed(self) -> Iterator[str]:
        """What is wrong with names, labels and annotations of the objects that it makes, each once."""
        made = (child for child in self.node.children if isinstance(child, ApiObject))
        yield from dict.fromkeys(f"{path}: {message}" for one in made for path, message in misnamed(one))

    def _other_name(self, options: Options, longest: int) -> str:
        """The name where none is said: the one that cdk8s makes up, or the chart in its own way, or a shorter one.

        Where one is said it takes the place of that only to see what comes of leaving it out.
        """
        if "name" in options:
            return "left-out"
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

    def _declare(self, spec: Callable[[Options], Mapping[str, Any]], options: Options) -> None:
        """Make the manifest of what ``spec`` makes of the keyword arguments, and of the metadata among them."""
        self._options = options
        other = self._other_name(options, self.LONGEST_NAME - len(self._suffix({})))

        def named(options: Options) -> Options:
            return {**options, "name": options.get("name", other)}

        self._stem, self.spec = named(options)["name"], spec(named(options))
        suffix = self._suffix(self.spec)

        def manifest(spec: Mapping[str, Any], options: Options, where: str | None = None) -> dict[str, Any]:
            return resource_manifest(self.KIND, options["name"] + suffix, spec, {"namespace": where, **options})

        def make(_: Manifest, options: Options) -> Manifest:
            return manifest(spec(named(options)), named(options), Chart.of(self).namespace)

        self.api_object = api_object(self, "Resource", manifest(self.spec, named(options)))
        self._calls = [Call(options, make)]

    def _suffix(self, spec: Mapping[str, Any]) -> str:
        """What is appended to the name; of the same length whatever the spec."""
        return ""

    def _pods(self, role: Role) -> Pods:
        return Pods(self, role, self.ROLES[role], self._accepted)

    def _problems(self) -> Iterator[str]:
        self._written = self.api_object.to_json()
        self._found = self._look(self._written)
        yield from with_origins(self._found, self._calls, self._look)

    def _look(self, manifest: Manifest) -> list[str]:
        """All that is wrong with the resource if this is its manifest."""
        return findings(manifest)

    def _misnamed(self) -> Iterator[str]:
        return iter(())  # said of the manifest already

    def _elsewhere(self, one: HandedIn) -> Iterator[str]:
        """Of Dask resources ``agreement`` tells, which knows those that are named as well."""
        return iter(()) if one.is_ours else super()._elsewhere(one)

    def declared(self) -> Declared | None:
        """The resource as ``problems`` saw it last; ``None`` if it cannot be read, as a spec with a field missing."""
        if self._found:  # else it has been read already
            try:
                parse(self._written)
            except InvalidManifest:
                return None
        return Declared(self.node.path, self._written, self._calls)

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
        body, own = exact_form(spec, self.KIND)
        self._declare(lambda _: body, self._accepted({**own, **metadata}, Metadata))


def resource_manifest(kind: str, name: str, spec: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Manifest of one of our kinds, with the metadata among keyword arguments."""
    stated = {key: options[key] for key in Metadata.__annotations__ if options.get(key) is not None}
    if queue := queue_labels(options):
        stated["labels"] = {**stated.get("labels", {}), **queue}
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {**stated, "name": name}, "spec": spec}


def queue_labels(options: Options) -> dict[str, str]:
    """Labels by which a cluster or job names a queue of Kueue, and its priority there."""
    named = {Label.QUEUE: options.get("queue"), Label.PRIORITY_CLASS: options.get("queue_priority")}
    return {key: str(value) for key, value in named.items() if value}


def exact_form(given: Struct | Mapping[str, Any], kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The spec as it is written, and metadata, of a struct, of the mapping that a spec is, or of a whole manifest.

    Both say just what they state: ``replicas: 1`` stays, though it is the API's default. Nulls, which dask-kubernetes'
    ``make_cluster_spec`` has, are left out, as the API server does.

    Raises:
        TypeError: it is something else.
        ValueError: it is a manifest of another kind, or of another API, or has text that no file can hold.
    """
    if not isinstance(given, Struct | Mapping):
        raise TypeError(f"spec: must be the spec of a {kind}, as a struct or a mapping, not {reprlib.repr(given)}")
    stated = plain(dump(given) if isinstance(given, Struct) else given)
    for part, message in unwritable(stated, "spec", data=True):
        raise ValueError(f"{part}: {message}")
    if isinstance(given, Struct):
        return stated, {}
    body: dict[str, Any] = without_nulls(stated)
    if "kind" not in body:
        return body, {}
    if (body.get("apiVersion"), body["kind"]) != (names.API_VERSION, kind):
        found = f"{body['kind']} of {body.get('apiVersion')}"
        raise ValueError(f"spec: must be a {kind} of {names.API_VERSION}, not a {found}")
    metadata = {key: body.get("metadata", {}).get(key) for key in Metadata.__annotations__}
    return body.get("spec", {}), metadata
