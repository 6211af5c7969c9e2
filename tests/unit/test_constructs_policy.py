"""An organisation's rules as a construct; what they refuse is shown on a real API server."""

from __future__ import annotations

from tests.support.constructs import chart, errors

from dask_constructs import DaskAdmissionPolicy


def test_a_policy_that_forbids_nothing_is_a_mistake() -> None:
    c = chart()
    DaskAdmissionPolicy(c, "policy")
    DaskAdmissionPolicy(c, "letters", image_registries="registry.example.com/")  # type: ignore[arg-type]
    assert errors(c) == [
        "[test/policy] image_registries, maximum_workers: one is needed, else nothing is forbidden",
        "[test/letters] image_registries: must be a list that is not empty, not 'registry.example.com/'; for one, write"
        " ['registry.example.com/']",
    ]
