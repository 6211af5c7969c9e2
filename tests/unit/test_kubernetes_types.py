"""The typed dictionaries of Kubernetes' types are what the generator makes of the vendored schema."""

from __future__ import annotations

import json
from typing import Any, NotRequired, get_args, get_origin, get_type_hints

from dask_crds.kubernetes import KUBERNETES_VERSION, core_v1, partial, vendor

DEFINITIONS: dict[str, Any] = json.loads((vendor.HERE / "schema.json").read_text())["definitions"]


def test_the_files_are_generated() -> None:
    assert (vendor.HERE / "core_v1.py").read_text() == vendor.typed_dicts(DEFINITIONS, KUBERNETES_VERSION)
    assert (vendor.HERE / "partial.py").read_text() == vendor.partial_typed_dicts(DEFINITIONS, KUBERNETES_VERSION)


def test_nothing_is_required_of_a_change_however_deep() -> None:
    seen: set[Any] = set()
    waiting: list[Any] = [partial.PartialPodSpec]
    while waiting:
        found = waiting.pop()
        if found in seen:
            continue
        seen.add(found)
        if found.__module__ in (partial.__name__, core_v1.__name__):
            fields = get_type_hints(found, include_extras=True)
            assert [name for name, hint in fields.items() if get_origin(hint) is not NotRequired] == [], found
            waiting += fields.values()
        else:
            waiting += [each for each in get_args(found) if isinstance(each, type) or get_args(each)]
    assert len(seen) > 60


def test_a_change_has_all_fields_of_a_pod() -> None:
    whole, change = core_v1.PodSpec.__annotations__, partial.PartialPodSpec.__annotations__
    assert whole.keys() == change.keys()
