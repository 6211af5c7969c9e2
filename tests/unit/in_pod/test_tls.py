"""Schedulers and workers that speak TLS: who is let in, and certificates that change while they work (finding 9)."""

from __future__ import annotations

import asyncio
import os
import pickle
import ssl
import subprocess
import sys
import time

import dask
import pytest
from distributed import Client, Nanny
from tests.cluster.processes import free_port
from tests.support.certificates import Certificates
from tests.support.dask_scheduler import MODULE, running, until
from tests.support.states import cluster, group

from dask_crds.model import Security, Tls
from dask_resources.scheduler import scheduler_deployment
from dask_resources.security import CA, CERTIFICATE, KEY, TLS_PATH
from dask_resources.worker import worker_pod

pytestmark = pytest.mark.timeout(120)

NAME = "dask-gitops-renewal"


def double(number: int) -> int:
    return 2 * number


@pytest.fixture
def certificates(tmp_path):
    certificates = Certificates(tmp_path / "tls")
    with dask.config.set(certificates.config):
        yield certificates


@pytest.fixture
def other(tmp_path):
    """Those of another cluster of the same operator."""
    return Certificates(tmp_path / "other", "uid-other")


@pytest.fixture
async def rig(certificates, monkeypatch):
    monkeypatch.setenv("DASK_GITOPS_LOOPBACK_PORT", str(free_port()))
    async with running(MODULE) as rig:
        yield rig


def loopback() -> str:
    return f"tcp://127.0.0.1:{os.environ['DASK_GITOPS_LOOPBACK_PORT']}"


async def refused(address: str, **options) -> None:
    with pytest.raises(OSError, match=r"Timed out|reset by peer|does not match"):
        async with Client(address, asynchronous=True, timeout=0.5, **options):
            pass


# --- who is let in ----------------------------------------------------------------------------------------------------


async def test_all_that_is_not_loopback_speaks_tls(rig, certificates):
    await rig.add("a")
    assert rig.scheduler.address.startswith("tls://")
    assert rig.workers["a"].address.startswith("tls://")
    assert await rig.client.submit(double, 21) == 42
    async with Client(rig.scheduler.address, security=certificates.security(), asynchronous=True) as client:
        assert await client.submit(double, 4) == 8


async def test_an_unchanged_client_computes_by_the_loopback(rig, certificates):
    await rig.add("a", "b")
    with dask.config.set(dict.fromkeys(certificates.config) | {"distributed.comm.default-scheme": "tcp"}):
        async with Client(loopback(), asynchronous=True) as client:
            assert await client.gather(client.map(double, range(3))) == [0, 2, 4]
            assert (await client.scatter({"x": 5}))["x"].key == "x"
            assert await client.run(double, 1, workers=[rig.workers["a"].address]) == {rig.workers["a"].address: 2}


async def test_plain_clients_and_those_of_other_clusters_are_refused(rig, other):
    await rig.add("a")
    for address in (rig.scheduler.address, rig.workers["a"].address):
        await refused(address.replace("tls://", "tcp://"))
        await refused(address, security=other.security())
        with pytest.raises(ssl.SSLError):
            await other.serial(address)


async def test_a_scheduler_without_tls_has_no_second_listener(monkeypatch):
    monkeypatch.setenv("DASK_GITOPS_LOOPBACK_PORT", str(free_port()))
    async with running(MODULE) as rig:
        await refused(loopback())
        assert NAME not in rig.scheduler.worker_plugins


async def test_whoever_requires_encryption_of_the_scheduler_gets_it(certificates, monkeypatch):
    monkeypatch.setenv("DASK_GITOPS_LOOPBACK_PORT", str(free_port()))
    with dask.config.set({"distributed.comm.require-encryption": True}):
        async with running(MODULE):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", int(os.environ["DASK_GITOPS_LOOPBACK_PORT"]))


async def test_a_loopback_port_that_is_taken_ends_nothing(certificates, monkeypatch):
    port = free_port()
    monkeypatch.setenv("DASK_GITOPS_LOOPBACK_PORT", str(port))
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    async with server, running(MODULE) as rig:
        await rig.add("a")
        assert await rig.client.submit(double, 21) == 42


# --- what the scheduler tells of it -----------------------------------------------------------------------------------


async def told(rig):
    return (await rig.ask(encryption=True)).encryption


async def test_the_scheduler_tells_the_certificate_that_it_shows(rig, certificates):
    await rig.add("a")
    found = await told(rig)
    assert (found.plain_listeners, found.plain_workers, found.problem) == ((), 0, "")
    assert found.serial == await certificates.serial(rig.scheduler.address)
    assert found.authority == certificates.authority.fingerprint
    assert found.not_after > time.time() + 300 * 86400


async def test_the_scheduler_tells_where_it_is_plain(rig):
    await rig.scheduler.listen("tcp://0.0.0.0:0")
    await rig.add("a", protocol="tcp")
    found = await told(rig)
    assert [address.partition(":")[0] for address in found.plain_listeners] == ["tcp"]
    assert found.plain_workers == 1


async def test_a_plain_scheduler_says_so():
    async with running(MODULE) as rig:
        found = await told(rig)
    assert (len(found.plain_listeners), found.problem) == (1, "it has no certificate")


async def test_the_scheduler_tells_of_a_certificate_that_has_expired(rig, certificates):
    certificates.write(1, age=3000 * 86400)
    rig.scheduler.periodic_callbacks[NAME].callback()
    assert "certificate has expired" in (await told(rig)).problem


# --- new certificates -------------------------------------------------------------------------------------------------


def check(*servers) -> None:
    """What they do every ten seconds."""
    for server in servers:
        server.periodic_callbacks[NAME].callback()


async def test_a_new_certificate_is_taken_while_tasks_run_and_data_is_held(rig, certificates):
    await rig.add("a", "b")
    held = rig.hold(4)
    data = await rig.client.scatter(list(range(10)), workers=[rig.workers["a"].address])
    before = await certificates.serial(rig.scheduler.address)
    certificates.write(1)
    everybody = (rig.scheduler, *rig.workers.values())
    check(*everybody)
    after = {await certificates.serial(server.address) for server in everybody}
    assert len(after) == 1
    assert before not in after

    await rig.add("c")  # with the new one alone
    moved = rig.client.submit(sum, data, workers=[rig.workers["c"].address])  # by new connections
    assert await moved == 45
    rig.release()
    await rig.client.gather(held)
    runs = [start for start in rig.scheduler.transition_log if start[2] == "processing"]
    assert len({log[0] for log in runs}) == len(runs), "no task was given out twice"
    assert (await told(rig)).serial in after


async def test_who_still_has_the_certificate_before_is_let_in(rig, certificates):
    """The kubelets of two nodes bring the files a minute apart."""
    await rig.add("a", "b")
    certificates.write(1)
    check(rig.scheduler, rig.workers["a"])
    [data] = await rig.client.scatter([7], workers=[rig.workers["b"].address])
    assert await rig.client.submit(double, data, workers=[rig.workers["a"].address]) == 14
    async with Client(rig.scheduler.address, security=certificates.security(), asynchronous=True) as client:
        assert await client.submit(double, 1) == 2


async def test_files_that_do_not_belong_together_change_nothing(rig, certificates):
    before = await certificates.serial(rig.scheduler.address)
    for half in (CERTIFICATE, KEY):
        certificates.write(1, only=half)
        check(rig.scheduler)
        certificates.write(0)
        assert await certificates.serial(rig.scheduler.address) == before


async def test_files_that_are_none_change_nothing(rig, certificates):
    before = await certificates.serial(rig.scheduler.address)
    for name in (CA, CERTIFICATE, KEY):
        for content in (b"", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"):
            certificates.write(1)
            (certificates.folder / name).write_bytes(content)
            check(rig.scheduler)
            certificates.write(0)
            assert await certificates.serial(rig.scheduler.address) == before
    certificates.write(1)
    check(rig.scheduler)
    assert await certificates.serial(rig.scheduler.address) != before


async def test_a_certificate_that_was_renewed_before_it_is_watched_is_taken(rig, certificates):
    """A worker may wait long for its scheduler; the next renewal would come when what it has loaded has expired."""
    await rig.add("a")
    worker, plugin = rig.workers["a"], pickle.loads(rig.scheduler.worker_plugins[NAME])
    before = await certificates.serial(worker.address)
    plugin.teardown(worker=worker)
    certificates.write(1)
    plugin.setup(worker=worker)
    check(worker)
    assert await certificates.serial(worker.address) != before


async def test_nannies_take_a_new_certificate_too(rig, certificates):
    async with Nanny(rig.scheduler.address, nthreads=1, dashboard_address=":0") as nanny:
        await until(lambda: NAME in nanny.periodic_callbacks)
        before = await certificates.serial(nanny.address)
        certificates.write(1)
        check(nanny)
        assert await certificates.serial(nanny.address) != before


# --- as in Pods -------------------------------------------------------------------------------------------------------


def environment_of(spec: dict, folder) -> dict[str, str]:
    """Of the main container, with files that are here."""
    told = {each["name"]: each["value"] for each in spec["containers"][0]["env"]}
    return {name: value.replace(TLS_PATH, str(folder)) for name, value in told.items()}


def started(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    unneeded = {"DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__GIL__ENABLED": "False"}
    return subprocess.Popen(
        [sys.executable, "-m", *command], env=os.environ | unneeded | environment, stderr=subprocess.DEVNULL
    )


async def test_processes_with_the_environment_of_pods(certificates):
    """Unchanged command lines, with nannies; the files change, and all of them notice by themselves."""
    of = cluster(security=Security(tls=Tls(mode="Generated")))
    scheduler = scheduler_deployment(of)["spec"]["template"]["spec"]
    worker = worker_pod(group(), 0, "abcde", cluster_uid=of.uid, certificates="simple-tls")["spec"]
    comm, plain = free_port(), free_port()
    address = f"tls://127.0.0.1:{comm}"
    served = environment_of(scheduler, certificates.folder) | {
        "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": f'["{MODULE}"]',
        "DASK_GITOPS_LOOPBACK_PORT": str(plain),
        "DASK_GITOPS_PORT": str(free_port()),
    }
    working = environment_of(worker, certificates.folder) | {"DASK_SCHEDULER_ADDRESS": address}
    processes = [
        started(["distributed.cli.dask_scheduler", "--port", str(comm), "--dashboard-address", ":0"], served),
        started(["distributed.cli.dask_worker", "--nthreads", "1", "--no-dashboard"], working),
    ]
    try:
        async with Client(f"tcp://127.0.0.1:{plain}", asynchronous=True, timeout=30) as client:
            await client.wait_for_workers(1, timeout=30)
            assert await client.submit(double, 21) == 42
            [(at, known)] = (await client.scheduler.identity())["workers"].items()
            everybody = (address, at, known["nanny"])
            before = {await certificates.serial(each) for each in everybody}
            certificates.write(1)

            async def renewed():
                return not before & {await certificates.serial(each) for each in everybody}

            await until(renewed, 30)
            assert await client.submit(double, 22) == 44
        await refused(f"tcp://127.0.0.1:{comm}")
        code = "from distributed import Client; print(Client().submit(abs, -7).result())"
        command = [sys.executable, "-c", code]
        ran = await asyncio.to_thread(
            subprocess.run, command, env=os.environ | working, capture_output=True, text=True, timeout=60
        )
        assert ran.stdout == "7\n", ran.stderr
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            await asyncio.to_thread(process.wait, 30)
