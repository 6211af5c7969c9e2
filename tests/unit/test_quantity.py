from __future__ import annotations

import re
from decimal import Decimal

import pytest

from dask_crds.quantity import AMOUNT, parse_quantity


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


def test_the_schemas_pattern_says_the_same() -> None:
    """Of what is not negative; the API server knows the pattern only."""
    for number in ("0", "1", "1.", ".5", "1.5", "+2", ".", "", "1.5.", "x", "1_0"):
        for suffix in (
            "",
            "n",
            "u",
            "m",
            "k",
            "K",
            "Ki",
            "M",
            "Mi",
            "Gi",
            "E",
            "Ei",
            "e3",
            "E-2",
            "e",
            "e1.5",
            "kb",
            " ",
        ):
            try:
                parse_quantity(number + suffix)
                valid = True
            except ValueError:
                valid = False
            assert (re.search(AMOUNT, number + suffix) is not None) == valid, number + suffix
    assert not re.search(AMOUNT, "-1")


@pytest.mark.parametrize("quantity", ["", "Gi", "1kb", "4GB", "4 Gi", "1e3Ki", "1e", "one", "1i", "0x10", "1_000"])
def test_not_a_quantity(quantity: str) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity such as"):
        parse_quantity(quantity)
