"""Ports of the servers that tests start."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.processes import free_port


def test_none_is_given_twice_nor_to_a_connection() -> None:
    ports = [free_port() for _ in range(500)]
    assert len({*ports}) == len(ports)
    lowest_of_connections = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports) < lowest_of_connections
