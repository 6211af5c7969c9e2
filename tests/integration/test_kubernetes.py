"""The client: against a real API server, and against a stub where the server must misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from tests.cluster import ControlPlane
from tests.support.fault_proxy import Answer, FaultProxy
from tests.support.questions import ask_of
from tests.support.watching import reports

from dask_controller.kube import reading, transport
from dask_controller.kube.api import ApiError, Manifest, api_version
from dask_controller.kube.client import Kubernetes
from dask_controller.kube.credentials import Authorization, ConfigError, Endpoint, Fixed, TokenFile, find
from dask_controller.schedulers.answers import Request
from dask_controller.schedulers.client import SchedulerClient
from dask_controller.shell.caller import OPERATOR
from dask_crds.kinds import RESOURCES

real = pytest.mark.control_plane


@pytest.fixture
async def kubernetes(control_plane: ControlPlane) -> AsyncIterator[Kubernetes]:
    async with Kubernetes.from_environment(OPERATOR, str(control_plane.kubeconfig)) as client:
        yield client


@pytest.fixture
async def proxy(control_plane: ControlPlane) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(find(str(control_plane.kubeconfig))) as relay:
        yield relay


def config_map(namespace: str, name: str = "x", **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "x"}},
        "data": data,
    }


@contextlib.contextmanager
def refused(status: int, reason: str) -> Any:
    with pytest.raises(ApiError) as caught:
        yield caught
    assert (caught.value.status, caught.value.reason) == (status, reason)


# --- reading ----------------------------------------------------------------------------------------------------------


@real
async def test_get(kubernetes: Kubernetes, namespace: str) -> None:
    assert await kubernetes.get("ConfigMap", namespace, "x") is None
    await kubernetes.create(config_map(namespace, a="1"))
    found = await kubernetes.get("ConfigMap", namespace, "x")
    assert found
    assert found["data"] == {"a": "1"}
    crd = await kubernetes.get("CustomResourceDefinition", None, "daskclusters.kubernetes.dask.org")
    assert crd
    assert crd["spec"]["names"]["kind"] == "DaskCluster"


@real
@pytest.mark.parametrize("kind", RESOURCES)
async def test_every_kind_is_where_the_table_says(kubernetes: Kubernetes, kind: str) -> None:
    for item in await kubernetes.list(kind):
        assert item["kind"] == kind
        assert item["apiVersion"] == api_version(RESOURCES[kind])


@real
async def test_a_list_is_whole_whatever_the_size_of_its_pages(
    proxy: FaultProxy, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAGE", 3)
    async with Kubernetes(proxy.endpoint, OPERATOR) as client:
        await asyncio.gather(*(client.create(config_map(namespace, f"x{n}")) for n in range(10)))
        proxy.seen.clear()
        found = await client.list("ConfigMap", namespace, labels="app=x")
        assert sorted(item["metadata"]["name"] for item in found) == [f"x{n}" for n in range(10)]
        assert len(proxy.seen) == 4
        one = await client.list("ConfigMap", namespace, fields="metadata.name=x7")
        assert [item["metadata"]["name"] for item in one] == ["x7"]
        assert await client.list("ConfigMap", namespace, labels="app=y") == []


@real
async def test_metadata_only(kubernetes: Kubernetes, namespace: str) -> None:
    """Security finding 3: what a ConfigMap holds is not even sent."""
    made = await kubernetes.create(config_map(namespace, a="1"))
    del made["data"]
    assert await kubernetes.list("ConfigMap", namespace, labels="app=x", metadata_only=True) == [made]
    await kubernetes.patch("ConfigMap", namespace, "x", {"data": {"a": "2"}})
    version = str(int(made["metadata"]["resourceVersion"]) - 1)
    watch = kubernetes.watch(
        RESOURCES["ConfigMap"], namespace, resource_version=version, labels="app=x", metadata_only=True, seconds=1
    )
    events = [event async for event in reports(watch, RESOURCES["ConfigMap"]) if event.type != "BOOKMARK"]
    assert [event.type for event in events] == ["ADDED", "MODIFIED"]
    assert [set(event.manifest) for event in events] == [{"apiVersion", "kind", "metadata"}] * 2
    assert events[0].manifest == made


@real
async def test_names_are_those_that_exist_now(
    kubernetes: Kubernetes, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAGE", 3)
    assert await kubernetes.names("ConfigMap", namespace, labels="app=x") == set()
    await asyncio.gather(*(kubernetes.create(config_map(namespace, f"x{n}")) for n in range(7)))
    assert await kubernetes.names("ConfigMap", namespace, labels="app=x") == {f"x{n}" for n in range(7)}
    assert await kubernetes.names("ConfigMap", namespace, labels="app=y") == set()
    assert f"{namespace}" not in await kubernetes.names("ConfigMap")
    assert {"x0", "x6"} <= await kubernetes.names("ConfigMap")
    containers = [{"name": "main", "image": "dask"}]
    await kubernetes.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "x", "namespace": namespace},
            "spec": {"containers": containers, "nodeName": "nowhere"},
        }
    )
    assert await kubernetes.names("Pod", namespace) == {"x"}
    assert await kubernetes.names("DaskCluster", namespace) == set()


@real
@pytest.mark.parametrize("levels", [900, 4000])
async def test_nobody_can_nest_so_deeply_that_others_are_not_read(
    kubernetes: Kubernetes, namespace: str, levels: int
) -> None:
    """Who may write one ConfigMap may have anything in its managed fields: the operator ended at its next list."""
    made = await kubernetes.create(config_map(namespace))
    fields = msgspec.Raw(b'{"f:a":' * levels + b"{}" + b"}" * levels)
    entry = {"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields}
    await kubernetes.patch("ConfigMap", namespace, "x", {"metadata": {"managedFields": [entry]}})
    await kubernetes.create(config_map(namespace, "y", a="1"))
    assert [item["metadata"]["name"] for item in await kubernetes.list("ConfigMap", namespace, labels="app=x")] == [
        "x",
        "y",
    ]
    found = await kubernetes.get("ConfigMap", namespace, "x")
    assert found
    assert found["metadata"]["labels"] == {"app": "x"}
    version = made["metadata"]["resourceVersion"]
    watch = kubernetes.watch(RESOURCES["ConfigMap"], namespace, resource_version=version, labels="app=x", seconds=1)
    names = [
        event.manifest["metadata"].get("name")
        async for event in reports(watch, RESOURCES["ConfigMap"])
        if event.type != "BOOKMARK"
    ]
    assert names == ["x", "y"]


@real
@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_a_name_that_cannot_be_does_not_reach_the_collection(
    kubernetes: Kubernetes, namespace: str, name: str
) -> None:
    await kubernetes.create(config_map(namespace))
    assert await kubernetes.get("ConfigMap", namespace, name) is None
    assert await kubernetes.delete("ConfigMap", namespace, name) is None
    with refused(404, "NotFound"):
        await kubernetes.patch("ConfigMap", namespace, name, {})
    assert await kubernetes.get("ConfigMap", namespace, "x")


@real
async def test_a_name_cannot_lead_elsewhere(kubernetes: Kubernetes, namespace: str) -> None:
    await kubernetes.create(config_map(namespace))
    assert await kubernetes.get("ConfigMap", namespace, "../configmaps/x") is None
    assert await kubernetes.get("ConfigMap", namespace, "x?y") is None


# --- writing ----------------------------------------------------------------------------------------------------------


@real
async def test_a_name_can_be_taken_once(kubernetes: Kubernetes, namespace: str) -> None:
    await kubernetes.create(config_map(namespace))
    with refused(409, "AlreadyExists") as caught:
        await kubernetes.create(config_map(namespace))
    assert str(caught.value) == 'configmaps "x" already exists'


@real
async def test_unknown_fields_are_errors(kubernetes: Kubernetes, namespace: str) -> None:
    with refused(400, "BadRequest") as caught:
        await kubernetes.create({**config_map(namespace), "datta": {}})
    assert "datta" in str(caught.value)
    with pytest.raises(ApiError, match="datta"):
        await kubernetes.apply({**config_map(namespace), "datta": {}})
    await kubernetes.create(config_map(namespace))
    with pytest.raises(ApiError, match="datta"):
        await kubernetes.patch("ConfigMap", namespace, "x", {"datta": {}})


@real
async def test_apply_makes_keeps_and_drops_fields(kubernetes: Kubernetes, namespace: str) -> None:
    first = await kubernetes.apply(config_map(namespace, a="1", b="2"))
    again = await kubernetes.apply(config_map(namespace, a="1", b="2"))
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    last = await kubernetes.apply(config_map(namespace, a="1"))
    assert last["data"] == {"a": "1"}
    [entry] = last["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("dask-operator", "Apply")


@real
async def test_apply_takes_fields_from_others_only_by_force(kubernetes: Kubernetes, namespace: str) -> None:
    await kubernetes.apply(config_map(namespace, a="1"), manager="somebody")
    with refused(409, "Conflict"):
        await kubernetes.apply(config_map(namespace, a="2"), force=False)
    assert (await kubernetes.apply(config_map(namespace, a="2")))["data"] == {"a": "2"}


@real
async def test_apply_to_the_very_object_makes_none_and_takes_no_others(kubernetes: Kubernetes, namespace: str) -> None:
    group: Manifest = {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskWorkerGroup",
        "metadata": {"name": "x", "namespace": namespace},
        "spec": {
            "cluster": "c",
            "worker": {"replicas": 0, "spec": {"containers": [{"name": "worker", "image": "i:1"}]}},
        },
    }
    for manifest in (config_map(namespace, a="1"), group):
        made = await kubernetes.create(manifest)
        very = {**manifest, "metadata": {**manifest["metadata"], "uid": made["metadata"]["uid"]}}
        await kubernetes.apply(very)
        await kubernetes.delete(manifest["kind"], namespace, "x")
        with refused(409, "Conflict"):
            await kubernetes.apply(very)
        another = await kubernetes.create(manifest)
        with pytest.raises(ApiError) as caught:
            await kubernetes.apply(very)
        assert (caught.value.status, caught.value.reason) == (422, "Invalid")
        assert await kubernetes.get(manifest["kind"], namespace, "x") == another


@real
async def test_status_is_applied_apart(kubernetes: Kubernetes, namespace: str) -> None:
    cluster: Manifest = {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": "x", "namespace": namespace},
    }
    with refused(404, "NotFound"):
        await kubernetes.apply_status({**cluster, "status": {"phase": "Running"}})
    pod: Manifest = {"containers": [{"name": "main", "image": "dask"}]}
    spec = {"worker": {"spec": pod}, "scheduler": {"spec": pod}}
    made = await kubernetes.create({**cluster, "spec": spec})
    written = await kubernetes.apply_status({**cluster, "status": {"phase": "Running"}})
    assert written["status"]["phase"] == "Running"
    assert written["metadata"]["generation"] == made["metadata"]["generation"]
    managers = {entry["manager"]: entry.get("subresource") for entry in written["metadata"]["managedFields"]}
    assert managers["dask-operator-status"] == "status"
    stale = {**cluster, "metadata": {**cluster["metadata"], "resourceVersion": made["metadata"]["resourceVersion"]}}
    with refused(409, "Conflict"):
        await kubernetes.apply_status({**stale, "status": {"phase": "Error"}})


@real
async def test_a_patch_merges_and_with_a_version_swaps(kubernetes: Kubernetes, namespace: str) -> None:
    made = await kubernetes.create(config_map(namespace, a="1", b="2"))
    patched = await kubernetes.patch("ConfigMap", namespace, "x", {"data": {"a": None, "c": "3"}})
    assert patched["data"] == {"b": "2", "c": "3"}
    with refused(409, "Conflict"):
        stale = {"resourceVersion": made["metadata"]["resourceVersion"]}
        await kubernetes.patch("ConfigMap", namespace, "x", {"metadata": stale, "data": {"b": "9"}})
    with refused(404, "NotFound"):
        await kubernetes.patch("ConfigMap", namespace, "y", {"data": {}})


@real
async def test_only_the_very_object_is_deleted(kubernetes: Kubernetes, namespace: str) -> None:
    made = (await kubernetes.create(config_map(namespace)))["metadata"]
    with refused(409, "Conflict"):
        await kubernetes.delete("ConfigMap", namespace, "x", uid="another")
    await kubernetes.patch("ConfigMap", namespace, "x", {"data": {"a": "1"}})
    with refused(409, "Conflict"):
        await kubernetes.delete("ConfigMap", namespace, "x", resource_version=made["resourceVersion"])
    assert await kubernetes.delete("ConfigMap", namespace, "x", uid=made["uid"])
    assert await kubernetes.delete("ConfigMap", namespace, "x", uid=made["uid"]) is None


@real
async def test_a_pod_that_is_being_deleted_is_answered_as_it_is(kubernetes: Kubernetes, namespace: str) -> None:
    containers = [{"name": "main", "image": "dask"}]
    pod = {"metadata": {"name": "x", "namespace": namespace}, "spec": {"containers": containers, "nodeName": "nowhere"}}
    await kubernetes.create({"apiVersion": "v1", "kind": "Pod", **pod})
    answer = await kubernetes.delete("Pod", namespace, "x", grace_seconds=20)
    assert answer
    assert answer["kind"] == "Pod"
    assert answer["metadata"]["deletionGracePeriodSeconds"] == 20
    assert await kubernetes.delete("Pod", namespace, "x", grace_seconds=0)
    assert await kubernetes.get("Pod", namespace, "x") is None


# --- watching ---------------------------------------------------------------------------------------------------------


@real
async def test_a_watch_tells_what_happens_after_a_version(kubernetes: Kubernetes, namespace: str) -> None:
    big = "x" * 500_000  # a line of any length: aiohttp's readline stops at 64 KiB
    made = await kubernetes.create(config_map(namespace))
    await kubernetes.patch("ConfigMap", namespace, "x", {"data": {"big": big}})
    await kubernetes.create({**config_map(namespace, "y"), "metadata": {"name": "y", "namespace": namespace}})
    await kubernetes.delete("ConfigMap", namespace, "x")
    watch = kubernetes.watch(
        RESOURCES["ConfigMap"],
        namespace,
        resource_version=made["metadata"]["resourceVersion"],
        labels="app=x",
        seconds=1,
    )
    events = [event async for event in reports(watch, RESOURCES["ConfigMap"])]
    assert [event.type for event in events if event.type != "BOOKMARK"] == ["MODIFIED", "DELETED"]
    assert len(events[0].manifest["data"]["big"]) == len(big)


@real
async def test_a_silent_watch_ends_and_a_cut_one_is_an_error(proxy: FaultProxy, namespace: str) -> None:
    async with Kubernetes(proxy.endpoint, OPERATOR) as client:
        version = (await client.create(config_map(namespace)))["metadata"]["resourceVersion"]

        async def watch(idle_seconds: float) -> None:
            async for _ in client.watch(
                RESOURCES["ConfigMap"], namespace, resource_version=version, idle_seconds=idle_seconds
            ):
                pass

        await watch(idle_seconds=0.2)
        watching = asyncio.create_task(watch(idle_seconds=60))
        while not watching.done():  # what is yet to begin cannot be cut
            proxy.cut_streams()
            await asyncio.sleep(0.05)
        with refused(0, "Unreachable"):
            await watching


# --- faults -----------------------------------------------------------------------------------------------------------


@real
async def test_it_is_patient_as_the_server_asks(proxy: FaultProxy, namespace: str) -> None:
    counts = Counter[int]()
    answers = iter([Answer(429, "TooManyRequests", (("Retry-After", "0"),))] * 2)
    proxy.fault = lambda _: next(answers, None)
    async with Kubernetes(proxy.endpoint, OPERATOR, on_request=lambda _v, _r, code: counts.update([code])) as client:
        assert await client.get("ConfigMap", namespace, "x") is None
    assert counts == {429: 2, 404: 1}


@real
async def test_its_patience_ends(proxy: FaultProxy, namespace: str) -> None:
    proxy.fault = lambda _: Answer(429, "TooManyRequests", (("Retry-After", "0"),))
    async with Kubernetes(proxy.endpoint, OPERATOR) as client:
        with refused(429, "TooManyRequests") as caught:
            await client.get("ConfigMap", namespace, "x")
    assert caught.value.retry_after == 0
    assert len(proxy.seen) == transport.ATTEMPTS


@real
@pytest.mark.parametrize("fault", ["cut", "hang", "lose"])
async def test_no_answer_is_an_error_without_a_status(proxy: FaultProxy, namespace: str, fault: Any) -> None:
    proxy.fault = lambda _: fault
    async with Kubernetes(proxy.endpoint, OPERATOR, timeout_seconds=1) as client:
        with refused(0, "Unreachable"):
            await client.create(config_map(namespace))
        proxy.fault = lambda _: None
        assert bool(await client.get("ConfigMap", namespace, "x")) == (fault == "lose")
    assert len(proxy.seen) == 2, "a write of unknown outcome must not be repeated here"


async def test_a_server_that_is_not_there_is_an_error_without_a_status(unused_tcp_port: int) -> None:
    server = Endpoint(f"http://127.0.0.1:{unused_tcp_port}", ssl.create_default_context(), Fixed(None))
    async with Kubernetes(server, OPERATOR) as client:
        with refused(0, "Unreachable"):
            await client.get("Pod", "a", "x")
        with refused(0, "Unreachable"):
            async for _ in client.watch(RESOURCES["Pod"], resource_version="1"):
                pass


# --- a stub -----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def stub(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], authorization: Authorization | None = None
) -> AsyncGenerator[Endpoint, None]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield Endpoint(url, ssl.create_default_context(), authorization or Fixed(None))
    await runner.cleanup()


async def test_requests_wait_for_their_turn_but_leases_do_not() -> None:
    under_way = most = 0
    asked = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        nonlocal under_way, most
        if "leases" in request.path:
            return web.json_response({})
        under_way += 1
        most = max(most, under_way)
        await asked.wait()
        await asyncio.sleep(0.05)
        under_way -= 1
        return web.json_response({})

    async with stub(answer) as server, Kubernetes(server, OPERATOR, connections=3) as client:
        pods = [asyncio.create_task(client.get("Pod", "a", f"x{n}")) for n in range(9)]
        while under_way < 3:
            await asyncio.sleep(0.01)
        await client.get("Lease", "a", "x")
        assert not any(task.done() for task in pods)
        asked.set()
        await asyncio.gather(*pods)
    assert most == 3


async def test_a_page_of_large_objects_is_asked_for_with_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Security finding 3: five hundred objects of a megabyte and a half, which anybody can make, are no page."""
    monkeypatch.setattr(reading, "PAGE_BYTES", 10_000)
    sizes = [100] * 600 + [5000] * 9 + [50_000] + [100] * 600
    asked: list[tuple[int, int]] = []

    async def answer(request: web.Request) -> web.Response:
        start, limit = int(request.query.get("continue", 0)), int(request.query["limit"])
        asked.append((start, limit))
        end = min(start + limit, len(sizes))
        items = [{"metadata": {"name": f"x{n}"}, "data": "x" * sizes[n]} for n in range(start, end)]
        more = str(end) if end < len(sizes) else ""
        body = msgspec.json.encode({"metadata": {"resourceVersion": "1", "continue": more}, "items": items})
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=body)

    items = []
    async with stub(answer) as server, Kubernetes(server, OPERATOR) as client:
        async for page in client.pages(RESOURCES["ConfigMap"]):
            size = sum(memoryview(item).nbytes for item in page.items)
            assert size <= 10_000 or len(page.items) == 1
            items += [msgspec.json.decode(item)["metadata"]["name"] for item in page.items]
    assert items == [f"x{n}" for n in range(len(sizes))]
    assert asked[:2] == [(0, 500), (0, 62)]
    assert len(asked) < 60


@pytest.mark.parametrize("client", ["API server", "scheduler"])
async def test_a_cancellation_is_not_mistaken_for_the_end_of_patience(client: str) -> None:
    """Also if both come in the same turn of a busy loop: who is cancelled must end, not try again."""

    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        raise AssertionError

    async with stub(answer) as server, Kubernetes(server, OPERATOR, timeout_seconds=0.3) as k:
        s = SchedulerClient(server.server, timeout_seconds=0.3)
        asked = asyncio.create_task(
            k.get("Pod", "a", "x") if client == "API server" else s.put(Request([ask_of(idle=True)]))
        )
        await asyncio.sleep(0.1)  # the request is under way
        asyncio.get_running_loop().call_later(0.3, asked.cancel)
        time.sleep(0.5)  # noqa: ASYNC251 - and now both are due
        await asyncio.wait({asked}, timeout=5)
        assert asked.cancelled()


@pytest.mark.parametrize("status", [200, 410])
async def test_a_version_that_is_forgotten_is_an_error(status: int) -> None:
    """The server says so in the stream, or, before it begins, as a response."""
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 1 (900)"}

    async def answer(request: web.Request) -> web.Response:
        body = gone if status == 410 else {"type": "ERROR", "object": gone}
        return web.Response(body=msgspec.json.encode(body) + b"\n", status=status)

    async with stub(answer) as server, Kubernetes(server, OPERATOR) as client:
        with refused(410, "Expired"):
            async for _ in client.watch(RESOURCES["Pod"], resource_version="1"):
                pass


async def test_a_token_that_is_not_accepted_is_read_again(tmp_path: Path) -> None:
    token, seen = tmp_path / "token", []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.json_response({"kind": "Pod"}, status=200 if seen[-1] == "Bearer new" else 401)

    token.write_text("old\n")
    async with stub(answer, TokenFile(token)) as server, Kubernetes(server, OPERATOR) as client:
        with refused(401, "Unauthorized"):
            await client.get("Pod", "a", "x")
        token.write_text("new\n")
        assert await client.get("Pod", "a", "x") == {"kind": "Pod"}
    assert seen == ["Bearer old", "Bearer old", "Bearer old", "Bearer new"]


async def test_no_identity_is_an_error_like_any_other() -> None:
    async def refuse(*, rejected: bool = False) -> str | None:
        raise ConfigError("credential plugin failed")

    async def answer(request: web.Request) -> web.Response:
        raise AssertionError

    async with stub(answer, refuse) as server, Kubernetes(server, OPERATOR) as client:
        with refused(401, "Unauthorized"):
            await client.get("Pod", "a", "x")


async def test_errors_hold_no_secrets(caplog: pytest.LogCaptureFixture, unused_tcp_port: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=f"<html>{request.headers['Authorization']} {await request.text()}</html>", status=502)

    secret = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "a", "name": "x"}, "data": {"a": "s3"}}
    async with stub(answer, Fixed("Bearer s3")) as server, Kubernetes(server, OPERATOR) as client:
        with refused(502, "BadGateway") as caught:
            await client.create(secret)
        assert "s3" not in repr(caught.value) + str(caught.value)
    unreachable = Endpoint(f"http://127.0.0.1:{unused_tcp_port}", ssl.create_default_context(), Fixed("Bearer s3"))
    async with Kubernetes(unreachable, OPERATOR) as client:
        with refused(0, "Unreachable") as caught:
            await client.create(secret)
        assert "s3" not in repr(caught.value) + str(caught.value)
    assert "s3" not in caplog.text


async def test_it_says_who_it_is_and_follows_nobody() -> None:
    agents = []

    async def answer(request: web.Request) -> web.Response:
        agents.append(request.headers["User-Agent"])
        raise web.HTTPFound("http://127.0.0.1:1/elsewhere")

    async with stub(answer, Fixed("Bearer s3")) as server, Kubernetes(server, OPERATOR) as client:
        with pytest.raises(ApiError):
            await client.get("Pod", "a", "x")
    assert [agent.split("/")[0] for agent in agents] == ["dask-operator"]


async def test_every_request_is_counted_by_verb_and_resource() -> None:
    counted: list[tuple[str, str, int]] = []

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})

    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "a", "name": "x"}}
    async with stub(answer) as server, Kubernetes(server, OPERATOR, on_request=lambda *c: counted.append(c)) as client:
        await client.get("Pod", "a", "x")
        await client.list("Pod")
        await client.create(pod)
        await client.apply(pod)
        await client.apply_status(pod)
        await client.patch("Pod", "a", "x", {}, subresource="resize")
        await client.delete("Pod", "a", "x")
        async for _ in client.watch(RESOURCES["Pod"], resource_version="1"):
            pass
    verbs = ["get pods", "list pods", "create pods", "patch pods", "patch pods/status", "patch pods/resize"]
    assert [f"{verb} {resource}" for verb, resource, _ in counted] == [*verbs, "delete pods", "watch pods"]
    assert {code for _, _, code in counted} == {200}
