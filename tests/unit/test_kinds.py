"""The table of kinds, and the words that ``kubectl explain`` finds for their fields."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pytest

from dask_crds.kinds import DASK_KINDS
from dask_crds.model import KINDS, MAX_WORKERS
from dask_crds.schema import embedded_types, structural


def test_every_model_has_its_row() -> None:
    assert {kind: row.model for kind, row in DASK_KINDS.items()} == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described(kind: str) -> None:
    fields = structural(kind)["properties"]
    schema = {"properties": {name: fields[name] for name in ("spec", "status")}}
    assert list(_undescribed("", schema, leave_out={path.replace("[]", "") for path in embedded_types(kind)})) == []


def _undescribed(path: str, schema: Mapping[str, Any], *, leave_out: Collection[str]) -> Iterator[str]:
    for name, field in schema.get("items", schema).get("properties", {}).items():
        below = f"{path}.{name}".removeprefix(".")
        if "description" not in field:
            yield below
        if below not in leave_out:
            yield from _undescribed(below, field, leave_out=leave_out)


def test_the_greatest_number_of_workers_is_said_as_it_is() -> None:
    maximum = structural("DaskAutoscaler")["properties"]["spec"]["properties"]["maximum"]
    assert f"Omitted: {MAX_WORKERS}." in maximum["description"]
