from __future__ import annotations

from decimal import Decimal

import pytest

from dask_crds.quantity import parse_quantity


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        ("500m", "0.5"),
        ("1", "1"),
        (2, "2"),
        (1.5, "1.5"),
        ("4Gi", "4294967296"),
        ("100k", "100000"),
        ("1E", "1e18"),
        ("1E3", "1000"),
        ("1e-3", "0.001"),
        (".5", "0.5"),
        ("5.", "5"),
        ("+1", "1"),
        ("3n", "3e-9"),
        ("7u", "7e-6"),
        ("1Ei", str(1024**6)),
    ],
)
def test_number(quantity: str | float, number: str) -> None:
    assert parse_quantity(quantity) == Decimal(number)


@pytest.mark.parametrize("quantity", ["", "Gi", "1kb", "4GB", "4 Gi", "1e3Ki", "1e", "one", "1i", "0x10", "1_000"])
def test_not_a_quantity(quantity: str) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity such as"):
        parse_quantity(quantity)
