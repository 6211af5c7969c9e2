"""The operator's own key, those of clusters, and what is done where it may have none (security finding 9)."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.offline import OFFLINE
from tests.support.states import NOW, cluster, condition, group, observed_cluster, scheduler_pod
from tests.support.virtual_time import virtual_time

from dask_controller.core.actions import Apply, PutKey
from dask_controller.core.cluster import plan_cluster
from dask_controller.core.cluster_status import cluster_status
from dask_controller.core.observed import ObservedCluster
from dask_controller.core.signing import Signing
from dask_controller.kube.api import NAMESPACE_TERMINATING, ApiError
from dask_controller.kube.short_first import ShortFirst
from dask_controller.schedulers.signing import Key
from dask_controller.shell.addresses import scheduler_address
from dask_controller.shell.caches import Caches
from dask_controller.shell.dispatch import snapshot
from dask_controller.shell.execute import Executor
from dask_controller.shell.keyring import BELIEVED_SECONDS, KEY_REFUSED, Keyring
from dask_controller.shell.reconcile import TRIED_OTHERWISE, _next_look
from dask_crds import names
from dask_crds.kinds import RESOURCES
from dask_crds.model import Security, Tls
from dask_resources.scheduler import scheduler_deployment
from dask_resources.security import control_key
from dask_resources.worker import worker_pod

OWN = "dask-operator"
FORBIDDEN = ApiError(403, "Forbidden", 'secrets is forbidden: User "x" cannot create resource "secrets"')


class Api:
    """An API server with Secrets, some of which it may refuse to make or to give."""

    kinds = RESOURCES

    def __init__(self, **refused: ApiError) -> None:
        self.secrets: dict[tuple[str, str], Any] = {}
        self.refused = refused  #: by verb, or by namespace for a creation there
        self.asked: list[str] = []

    def _check(self, verb: str, namespace: str) -> None:
        self.asked.append(f"{verb} {namespace}")
        for reason in (verb, namespace):
            if error := self.refused.get(reason.replace("-", "_")):
                raise error

    async def get(self, kind: str, namespace: str, name: str) -> Any:
        assert kind == "Secret"
        self._check("get", namespace)
        return self.secrets.get((namespace, name))

    async def create(self, manifest: Any) -> Any:
        where = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        if manifest["kind"] != "Secret":
            return {**manifest, "metadata": {**manifest["metadata"], "uid": "u", "resourceVersion": "1"}}
        self._check("create", where[0])
        if where in self.secrets:
            raise ApiError(409, "AlreadyExists", "it exists")
        self.secrets[where] = manifest
        return manifest

    def data(self, namespace: str, name: str) -> dict[str, bytes]:
        return {key: base64.b64decode(text) for key, text in self.secrets[namespace, name]["data"].items()}


async def loaded(api: Any, namespace: str | None = OWN) -> Keyring:
    keyring = Keyring(namespace)
    await keyring.load(api)
    return keyring


def secret_of(value: Any) -> tuple[str, str]:
    return value.namespace, names.security(value.name, value.uid)


# --- the operator's own key -------------------------------------------------------------------------------------------


@virtual_time
async def test_all_replicas_know_the_same_keys() -> None:
    api: Any = Api()
    first, second = await loaded(api), await loaded(api)
    assert first.keys("a") == second.keys("a") != first.keys("b")
    assert len(api.data(OWN, names.MASTER_SECRET)["key"]) == 32
    assert api.asked == ["get dask-operator", "create dask-operator", "get dask-operator"]


@virtual_time
async def test_who_comes_second_takes_the_key_of_who_came_first() -> None:
    class Late(Api):
        async def get(self, kind: str, namespace: str, name: str) -> Any:
            found = await super().get(kind, namespace, name)
            return None if len(self.asked) == 1 else found

    api: Any = Late()
    api.secrets[OWN, names.MASTER_SECRET] = {"data": {"key": base64.b64encode(b"k" * 32).decode()}}
    assert (await loaded(api)).keys("a") == (Key(control_key(b"k" * 32, "a")),)


@virtual_time
async def test_a_renewed_key_comes_first_and_that_before_is_known_still() -> None:
    api: Any = Api()
    keyring = await loaded(api)
    (before,) = keyring.keys("a")
    own = api.secrets[OWN, names.MASTER_SECRET]["data"]
    own |= {"previous": own["key"], "key": base64.b64encode(b"n" * 40).decode()}
    await keyring.load(api)
    assert keyring.keys("a") == (Key(control_key(b"n" * 40, "a")), before)


@virtual_time
async def test_a_key_that_is_lost_is_put_back() -> None:
    """By another one no scheduler would be known."""
    api: Any = Api()
    keyring = await loaded(api)
    for renewed in ({}, {"previous": base64.b64encode(b"p" * 32).decode()}):
        api.secrets[OWN, names.MASTER_SECRET]["data"] |= renewed
        await keyring.load(api)
        before = api.secrets.pop((OWN, names.MASTER_SECRET))
        await keyring.load(api)
        assert api.secrets[OWN, names.MASTER_SECRET] == before


@pytest.mark.parametrize("data", [None, {}, {"key": ""}, {"key": "c2hvcnQ="}, {"key": "%"}, {"previous": "a" * 44}])
@virtual_time
async def test_a_key_that_is_none_is_told_of_and_not_replaced(data: Any, caplog: pytest.LogCaptureFixture) -> None:
    api: Any = Api()
    api.secrets[OWN, names.MASTER_SECRET] = {"data": data}
    keyring = await loaded(api)
    await keyring.load(api)
    assert keyring.keys("a") == ()
    told = "in Secret dask-operator/dask-operator-master key, and previous if there is one, must have 32 bytes"
    assert keyring.signing(cluster()).refused == f"{told} or more"
    assert [told in record.message for record in caplog.records] == [True], "once"
    assert api.secrets[OWN, names.MASTER_SECRET] == {"data": data}


@pytest.mark.parametrize("verb", ["get", "create"])
@virtual_time
async def test_without_the_right_to_a_key_there_is_none(verb: str) -> None:
    """RBAC of an earlier release, during an upgrade."""
    api: Any = Api(**{verb: FORBIDDEN})
    keyring = await loaded(api)
    assert keyring.keys("a") == ()
    assert "may not keep a key: secrets is forbidden" in keyring.signing(cluster()).refused
    api.refused.clear()
    await keyring.load(api)
    assert keyring.signing(cluster()) == Signing(ensured=False)


@pytest.mark.parametrize("what", ["right", "content"])
@virtual_time
async def test_a_key_that_was_there_is_kept_in_mind(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """Schedulers go by it, whatever is done to the Secret while the operator runs."""
    api: Any = Api()
    keyring = await loaded(api)
    before = keyring.keys("a")
    if what == "right":
        api.refused["get"] = FORBIDDEN
    else:
        api.secrets[OWN, names.MASTER_SECRET]["data"] = {"key": "c2hvcnQ="}
    await keyring.load(api)
    assert keyring.keys("a") == before
    assert keyring.signing(cluster()).refused == ""
    assert ["no scheduler will be known" in record.message for record in caplog.records] == [True]


@virtual_time
async def test_a_failure_that_passes_is_no_verdict() -> None:
    with pytest.raises(ApiError):
        await loaded(Api(get=ApiError(503, "ServiceUnavailable", "later")))


@virtual_time
async def test_outside_of_a_cluster_nothing_is_asked() -> None:
    api: Any = Api()
    assert "outside" in (await loaded(api, None)).signing(cluster()).refused
    assert api.asked == []


# --- the Secret of a cluster ------------------------------------------------------------------------------------------


def executor(api: Any, keyring: Keyring) -> Executor:
    caches = Caches(api, None, keyring=keyring)
    return Executor(api, caches, domain="x", parallel_requests=2, short_first=ShortFirst())


@virtual_time
async def test_the_secret_of_a_cluster_is_its_own_and_goes_with_it() -> None:
    api: Any = Api()
    keyring, c = await loaded(api), cluster()
    assert not keyring.signing(c).ensured
    (outcome,) = await executor(api, keyring).execute(c, [PutKey(c)], NOW)
    assert not outcome.error
    assert keyring.signing(c) == Signing()
    made = api.secrets[secret_of(c)]
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["uid"], made["type"], "immutable" in made) == (c.uid, "Opaque", False)
    assert keyring.keys(c.uid) == (Key(api.data(*secret_of(c))["control.key"]),)
    again = replace(c, metadata={**c.metadata, "uid": "another"})
    assert secret_of(again) != secret_of(c), "nobody could tell whose it is"


@virtual_time
async def test_it_is_made_before_what_mounts_it() -> None:
    api: Any = Api()
    c = cluster()
    wanted = [Apply(scheduler_deployment(c), new=True), PutKey(c)]
    done = await executor(api, await loaded(api)).execute(c, wanted, NOW)
    assert [type(outcome.action) for outcome in done] == [PutKey, Apply]


@virtual_time
async def test_one_that_is_there_is_looked_for_by_making_it_again_now_and_then() -> None:
    api: Any = Api()
    keyring, c = await loaded(api), cluster()
    await keyring.put(api, c)
    await keyring.put(api, c)
    assert keyring.signing(c).ensured
    await asyncio.sleep(BELIEVED_SECONDS + 1)
    assert not keyring.signing(c).ensured
    await keyring.put(api, c)
    keyring.forget(c.uid)
    assert not keyring.signing(c).ensured
    assert not any("get team" in asked for asked in api.asked)


@pytest.mark.parametrize(
    "error",
    [FORBIDDEN, ApiError(403, "Forbidden", "exceeded quota: count/secrets"), ApiError(403, "Forbidden", "policy")],
)
@virtual_time
async def test_where_it_is_refused_the_cluster_goes_on_without_at_once(error: ApiError) -> None:
    """What ran before the upgrade must not stop for it, and status says so."""
    api: Any = Api(team=error)
    keyring, c = await loaded(api), cluster()
    wanted = [PutKey(c), Apply(scheduler_deployment(c), new=True)]
    outcomes = await executor(api, keyring).execute(c, wanted, NOW)
    assert [outcome.reason for outcome in outcomes] == [KEY_REFUSED], "nothing that mounts it"
    left = [outcome for outcome in outcomes if outcome.reason not in TRIED_OTHERWISE]
    assert _next_look(plan_cluster(observed_cluster(c), NOW), left) == 0.0
    assert keyring.signing(c).refused == error.message
    assert keyring.signing(replace(c, metadata={**c.metadata, "namespace": "other"})).refused == ""
    await asyncio.sleep(BELIEVED_SECONDS + 1)
    assert keyring.signing(c).refused == "", "it is tried again"


@pytest.mark.parametrize(
    "error", [ApiError(503, "ServiceUnavailable", "x"), ApiError(403, NAMESPACE_TERMINATING, "x"), ApiError(0, "", "x")]
)
@virtual_time
async def test_a_failure_that_passes_is_no_refusal(error: ApiError) -> None:
    api: Any = Api(team=error)
    keyring, c = await loaded(api), cluster()
    with pytest.raises(ApiError) as raised:
        await keyring.put(api, c)
    assert raised.value is error
    assert keyring.signing(c).refused == ""


# --- what is decided --------------------------------------------------------------------------------------------------


def containers(actions: Any) -> Any:
    (spec,) = [
        action.manifest["spec"]["template"]["spec"]
        for action in actions
        if isinstance(action, Apply) and action.manifest["kind"] == "Deployment"
    ]
    return spec


def test_a_cluster_whose_secret_is_not_known_to_be_there_gets_it() -> None:
    plan = plan_cluster(observed_cluster(cluster(), signing=Signing(ensured=False)), NOW)
    assert plan.actions[0] == PutKey(cluster())
    assert "secret" in containers(plan.actions)["volumes"][-1]
    assert plan.requeue_after == 0, "no watch tells of it, and an idle cluster waits to be suspended"
    assert plan_cluster(observed_cluster(cluster()), NOW).requeue_after is None


def test_without_a_key_a_scheduler_is_made_as_ever() -> None:
    planned = plan_cluster(observed_cluster(cluster(), signing=Signing("no right", ensured=False)), NOW).actions
    assert not any(isinstance(action, PutKey) for action in planned)
    spec = containers(planned)
    assert not any("secret" in volume for volume in spec["volumes"])
    assert "ports" not in spec["containers"][0]


def said(o: ObservedCluster) -> str:
    status = cluster_status(o, plan_cluster(o, NOW), (), NOW)
    return condition(status.conditions, "SchedulerReady").message or ""


@pytest.mark.parametrize(
    ("signing", "ports", "word"),
    [
        (Signing(), {"dask-gitops": 8788}, ""),
        (Signing(), {}, "from anybody: it was started without a key"),
        (Signing("no right"), {}, "from anybody: no right"),
        (Signing("no right"), {"dask-gitops": 8788}, ""),
        (Signing("no key", known=False), {"dask-gitops": 8788}, "signed orders only, and gets none: no key"),
        (Signing("no key", known=False), {}, "from anybody: no key"),
    ],
)
def test_status_says_how_a_scheduler_is_given_orders_unless_all_is_well(
    signing: Signing, ports: Any, word: str
) -> None:
    message = said(observed_cluster(cluster(), signing=signing, scheduler_pods=(scheduler_pod(ports=ports),)))
    assert word in message
    assert word or message.endswith("is ready")


@virtual_time
async def test_who_has_the_key_is_asked_at_its_own_port_and_others_as_ever() -> None:
    keyring = await loaded(Api())
    caches = Caches(OFFLINE, None, keyring=keyring)
    c = cluster()

    def address(**ports: int) -> Any:
        return scheduler_address(observed_cluster(c, scheduler_pods=(scheduler_pod(ports=ports),)), caches)

    signed = address(**{"dask-gitops": 9000, "http-dashboard": 8080})
    assert (signed.url, signed.keys) == ("http://10.0.1.1:9000", keyring.keys(c.uid))
    before = address(**{"http-dashboard": 8080})
    assert (before.url, before.keys) == ("http://10.0.1.1:8080", ())
    assert snapshot(caches, c).signing == Signing(ensured=False)  # type: ignore[union-attr]


def test_a_workers_hook_has_the_key_of_its_cluster() -> None:
    spec = worker_pod(group(), 0, "abcde", cluster_uid="uid-simple")["spec"]
    (volume,) = spec["volumes"]
    assert volume["secret"] == {"secretName": names.security("simple", "uid-simple"), "optional": True}
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": "/etc/dask-gitops-security", "readOnly": True}
    assert "volumes" not in worker_pod(group(), 0, "abcde")["spec"], "of no cluster yet"
    assert "volumes" not in worker_pod(group(drain_timeout_seconds=0), 0, "abcde", cluster_uid="u")["spec"]


def test_a_key_is_in_no_variable_and_in_no_annotation() -> None:
    """Whoever may read Pods may not read Secrets."""
    deployment = scheduler_deployment(cluster())
    key = control_key(b"m" * 32, cluster().uid)
    for text in (key.hex(), base64.b64encode(key).decode()):
        assert text not in str(deployment)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    told = {variable["name"]: variable["value"] for variable in container["env"]}
    assert told["DASK_GITOPS_KEY_FILE"] == "/etc/dask-gitops-security/control.key"


@pytest.mark.parametrize(
    ("theirs", "number"),
    [([], 8788), ([{"containerPort": 8788}], 8789), ([{"containerPort": 8788}, {"containerPort": 8789}], 8790)],
)
def test_a_port_of_the_users_is_left_to_them(theirs: Any, number: int) -> None:
    c = cluster()
    spec = {"containers": [{"name": "scheduler", "image": "x"}, {"name": "other", "image": "x", "ports": theirs}]}
    c = replace(c, spec=replace(c.spec, scheduler=replace(c.spec.scheduler, spec=spec)))
    (scheduler, other) = scheduler_deployment(c)["spec"]["template"]["spec"]["containers"]
    assert scheduler["ports"] == [{"name": "dask-gitops", "containerPort": number, "protocol": "TCP"}]
    assert {"name": "DASK_GITOPS_PORT", "value": str(number)} in scheduler["env"]
    assert other["ports"] == theirs


def test_a_sidecar_that_starts_before_has_its_port_too() -> None:
    """One among the initContainers lives as long as the Pod; also with TLS, which opens another port."""
    sidecar = {"name": "proxy", "image": "x", "restartPolicy": "Always"}
    sidecar["ports"] = [{"containerPort": 8788}, {"containerPort": 8790}]  # type: ignore[assignment]
    spec = {"containers": [{"name": "scheduler", "image": "x"}], "initContainers": [sidecar]}
    security = Security(tls=Tls(mode="Generated"))
    c = cluster()
    c = replace(c, spec=replace(c.spec, scheduler=replace(c.spec.scheduler, spec=spec), security=security))
    (scheduler,) = scheduler_deployment(c)["spec"]["template"]["spec"]["containers"]
    told = {variable["name"]: variable["value"] for variable in scheduler["env"]}
    assert told["DASK_GITOPS_PORT"] == "8789"
    assert told["DASK_GITOPS_LOOPBACK_PORT"] == "8791"


@pytest.mark.parametrize("where", [0, 1])
def test_a_template_that_was_copied_from_a_pod_of_ours_has_one_port_for_orders(where: int) -> None:
    """By the port's name the operator knows where a scheduler takes them, and that it does."""
    copied, theirs = {"name": "dask-gitops", "containerPort": 9999}, {"name": "x", "containerPort": 9998}
    containers: list[Any] = [{"name": name, "image": "x"} for name in ("scheduler", "other")]
    containers[where]["ports"] = [copied, theirs]
    c = cluster()
    c = replace(c, spec=replace(c.spec, scheduler=replace(c.spec.scheduler, spec={"containers": containers})))
    for signed in (True, False):
        made = scheduler_deployment(c, signed=signed)["spec"]["template"]["spec"]["containers"]
        ports = [port for container in made for port in container.get("ports", ())]
        assert [port["containerPort"] for port in ports if port["name"] == "dask-gitops"] == [8788] * signed
        assert theirs in ports
