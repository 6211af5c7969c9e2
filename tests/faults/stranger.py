"""The stranger of a life: plays the deeds of its schedule, and watches over what is his."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.support.patience import Patience

from dask_controller.kube.api import ApiError
from dask_controller.kube.client import Kubernetes
from dask_controller.shell.caller import OPERATOR
from dask_crds import names
from dask_crds.kinds import KUEUE_GROUP, ApiResource
from dask_crds.names import Component, Label

from .deeds import DEEDS, PROXY, Absent, Kind, Undo
from .kueue import holds_quota, is_true
from .observer import Manifest, Violation
from .schedule import Deed
from .schedulers import Schedulers

if TYPE_CHECKING:
    from .life import Site

_ADMISSION = "admissionregistration.k8s.io"
_MORE = (
    ApiResource("", "v1", "namespaces", "Namespace", namespaced=False),
    ApiResource("", "v1", "resourcequotas", "ResourceQuota"),
    *(
        ApiResource(_ADMISSION, "v1", plural, kind, namespaced=False)
        for action in ("Mutating", "Validating")
        for kind, plural in (
            (f"{action}AdmissionPolicy", f"{action.lower()}admissionpolicies"),
            (f"{action}AdmissionPolicyBinding", f"{action.lower()}admissionpolicybindings"),
        )
    ),
)
#: Who deals with more kinds than the operator.
STRANGER = replace(OPERATOR, kinds={**OPERATOR.kinds, **{resource.kind: resource for resource in _MORE}})
#: How long what a deed calls for may take, and how long it is tried while what it is done to is not there.
TOLD_SECONDS = 40.0
#: Labels of a namespace that turn on what the policies below do there.
SWITCHES = "stranger.dask.org"


class Hand(Kubernetes):
    """The client of somebody else."""

    async def create(self, manifest: Mapping[str, Any]) -> Manifest:
        resource, namespace = self.kinds[manifest["kind"]], manifest["metadata"].get("namespace")
        return await self._call("create", resource, namespace, query={"fieldManager": "stranger"}, body=manifest)

    async def patch(
        self, kind: str, namespace: str | None, name: str, patch: Mapping[str, Any], *, subresource: str | None = None
    ) -> Manifest:
        return await self._call(
            "patch",
            self.kinds[kind],
            namespace,
            name,
            subresource,
            query={"fieldManager": "stranger"},
            body=patch,
            content_type="application/merge-patch+json",
        )


# --- policies ---------------------------------------------------------------------------------------------------------


def _rule(groups: Sequence[str], resources: Sequence[str], *operations: str) -> Manifest:
    return {"apiGroups": groups, "apiVersions": ["*"], "resources": resources, "operations": list(operations)}


def _mutation(name: str, expression: str) -> Manifest:
    """A policy that changes new Pods of ours where a namespace says so."""
    return {
        "apiVersion": f"{_ADMISSION}/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "resourceRules": [_rule([""], ["pods"], "CREATE")],
                "namespaceSelector": {"matchExpressions": [{"key": f"{SWITCHES}/{name}", "operator": "Exists"}]},
                "objectSelector": {"matchExpressions": [{"key": Label.COMPONENT, "operator": "Exists"}]},
            },
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        },
    }


_INJECT = f"""[JSONPatch{{op: "add", path: "/spec/containers/0",
  value: Object.spec.containers{{name: "{PROXY}", image: "proxy:1"}}}}]"""
_REJECT = f"""object.metadata.labels["{Label.COMPONENT}"] != "{Component.WORKER}" ? [] : [JSONPatch{{op: "add",
  path: "/metadata/annotations/" + jsonpatch.escapeKey("test.dask.org/reject"), value: "OutOfcpu"}}]"""
#: What the API server says when a policy of the stranger's refuses something.
REFUSAL = "the stranger refuses it"
_GROUPS = ["", "apps", "batch", "policy", names.GROUP, KUEUE_GROUP]
POLICIES: tuple[Manifest, ...] = (
    _mutation("inject", _INJECT),
    _mutation("reject", _REJECT),
    {
        "apiVersion": f"{_ADMISSION}/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "refuse"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [_rule(_GROUPS, ["*"], "CREATE", "UPDATE")],
                "excludeResourceRules": [_rule([""], ["namespaces"], "*")],
                "namespaceSelector": {"matchExpressions": [{"key": f"{SWITCHES}/refuse", "operator": "Exists"}]},
            },
            "validations": [
                {
                    "expression": f"namespaceObject.metadata.labels['{SWITCHES}/refuse'] != request.resource.resource",
                    "message": REFUSAL,
                }
            ],
        },
    },
)


@contextlib.asynccontextmanager
async def policies(hand: Hand) -> AsyncIterator[None]:
    """What the stranger's switches turn on."""
    made: list[Manifest] = []
    try:
        for policy in POLICIES:
            spec: Manifest = {"policyName": policy["metadata"]["name"]}
            if policy["kind"].startswith("Validating"):
                spec["validationActions"] = ["Deny"]
            binding = {**policy, "kind": f"{policy['kind']}Binding", "spec": spec}
            for manifest in (policy, binding):
                await hand.delete(manifest["kind"], None, manifest["metadata"]["name"])  # a killed run has left it
                made.append(await hand.create(manifest))
        yield
    finally:
        for manifest in made:
            await hand.delete(manifest["kind"], None, manifest["metadata"]["name"])


# --- the stranger -----------------------------------------------------------------------------------------------------


class Stranger:
    """Plays the deeds of a life.

    Attributes:
        site: of the life.
        rng: what a deed does at random, the same for the same schedule.
        schedulers: the life's.
        played: deeds that were done.
        tampered: uids of workers that do not count, because what we know them by was taken from them.
    """

    def __init__(self, site: Site, hand: Hand, deeds: Sequence[Deed], schedulers: Schedulers) -> None:
        self.site = site
        self.rng = random.Random(" ".join(map(str, deeds)))
        self.schedulers = schedulers
        self.played: list[Kind] = []
        self.tampered: set[str] = set()
        self._hand = hand
        self._waiting = list(deeds)
        self._under_way: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._at_rest = False
        self._mine: dict[str, Manifest] = {}
        self._left: list[Undo] = []
        self._numbers = itertools.count()
        self._suspicious: list[str] = []
        self._deleted: set[str] = set()  # by deeds: others keep their hands off them
        self._leaving: set[str] = set()  # names of what the operator has just asked to be deleted

    @property
    def is_about(self) -> bool:
        """Whether it may do something yet."""
        return bool(self._waiting or self._under_way)

    @property
    def losses(self) -> int:
        """How often the scheduler was lost, at most."""
        return sum(kind.loses for kind in self.played)

    @property
    def fails(self) -> bool:
        """Whether a run may have failed by what was done."""
        return any(kind.fails for kind in self.played)

    @property
    def made_again(self) -> Counter[str]:
        """How often children of a kind may have been made again; ``*`` for all kinds."""
        return Counter(kind.makes for kind in self.played if kind.makes)

    # --- when ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled, or a deed has shown something that must not be."""
        started = asyncio.get_running_loop().time()
        for deed in sorted((d for d in self._waiting if d.at == "t" and d.number), key=lambda d: d.number):
            await asyncio.sleep(started + deed.number - asyncio.get_running_loop().time())
            if deed in self._waiting:
                await self._begin(deed)
        await self._failed

    async def arrive(self) -> None:
        """What is done before the life begins."""
        for deed in [d for d in self._waiting if d.at == "t" and not d.number]:
            await self._begin(deed)

    async def before(self, to: str, number: int) -> None:
        """A request of the operator's waits for what comes before it."""
        for deed in [d for d in self._waiting if d.at == to and d.number == number]:
            await self._begin(deed)

    def hands_off(self, name: str) -> None:
        """The operator has just asked for an object of that name to be deleted: it could not know what is done now."""
        self._leaving.add(name)
        asyncio.get_running_loop().call_later(2.0, self._leaving.discard, name)

    async def rest(self) -> None:
        """Do what is left to do, and take back what lasts."""
        self._at_rest = True
        for deed in list(self._waiting):
            await self._begin(deed)
        patience = Patience(2 * TOLD_SECONDS)
        while self._under_way and patience.lasts():
            await asyncio.sleep(0.05)
        self.expect(not self._under_way, f"the stranger does not come to an end: {self._under_way}")

    async def leave(self) -> None:
        """See that what is the stranger's was left alone, and take it away."""
        for undo in self._left:
            with contextlib.suppress(Absent):  # what it was done to has gone
                await self._undone(undo)
        for manifest in list(self._mine.values()):
            await self.remove(manifest)
        for uid in self._suspicious:
            self.expect(not self.schedulers.asked[uid], "a Pod was asked that is not the cluster's scheduler")

    async def _begin(self, deed: Deed) -> None:
        """Until it was tried once. It goes on by itself: whoever waits for it may be killed."""
        self._waiting.remove(deed)
        tried = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._play(deed, tried), name=str(deed))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        task.add_done_callback(lambda _: tried.set())
        await tried.wait()

    async def _play(self, deed: Deed, tried: asyncio.Event) -> None:
        """Do it as soon as what it is done to is there, and take it back in time."""
        kind = DEEDS[deed.name]
        while True:
            try:
                undo = await kind.do(self)
                break
            except (Absent, ApiError) as error:
                if isinstance(error, ApiError):
                    self.site.script.note(f"the stranger cannot do {deed}: {error}")
                if self._at_rest:
                    return
                tried.set()
            await asyncio.sleep(0.1)
        self.site.script.stir(f"--- the stranger: {deed}")
        self.played.append(kind)
        tried.set()
        if undo is None:
            return
        if kind.stays and not deed.seconds:
            self._left.append(undo)
            return
        await asyncio.sleep(deed.seconds)
        with contextlib.suppress(Absent):  # what it was done to has gone
            await self._undone(undo)
        self.site.script.stir(f"--- the stranger takes back {deed}")

    async def _undone(self, undo: Undo) -> None:
        while True:
            try:
                await undo()
            except ApiError as error:
                # By another deed of its own, which ends; or the machine stalls.
                if REFUSAL in str(error) or not error.status or error.status == 429 or error.status >= 500:
                    await asyncio.sleep(0.1)
                    continue
                if error.status not in (404, 409):
                    raise
            return

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def close(self) -> None:
        """The life is over."""
        for task in list(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        self._failed.cancel()
        await self._switch(dict.fromkeys(("inject", "reject", "refuse")))
        for quota in await self.all("ResourceQuota"):
            await self.delete(quota)

    # --- what deeds are made of ---------------------------------------------------------------------------------------

    @property
    def of_job(self) -> bool:
        return self.site.scenario.startswith(("job", "queued-job", "limited-job"))

    @property
    def name(self) -> str:
        """Name of what the life is of."""
        return self.site.name

    @property
    def cluster(self) -> str:
        return f"{self.name}-c" if self.site.scenario == "worker-group" else self.name

    @property
    def group(self) -> str:
        return self.name if self.site.scenario == "worker-group" else names.default_group(self.name)

    def workload(self, role: str = "") -> Manifest:
        """A Workload of the life's own that has quota, of that role."""
        found = [
            w
            for w in self.site.kueue.workloads()
            if holds_quota(w)
            and not is_true(w, "Evicted")
            and w["metadata"]["uid"] not in (*self._mine, *self._deleted)
            and role in ("", w["metadata"]["labels"].get(Label.QUEUE_ROLE))
        ]
        if not found:
            raise Absent
        return self.rng.choice(found)

    @property
    def deleted(self) -> Collection[str]:
        """Uids of what deeds have deleted."""
        return self._deleted

    def number(self) -> int:
        return next(self._numbers)

    def expect(self, holds: object, what: str) -> None:
        if not holds:
            raise Violation(what)

    async def all(self, kind: str) -> list[Manifest]:
        return await self._hand.list(kind, self.site.namespace)

    async def live(self, kind: str, name: str) -> Manifest:
        """One of the life's own objects."""
        found = await self._hand.get(kind, self.site.namespace, name)
        if found is None or found["metadata"].get("deletionTimestamp") or found["metadata"]["uid"] in self._mine:
            raise Absent
        return found

    async def parent(self) -> Manifest:
        """What the user has made."""
        group = "DaskWorkerGroup" if self.site.scenario == "worker-group" else "DaskCluster"
        kind = "DaskJob" if self.of_job else group
        return await self.live(kind, self.name)

    async def pods(self, component: str) -> list[Manifest]:
        """Those of the life that are at work, by name; of workers those of the group that the life is about."""
        found = []
        for pod in await self.all("Pod"):
            metadata, labels = pod["metadata"], pod["metadata"].get("labels") or {}
            is_one = labels.get(Label.COMPONENT) == component and labels.get(Label.CLUSTER) == self.cluster
            of_group = component != Component.WORKER or labels.get(Label.WORKER_GROUP) == self.group
            running = (pod.get("status") or {}).get("phase") == "Running" and not metadata.get("deletionTimestamp")
            others = {*self._mine, *self.tampered, *self._suspicious, *self._deleted}
            known = metadata["uid"] in others or metadata["name"] in self._leaving
            if is_one and of_group and running and not known:
                found.append(pod)
        return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))

    async def pod(self, component: str) -> Manifest:
        """One of them."""
        if not (found := await self.pods(component)):
            raise Absent
        return self.rng.choice(found)

    async def create(self, manifest: Mapping[str, Any]) -> Manifest:
        return await self._hand.create(self._placed(manifest))

    async def make(self, manifest: Mapping[str, Any], *, controlled: bool = False) -> Manifest:
        """Make an object that is the stranger's, and stays so."""
        placed = self._placed(manifest)
        if controlled:
            kind = {"apiVersion": "v1", "kind": "ConfigMap"}
            owner = await self.make({**kind, "metadata": {"name": f"somebody-{self.number()}"}})
            identity = {field: owner["metadata"][field] for field in ("name", "uid")}
            placed["metadata"]["ownerReferences"] = [{**kind, **identity, "controller": True}]
        made = await self._hand.create(placed)
        self.claims(made)
        return made

    def _placed(self, manifest: Mapping[str, Any]) -> Manifest:
        return {**manifest, "metadata": {**manifest["metadata"], "namespace": self.site.namespace}}

    def claims(self, manifest: Manifest) -> None:
        """This is the stranger's from now on."""
        self._mine[manifest["metadata"]["uid"]] = manifest

    def is_mine(self, uid: str) -> bool:
        return uid in self._mine

    def tampers(self, pod: Manifest) -> None:
        self.tampered.add(pod["metadata"]["uid"])

    def distrusts(self, pod: Manifest) -> None:
        """This Pod lies, and is never to be asked."""
        self.schedulers.moods[pod["metadata"]["uid"]] = "idle"
        self._suspicious.append(pod["metadata"]["uid"])

    async def remove(self, made: Manifest) -> None:
        """Take away what is the stranger's; nobody may have touched it."""
        kind, metadata = made["kind"], made["metadata"]
        if metadata["uid"] not in self._mine:
            return
        found = await self._hand.get(kind, metadata["namespace"], metadata["name"])
        what = f"the stranger's {kind} {metadata['name']}"
        if found is None or found["metadata"]["uid"] != metadata["uid"] or found["metadata"].get("deletionTimestamp"):
            raise Violation(f"{what} was deleted")
        fields = ["ownerReferences", *(["labels"] if metadata["uid"] not in self.tampered else [])]
        for field in (*fields, *(["generation"] if kind != "Pod" else [])):
            now, then = found["metadata"].get(field), metadata.get(field)
            self.expect(now == then, f"{field} of {what}: {now}, not {then}")
        known = {(e["manager"], e["operation"], e.get("subresource")) for e in metadata.get("managedFields") or ()}
        for entry in found["metadata"].get("managedFields") or ():
            touched = entry["manager"] == names.FIELD_MANAGER
            key = entry["manager"], entry["operation"], entry.get("subresource")
            self.expect(not touched or key in known, f"{what} was changed by the operator")
        await self._hand.delete(kind, metadata["namespace"], metadata["name"])
        await self.gone(found)
        del self._mine[metadata["uid"]]

    async def delete(self, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        self._deleted.add(metadata["uid"])
        with contextlib.suppress(ApiError):  # it is another one by now
            await self._hand.delete(manifest["kind"], metadata["namespace"], metadata["name"], uid=metadata["uid"])

    async def gone(self, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        patience = Patience(TOLD_SECONDS)
        while patience.lasts():
            found = await self._hand.get(manifest["kind"], metadata["namespace"], metadata["name"])
            if found is None or found["metadata"]["uid"] != metadata["uid"]:
                return
            await asyncio.sleep(0.1)
        raise Violation(f"{manifest['kind']} {metadata['name']} does not go")

    async def patch(self, manifest: Manifest, patch: Manifest, subresource: str | None = None) -> Manifest:
        """Change exactly this object."""
        metadata = manifest["metadata"]
        change = patch
        if not subresource:
            change = {**patch, "metadata": {**patch.get("metadata", {}), "uid": metadata["uid"]}}
        try:
            return await self._hand.patch(
                manifest["kind"], metadata["namespace"], metadata["name"], change, subresource=subresource
            )
        except ApiError as error:
            if error.status == 422 and "metadata.uid: Invalid value" in str(error):
                raise Absent(f"{manifest['kind']} {metadata['name']} is another one by now") from None
            raise

    async def patch_seen(self, seen: Manifest, patch: Manifest, subresource: str | None = None) -> Manifest:
        """Change exactly this version: another deed may be at the same object."""
        version = {"resourceVersion": seen["metadata"]["resourceVersion"]}
        return await self.patch(seen, {**patch, "metadata": {**patch.get("metadata", {}), **version}}, subresource)

    async def let_go(self, pod: Manifest) -> None:
        """Take a finalizer off, if the Pod is still there."""
        try:
            await self.patch(pod, {"metadata": {"finalizers": None}})
        except Absent:
            return
        except ApiError as error:
            if error.status != 404:
                raise

    async def admission(self, switch: str, value: str) -> Undo:
        """Turn on one of the policies here."""
        await self._switch({switch: value})
        return lambda: self._switch({switch: None})

    async def _switch(self, switches: Mapping[str, str | None]) -> None:
        labels = {f"{SWITCHES}/{name}": value for name, value in switches.items()}
        await self._hand.patch("Namespace", None, self.site.namespace, {"metadata": {"labels": labels}})

    async def told(self, kind: str, name: str, reasons: Sequence[str], of: Manifest) -> None:
        """Wait until ``Ready`` gives one of the reasons, which are ``of`` this object; a second deed may delete it."""

        def reason() -> str:
            manifest = self.site.record.get(kind, name)
            conditions = ((manifest or {}).get("status") or {}).get("conditions") or ()
            return next((str(c["reason"]) for c in conditions if c["type"] == "Ready" and c["status"] == "False"), "")

        await self.site.record.until(
            lambda: reason() in reasons or of["metadata"]["uid"] in self._deleted,
            f"{kind} {name} tells {' or '.join(reasons)}",
            seconds=TOLD_SECONDS,
        )
