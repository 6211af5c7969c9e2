"""Whose certificate a cluster has, when it is renewed, and what status says of its encryption (finding 9)."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from msgspec.structs import replace
from tests.support.questions import answers_of
from tests.support.states import NOW, cluster, condition, group, observed_cluster, observed_group, scheduler_pod
from tests.support.virtual_time import virtual_time
from tests.unit.test_keyring import OWN, Api, executor, loaded, secret_of

from dask_controller.core.actions import Apply, CreateWorker, Outcome, PutKey
from dask_controller.core.certificate_life import LIFE_SECONDS, RENEWED_AFTER_SECONDS
from dask_controller.core.cluster import ASKED_EVERY_SECONDS, plan_cluster
from dask_controller.core.cluster_status import cluster_status
from dask_controller.core.questions import Encrypted, Encryption, Idle, PackageVersions
from dask_controller.core.signing import Signing
from dask_controller.core.time import format_time
from dask_controller.core.worker_group import plan_worker_group
from dask_controller.kube.api import ApiError
from dask_controller.shell.keyring import KEY_REFUSED
from dask_crds import names
from dask_crds.model import Certificate, DaskCluster, DaskClusterStatus, Security, Tls
from dask_crds.names import Annotation
from dask_resources.cluster import children
from dask_resources.scheduler import scheduler_deployment, scheduler_revision
from dask_resources.security import certificates_of

GENERATED, SECRET = Security(tls=Tls(mode="Generated")), Security(tls=Tls(mode="Secret", secret_name="mine"))
CREATED = NOW - 86400.0


def secured(security: Security | None = GENERATED, *, made: Certificate | None = None, **spec: Any) -> DaskCluster:
    of = cluster(security=security, **spec)
    metadata = {**of.metadata, "creationTimestamp": format_time(CREATED)}
    return replace(of, metadata=metadata, status=DaskClusterStatus(certificate=made))


def certificate(authority: str = "ca", *, renewals: int = 0) -> Certificate:
    end = CREATED + renewals * RENEWED_AFTER_SECONDS + LIFE_SECONDS
    return Certificate(secret_name=certificates_of(secured()), authority=authority, not_after=format_time(end))


KNOWN = Signing(authorities=("ca",))


def put(of: DaskCluster, now: float = NOW, *, signing: Signing = KNOWN, pods: int = 1) -> Any:
    """What is done about its Secret; ``None`` if nothing is."""
    running = tuple(scheduler_pod() for _ in range(pods))
    plan = plan_cluster(observed_cluster(of, signing=signing, scheduler_pods=running), now)
    return next((action for action in plan.actions if isinstance(action, PutKey)), None)


# --- which certificate ------------------------------------------------------------------------------------------------


def test_a_cluster_gets_its_first_certificate_before_all_else() -> None:
    assert put(secured(), pods=0) == PutKey(secured(), certificate(), renew=True)


def test_it_is_renewed_when_two_thirds_of_its_life_have_passed() -> None:
    of = secured(made=certificate())
    assert put(of) is None
    assert put(of, CREATED + RENEWED_AFTER_SECONDS - 1) is None
    assert put(of, CREATED + RENEWED_AFTER_SECONDS) == PutKey(of, certificate(renewals=1), renew=True)
    assert put(of, CREATED + 7.5 * RENEWED_AFTER_SECONDS).certificate == certificate(renewals=7), "we were away"


def test_what_this_operator_has_just_made_it_does_not_make_again() -> None:
    """Status may lag behind."""
    assert put(secured(), signing=Signing(authorities=("ca",), certificate=certificate())) is None


def test_it_is_put_again_as_it_was_where_it_may_have_been_deleted() -> None:
    of = secured(made=certificate())
    looked = put(of, signing=Signing(ensured=False, authorities=("ca",)))
    assert looked == PutKey(of, certificate(), renew=False)


@pytest.mark.parametrize("security", [None, SECRET])
def test_where_it_is_not_the_operators_to_make_it_makes_none(security: Security | None) -> None:
    assert put(secured(security)) is None
    ensured = put(secured(security), signing=Signing(ensured=False))
    assert (ensured.certificate, ensured.renew) == (None, False)


def test_under_a_running_scheduler_the_authority_stays() -> None:
    """Those who have the certificate of one CA do not believe those with another's."""
    of, keys = secured(made=certificate("before")), Signing(authorities=("new", "before"))
    assert put(of, signing=keys) is None
    renewed = put(of, CREATED + RENEWED_AFTER_SECONDS, signing=keys)
    assert renewed.certificate == certificate("before", renewals=1)


def test_a_suspended_cluster_comes_back_with_the_authority_of_the_present_key() -> None:
    of, keys = secured(made=certificate("before"), suspend=True), Signing(authorities=("new", "before"))
    assert put(of, signing=keys, pods=1) is None, "it is being stopped"
    assert put(of, signing=keys, pods=0).certificate == certificate("new")


def test_where_the_key_is_lost_nothing_is_renewed_behind_the_schedulers_back() -> None:
    of, keys = secured(made=certificate("lost")), Signing(authorities=("new",))
    assert put(of, CREATED + 5 * RENEWED_AFTER_SECONDS, signing=keys) is None
    suspended = secured(made=certificate("lost"), suspend=True)
    assert put(suspended, signing=keys, pods=0).certificate == certificate("new")


def test_a_cluster_that_may_have_no_secret_goes_without_a_certificate_and_starts_nothing_plain() -> None:
    refused = Signing("no right", ensured=False, authorities=("ca",))
    assert put(secured(), signing=refused) is None
    plan = plan_cluster(observed_cluster(secured(), signing=refused), NOW)
    (deployment,) = [a.manifest for a in plan.actions if isinstance(a, Apply) and a.manifest["kind"] == "Deployment"]
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    assert certificates_of(secured()) in [each.get("secret", {}).get("secretName") for each in volumes]


# --- how it gets there ------------------------------------------------------------------------------------------------


class Secrets(Api):
    """An API server that deletes, too."""

    async def delete(self, kind: str, namespace: str, name: str) -> Any:
        assert kind == "Secret"
        self._check("delete", namespace)
        return self.secrets.pop((namespace, name), None)


async def made(api: Any, of: DaskCluster, now: float = NOW) -> tuple[Any, Certificate]:
    """What an operator that has just started makes of it; the executor, and what status says then."""
    keyring = await loaded(api)
    o = observed_cluster(of, signing=keyring.signing(of))
    actions = [a for a in plan_cluster(o, now).actions if isinstance(a, PutKey)]
    outcomes = await executor(api, keyring).execute(of, actions, now)
    assert not any(outcome.error for outcome in outcomes)
    status = cluster_status(o, plan_cluster(o, now), outcomes, now)
    assert status.certificate is not None
    return keyring, status.certificate


@virtual_time
async def test_the_secret_holds_key_and_certificates_and_nothing_of_the_operators() -> None:
    api: Any = Secrets()
    of = secured()
    keyring, told = await made(api, of)
    data = api.data(*secret_of(of))
    assert set(data) == {"control.key", "ca.crt", "tls.crt", "tls.key"}
    assert told.authority == keyring.signing(of).authorities[0]
    assert told.secret_name == certificates_of(of) == secret_of(of)[1]
    end = x509.load_pem_x509_certificate(data["tls.crt"]).not_valid_after_utc.timestamp()
    assert format_time(end) == told.not_after
    master = api.data(OWN, names.MASTER_SECRET)["key"]
    assert all(master not in content and base64.b64encode(master) not in content for content in data.values())


@virtual_time
async def test_a_renewal_replaces_the_secret_with_one_of_the_same_authority() -> None:
    api: Any = Secrets()
    of = secured()
    _, first = await made(api, of)
    before = api.data(*secret_of(of))
    _, second = await made(api, replace(of, status=DaskClusterStatus(certificate=first)), NOW + RENEWED_AFTER_SECONDS)
    after = api.data(*secret_of(of))
    assert (second.authority, second.not_after > first.not_after) == (first.authority, True)
    assert [before[name] == after[name] for name in ("control.key", "ca.crt", "tls.crt", "tls.key")] == [
        True,
        True,
        False,
        False,
    ]
    assert not any(asked in ("get team", "patch team") for asked in api.asked)


@virtual_time
async def test_another_replica_puts_the_same_in_its_place() -> None:
    """A crash between the two requests, or before status was written, costs a repetition."""
    api: Any = Secrets()
    of = secured()
    await made(api, of)
    before = api.secrets[secret_of(of)]
    await made(api, of)
    assert api.secrets[secret_of(of)] == before
    api.secrets.pop(secret_of(of))
    await made(api, of)
    assert api.secrets[secret_of(of)] == before


@virtual_time
async def test_the_keys_authority_is_known_after_it_was_renewed() -> None:
    api: Any = Secrets()
    of = secured()
    keyring = await loaded(api)
    (before,) = keyring.signing(of).authorities
    own = api.secrets[OWN, names.MASTER_SECRET]["data"]
    own |= {"previous": own["key"], "key": base64.b64encode(b"n" * 32).decode()}
    await keyring.load(api)
    present, previous = keyring.signing(of).authorities
    assert (previous, present != before) == (before, True)


@pytest.mark.parametrize("verb", ["delete", "create"])
@virtual_time
async def test_a_renewal_that_is_refused_is_an_error(verb: str) -> None:
    api: Any = Secrets()
    of = secured()
    keyring = await loaded(api)
    api.refused = {verb: ApiError(403, "Forbidden", "no right")}
    (authority,) = keyring.signing(of).authorities
    action = PutKey(of, certificate(authority), renew=True)
    (outcome,) = await executor(api, keyring).execute(of, [action], NOW)
    assert outcome.reason == ("Forbidden" if verb == "delete" else KEY_REFUSED)
    assert keyring.signing(of).certificate is None


@virtual_time
async def test_somebody_who_is_faster_is_no_success() -> None:
    """What they have put there is not known."""

    class Raced(Secrets):
        async def delete(self, kind: str, namespace: str, name: str) -> Any:
            self.secrets[namespace, name] = {"data": {}}

    api: Any = Raced()
    keyring = await loaded(api)
    of = secured()
    action = PutKey(of, certificate(keyring.signing(of).authorities[0]), renew=True)
    (outcome,) = await executor(api, keyring).execute(of, [action], NOW)
    assert (outcome.reason, outcome.permanent) == ("AlreadyExists", False)


# --- what status says -------------------------------------------------------------------------------------------------


def encryption(**fields: Any) -> Encryption:
    defaults: dict[str, Any] = {
        "plain_listeners": (),
        "plain_workers": 0,
        "not_after": NOW + LIFE_SECONDS,
        "serial": "AB",
        "authority": "ca",
        "problem": "",
    }
    return Encryption(**defaults | fields)


def settled(of: DaskCluster, **fields: Any) -> Any:
    """A cluster of which all that it consists of is as stated."""
    there = {child.kind: child.build(of) for child in children(of) if child.kind != "DaskWorkerGroup"}
    for made in there.values():
        made["metadata"]["ownerReferences"] = [{"uid": of.uid, "controller": True, "kind": "DaskCluster"}]
        made["metadata"]["uid"] = "u"
    owned = group().metadata | {
        "annotations": next(c for c in children(of) if c.kind == "DaskWorkerGroup").build(of)["metadata"][
            "annotations"
        ],
        "labels": next(c for c in children(of) if c.kind == "DaskWorkerGroup").build(of)["metadata"]["labels"],
    }
    defaults: dict[str, Any] = {
        "config_map": there["ConfigMap"],
        "service": there["Service"],
        "disruption_budget": there["PodDisruptionBudget"],
        "deployment": there["Deployment"],
        "groups": (replace(group(), metadata=owned),),
        "scheduler_pods": (scheduler_pod(),),
        "signing": KNOWN,
    }
    return observed_cluster(of, **defaults | fields)


def told(of: DaskCluster, said: Any = None, **fields: Any) -> Any:
    answers = answers_of(encryption=said) if isinstance(said, Encryption) else said
    o = settled(of, answers=answers, **fields)
    status = cluster_status(o, plan_cluster(o, NOW), (), NOW)
    found = condition(status.conditions, "Encrypted")
    return found.status, found.reason, found.message


OF = secured(made=certificate())


@pytest.mark.parametrize(
    ("said", "status", "reason", "words"),
    [
        (encryption(), "True", "Encrypted", "the certificate expires at 20"),
        (encryption(not_after=NOW + 1000), "True", "CertificateExpires", "there is no other yet"),
        (encryption(plain_listeners=("tcp://10.0.0.1:8786",)), "False", "PlainListener", "tcp://10.0.0.1:8786"),
        (encryption(plain_workers=3), "False", "PlainWorkers", "3 worker processes"),
        (encryption(not_after=None, problem="certificate has expired"), "False", "CertificateInvalid", "has expired"),
        (encryption(authority="theirs"), "False", "CertificateInvalid", "not the operator's: delete Secret simple-"),
        (answers_of(silent="the scheduler does not answer"), "Unknown", "SchedulerSilent", "does not answer"),
        (answers_of(), "Unknown", "Progressing", "does not tell"),
    ],
)
def test_encrypted_is_what_the_scheduler_says(said: Any, status: str, reason: str, words: str) -> None:
    found = told(OF, said)
    assert found[:2] == (status, reason)
    assert words in found[2]


def test_the_authority_of_others_certificates_is_theirs() -> None:
    assert told(secured(SECRET), encryption(authority="any"))[:2] == ("True", "Encrypted")


def test_before_the_scheduler_runs_nobody_knows() -> None:
    status, reason, message = told(secured(SECRET), scheduler_pods=())
    assert (status, reason) == ("Unknown", "Progressing")
    assert "Secret mine with ca.crt, tls.crt and tls.key" in message


def test_while_it_is_being_asked_what_was_known_stands() -> None:
    known = cluster_status(o := settled(OF, answers=answers_of(encryption=encryption())), plan_cluster(o, NOW), (), NOW)
    of = replace(OF, status=replace(known, scheduler_pod_uid=scheduler_pod().uid))
    assert told(of)[:2] == ("True", "Encrypted")
    other = (replace(scheduler_pod(), uid="another"),)
    assert told(of, scheduler_pods=other)[:2] == ("Unknown", "Progressing")


def test_that_no_certificate_can_be_made_is_told() -> None:
    status, reason, message = told(secured(), signing=Signing("may not create secrets"))
    assert (status, reason) == ("False", "NoCertificate")
    assert "may not create secrets" in message


def test_who_asks_for_no_tls_is_told_nothing() -> None:
    o = settled(secured(None))
    status = cluster_status(o, plan_cluster(o, NOW), (), NOW)
    assert "Encrypted" not in [c.type for c in status.conditions or ()]
    assert status.certificate is None
    assert (status.scheduler_address or "").startswith("tcp://")
    ask = plan_cluster(o, NOW).ask
    assert ask is not None
    assert Encrypted() not in ask.questions


def test_the_address_in_status_says_it() -> None:
    o = settled(OF)
    assert (cluster_status(o, plan_cluster(o, NOW), (), NOW).scheduler_address or "").startswith("tls://")


def test_the_scheduler_is_asked_now_and_then_and_together_with_what_else_is_asked() -> None:
    ask = plan_cluster(settled(OF), NOW).ask
    assert ask is not None
    assert (ask.questions, ask.every) == ((PackageVersions(), Encrypted()), ASKED_EVERY_SECONDS)
    both = plan_cluster(settled(secured(made=certificate(), idle_timeout=60)), NOW).ask
    assert both is not None
    assert both.questions == (Idle(60), PackageVersions(), Encrypted())
    assert plan_cluster(settled(OF, answers=answers_of(encryption=encryption())), NOW).actions == ()


def test_what_a_stranger_says_is_bounded_and_readable() -> None:
    form = Encrypted.form(["tcp://\x1b[31m" * 1000] * 1000, 1, None, "s" * 1000, "a" * 1000, "p\n" * 1000)
    found = Encrypted().believe(form)
    assert (len(found.plain_listeners), len(found.serial), len(found.authority), len(found.problem)) == (4, 64, 64, 200)
    assert all(text.isprintable() for text in (*found.plain_listeners, found.problem))


def test_a_failed_renewal_is_not_in_status() -> None:
    of = secured(made=certificate())
    action = PutKey(of, certificate(renewals=1), renew=True)
    o = settled(of)
    failed = cluster_status(o, plan_cluster(o, NOW), [Outcome(action, "no", "Forbidden")], NOW)
    assert failed.certificate == certificate()
    assert cluster_status(o, plan_cluster(o, NOW), [Outcome(action)], NOW).certificate == certificate(renewals=1)


# --- who follows ------------------------------------------------------------------------------------------------------


def test_a_running_scheduler_is_replaced_when_security_changes() -> None:
    before = secured(None)
    o = settled(before)
    plan = plan_cluster(replace(o, cluster=secured(SECRET)), NOW)
    written = [a.manifest for a in plan.actions if isinstance(a, Apply) and a.manifest["kind"] == "Deployment"]
    assert [manifest["metadata"]["annotations"][Annotation.TLS_SECRET] for manifest in written] == ["mine"]


def test_a_note_on_the_deployment_that_somebody_removes_comes_back() -> None:
    o = settled(OF)
    o.children["Deployment"]["metadata"]["annotations"].pop(Annotation.TLS_SECRET)
    assert any(isinstance(a, Apply) and a.manifest["kind"] == "Deployment" for a in plan_cluster(o, NOW).actions)


def workers(of: DaskCluster, deployment: Any) -> list[str]:
    """With which certificates a group makes its workers."""
    o = observed_group(group(), cluster=of, scheduler_deployment=deployment)
    return [a.certificates for a in plan_worker_group(o, NOW).actions if isinstance(a, CreateWorker)]


def test_workers_go_by_what_their_scheduler_has() -> None:
    """It may be kept as it is (OnDelete), and is another one a moment later than its cluster says."""
    plain, encrypted = secured(None), secured(SECRET)
    assert workers(encrypted, scheduler_deployment(plain)) == ["", ""]
    assert workers(plain, scheduler_deployment(encrypted)) == ["mine", "mine"]
    assert workers(encrypted, None) == ["mine", "mine"], "it is yet to be made"
    whole = scheduler_deployment(plain)
    cut = {"metadata": {"name": "x"}, "spec": {"selector": whole["spec"]["selector"]}}
    assert workers(encrypted, cut) == ["mine", "mine"], "too large to be kept in memory with its annotations"


@pytest.mark.parametrize(("stated", "runs", "scheme"), [(SECRET, None, "tcp"), (None, SECRET, "tls")])
def test_so_does_the_address_that_clients_are_told(stated: Any, runs: Any, scheme: str) -> None:
    o = replace(settled(secured(runs)), cluster=secured(stated))
    address = cluster_status(o, plan_cluster(o, NOW), [], NOW).scheduler_address
    assert (address or "").partition(":")[0] == scheme


def test_revisions_of_clusters_without_tls_are_what_they_were() -> None:
    assert scheduler_revision(secured(None)) == scheduler_revision(cluster())
