"""What the constructs of the four kinds have in common: metadata, checks at synth, and their keyword arguments."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypedDict

import jsii
from constructs import Construct, IValidation
from msgspec import Struct

from dask_crds import names
from dask_crds.model import dump

from .manifest import api_object, problems
from .options import WorkerOptions


class Metadata(TypedDict, total=False):
    """Metadata of a resource."""

    name: str
    """Name of the resource; left out, cdk8s makes one up from the construct's path."""
    namespace: str
    """Namespace; left out, that of the chart."""
    labels: Mapping[str, str]
    """Labels; what the operator makes gets them as well, but for those by which tools track or queue what is theirs."""
    annotations: Mapping[str, str]
    """Annotations; they are passed on like labels."""


class DaskResource(Construct):
    """One of our four kinds: a cdk8s object that is checked at synth.

    Attributes:
        api_object: the manifest; ``api_object.add_json_patch(...)`` has the last word on it, and is checked as well.
        spec: the spec as it was declared, before such patches.
    """

    KIND: ClassVar[str]

    def __init__(self, scope: Construct, id: str, spec: Mapping[str, Any], metadata: Metadata) -> None:
        super().__init__(scope, id)
        self.spec = spec
        self.api_object = api_object(
            self,
            "Resource",
            {
                "apiVersion": names.API_VERSION,
                "kind": self.KIND,
                "metadata": {key: value for key, value in metadata.items() if key in Metadata.__annotations__},
                "spec": spec,
            },
        )
        self.node.add_validation(Validation(self.problems))

    def problems(self) -> list[str]:
        """What is wrong with the manifest as it will be written, JSON patches included."""
        return problems(self.api_object.to_json())

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

    def __init__(self, scope: Construct, id: str, spec: Struct, metadata: Metadata) -> None:
        check_keywords(metadata, Metadata)
        DaskResource.__init__(self, scope, id, dump(spec), metadata)


@jsii.implements(IValidation)
class Validation:
    """A check that runs at synth; each message it returns is an error at its construct's path."""

    def __init__(self, check: Callable[[], list[str]]) -> None:
        self._check = check

    def validate(self) -> list[str]:
        """Messages of what is wrong."""
        return self._check()


# --- arguments --------------------------------------------------------------------------------------------------------


def check_keywords(given: Mapping[str, Any], props: type) -> None:
    """Refuse unknown keyword arguments, as Python itself does where they are not declared by a TypedDict."""
    known = props.__annotations__
    for name in given:
        if name not in known:
            similar = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {similar[0]!r}?" if similar else ""
            raise TypeError(f"unexpected keyword argument {name!r}{hint}")


@contextmanager
def named(scope: Construct, id: str) -> Iterator[None]:
    """Put the construct's path in front of what is wrong with its arguments."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"[{scope.node.path}/{id}] {error}") from None


def state_replicas(worker: dict[str, Any], options: WorkerOptions) -> None:
    """Write ``replicas: 1`` where it was asked for, which ``dump`` leaves out as the API's default.

    Stated in Git it is reverted to 1, left out it may be scaled.
    """
    workers = options.get("workers")
    if workers is not None:
        worker["replicas"] = workers


def name_of(resource: DaskResource | str) -> str:
    """The name of a resource that may be given by its name."""
    return resource if isinstance(resource, str) else resource.name
