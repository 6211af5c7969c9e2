"""Events of ours, as the API server takes them."""

from __future__ import annotations

import re

import msgspec
import pytest
from tests.support.states import group

from dask_controller.core.actions import Event
from dask_controller.shell.events import event_manifest

#: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@pytest.mark.parametrize("name", ["simple", "a" * 253, "a" * 235 + "-" + "b" * 17, "a" * 234 + "." + "b" * 18])
def test_its_name_is_one_whatever_it_is_about(name: str) -> None:
    about = group()
    about = msgspec.structs.replace(about, metadata={**about.metadata, "name": name})
    made = event_manifest(about, Event("Scaled", "to 3 workers"), 0.0)["metadata"]["name"]
    assert SUBDOMAIN.fullmatch(made)
    assert len(made) <= 253
    assert made != event_manifest(about, Event("Scaled", "to 4 workers"), 0.0)["metadata"]["name"]
