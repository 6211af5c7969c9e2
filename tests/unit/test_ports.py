"""Ports of the servers that tests start."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cluster.processes import free_port

_OF_CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_none_is_given_twice() -> None:
    ports = [free_port() for _ in range(500)]
    assert len({*ports}) == len(ports)


@pytest.mark.skipif(not _OF_CONNECTIONS.exists(), reason="Linux says so there")
def test_no_connection_takes_one() -> None:
    assert free_port() < int(_OF_CONNECTIONS.read_text().split()[0])
