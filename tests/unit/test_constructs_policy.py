"""An organisation's rules as a construct; what they refuse is shown on a real API server."""

from __future__ import annotations

import pytest
from tests.support.constructs import chart

from dask_constructs import DaskAdmissionPolicy


def test_a_policy_that_forbids_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="forbids nothing"):
        DaskAdmissionPolicy(chart(), "policy")
    with pytest.raises(TypeError, match="list of texts"):
        DaskAdmissionPolicy(chart(), "policy", image_registries="registry.example.com/")
