"""Requests: several questions at once, mistakes, bounds, and those that come from elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest
from distributed import Scheduler
from distributed.utils import import_file
from tests.support.dask_scheduler import MODULE, ROUTES, Extension, ask, having, pods, until
from tests.support.questions import QUESTIONS, answers_of, ask_of, parts

from dask_controller.core.questions import Target
from dask_controller.schedulers.answers import Request, SchedulerError

pytestmark = pytest.mark.timeout(60)


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("retire", None),
        ("retire", {"workers": "a"}),
        ("retire", {"workers": [1]}),
        ("retire", {"workers": [{"ip": "10.0.0.1"}]}),
        ("retire", {"workers": [{"name": "a", "ip": 1}]}),
        ("workers_to_close", {"workers": [], "n": "1"}),
        ("adaptive_target", {"workers": [], "resources": {"GPU": "1"}}),
        ("adaptive_target", {"workers": [], "target_duration": 0}),
        ("adaptive_target", {"workers": [], "threads": 0}),
        ("adaptive_target", {"workers": [], "before": {}}),
        ("adaptive_target", {"workers": [], "after": [{"workers": [], "maximum": "2"}]}),
    ],
)
async def test_a_malformed_question_is_refused(rig, route, body):
    async with rig.session.post(f"{rig.url}{ROUTES}/{route}", json=body) as response:
        assert response.status == 400
        assert (await response.json())["message"]


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {"Origin": "http://evil.example"}])
async def test_a_web_page_cannot_ask_in_the_name_of_its_reader(rig, headers):
    """Nor one whose own name was made to lead here (DNS rebinding, security finding 9)."""
    await rig.add("a", "b")
    headers = {"Content-Type": "application/json", **headers}
    for route, body in (("retire", '{"workers": ["a"]}'), ("ask", '{"questions": [{"retire": ["a"]}]}')):
        async with rig.session.post(f"{rig.url}{ROUTES}/{route}", data=body, headers=headers) as response:
            assert response.status == 400
    assert rig.status("a") == "running"


async def test_a_scheduler_that_is_not_as_expected_says_so(rig, monkeypatch):
    monkeypatch.setattr(rig.scheduler, "unrunnable", None)
    status, answer = await rig.post("adaptive_target", {"workers": []})
    assert status == 501
    assert "TypeError" in answer["message"]
    monkeypatch.delattr(rig.scheduler, "workers")
    with pytest.raises(SchedulerError, match=r"501 to ask: .*AttributeError") as raised:
        await rig.target()
    assert raised.value.kind == "Unexpected"


async def test_a_scheduler_without_the_module_says_so():
    async with Scheduler(port=0, dashboard_address="127.0.0.1:0") as scheduler:
        with pytest.raises(SchedulerError, match="extension") as raised:
            await ask(Extension(f"http://127.0.0.1:{scheduler.http_server.port}"), idle=True)
        assert raised.value.kind == "NoExtension"


# --- several questions at once ----------------------------------------------------------------------------------------


async def test_what_is_asked_at_once_is_answered_in_order_and_each_as_if_alone(rig):
    await rig.add("a", "b-0", "c")
    futures = rig.hold(4)
    await until(lambda: sum(len(ws.processing) for ws in rig.scheduler.workers.values()) == 4)
    group = Target(group=having("a", "b"))
    asks = (
        ask_of(target=group, every=5.0),
        ask_of(progress=True, versions=True, idle=True),
        ask_of(registered=pods("b", "ghost", "a"), rank=pods("a", "b"), resume=pods("a")),
        ask_of(),
    )
    question = Request(asks)
    reply = await rig.extension.put(question)
    alone = [(await rig.extension.put(Request([each]))).answers[0] for each in asks]
    assert list(reply.answers) == alone
    target, seen, group, nothing = map(parts, reply.answers)
    assert target.target >= 2
    assert (seen.progress.total, seen.progress.workers, seen.idle_seconds) == (4, 3, None)
    assert (group.registered, set(group.ranked)) == ({"a", "b"}, {"a", "b"})
    assert nothing == parts(answers_of())
    assert await rig.extension.put(question, reply) is reply, "nothing new"
    await rig.client.cancel(futures)
    assert await until(lambda: changed(rig, question, reply)) is not reply


async def changed(rig, question, reply):
    new = await rig.extension.put(question, reply)
    return None if new is reply else new


def test_every_question_is_in_the_decision_record():
    import_file(str(MODULE))
    text = Path("docs/decisions/0003-scheduler-extension.md").read_text()
    rows = [row.split("|") for row in text.splitlines() if row.startswith("|")]
    for question in sys.modules["dask_gitops_questions"].QUESTIONS:
        asked, answered = f"`{question.field}`", f"`{question.answer_field}`"
        assert any(asked in row[1] and answered in row[2] for row in rows), question


def test_the_scheduler_answers_what_the_operator_may_ask():
    import_file(str(MODULE))
    rows = {(row.field, row.answer_field) for row in sys.modules["dask_gitops_questions"].QUESTIONS}
    assert {(question.field, question.answer_field) for question in QUESTIONS} == rows


async def test_what_is_taken_back_is_so_before_anything_else_is_found_out(rig):
    await rig.add("a", "b")
    await rig.retire("a")
    answers = await rig.ask(resume=pods("a"), retire=pods("a"))
    assert answers.retirement == {"a": "retiring: it is about to work again"}


async def test_a_question_that_fails_does_not_keep_the_others_from_being_answered(rig, monkeypatch):
    await rig.add("a")
    monkeypatch.setattr(rig.scheduler, "task_prefixes", None)
    questions = [{"registered": ["a"]}, {"progress": True}, {"retire": [1]}, "x", {"rank": ["a"]}, {"target": []}]
    status, answer = await rig.post("ask", {"questions": questions})
    first, failed, malformed, no_question, last, no_group = answer["answers"]
    assert (status, first, last) == (200, {"registered": ["a"]}, {"ranked": ["a"]})
    assert failed["error"].startswith("this scheduler is not as expected: AttributeError")
    assert malformed["error"].startswith("a worker is a name or")
    assert (no_question["error"], no_group["error"]) == ("a question is an object", "target is an object")
    both = (await rig.extension.put(Request([ask_of(progress=True), ask_of(rank=pods("a"))]))).answers
    assert both[0].silent.startswith("the scheduler cannot answer: this scheduler is not as expected")
    assert parts(both[1]).ranked == ("a",)


async def test_an_answer_names_only_whom_it_was_asked_about(rig):
    await rig.add("one-a", "two-a")
    status, answer = await rig.post("ask", {"questions": [{"registered": ["one-a"], "retire": ["one-a"]}]})
    assert status == 200
    assert answer["answers"] == [
        {"registered": ["one-a"], "retirement": {"one-a": "retiring: 0 tasks and 0 results left"}}
    ]
    assert rig.status("two-a") == "running"


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ({"questions": {}}, 400, "questions is a list"),
        ([], 400, "expected an object with questions"),
        ({"questions": [{}] * 1001}, 400, "questions has at most 1,000 items"),
        ({"questions": [{}], "x": "A" * 2**22}, 413, "a request has at most 4,194,304 bytes"),
        ({"workers": ["a"] * 20_001}, 400, "workers has at most 20,000 items"),
    ],
)
async def test_a_request_has_bounds(rig, body, status, why):
    """The port is reachable by others than the operator: 300,000 names took a second (security finding 9)."""
    route = "ask" if "workers" not in body else "retire"
    assert await rig.post(route, body) == (status, {"message": why})


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ({"rank": ["a"] * 20_001}, "rank has at most 20,000 items"),
        ({"target": {"group": {}, "before": [{}] * 1001}}, "before has at most 1,000 items"),
        ({"target": {"group": {}, "after": [{"workers": ["a"] * 9_999}] * 3}}, "at most 20,000 workers together"),
        (
            {"target": {"group": {"workers": [], "maximum": 10**400}}},
            "threads, processes, minimum and maximum are numbers",
        ),
        ({"target": {"group": {"workers": [], "resources": {"GPU": float("nan")}}}}, "resources are numbers"),
    ],
)
async def test_a_question_has_bounds(rig, question, why):
    status, answer = await rig.post("ask", {"questions": [question]})
    assert status == 200
    assert why in answer["answers"][0]["error"]


@pytest.mark.parametrize("body", ["[" * 100_000, '{"questions": ' * 100_000, '{"questions": [', "1" * 5000, "\xff"])
async def test_what_is_no_json_is_refused(rig, body):
    headers = {"Content-Type": "application/json"}
    async with rig.session.post(f"{rig.url}{ROUTES}/ask", data=body.encode("latin-1"), headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["message"].startswith("expected JSON")


async def test_the_scheduler_works_on_while_many_questions_are_answered(rig, monkeypatch):
    await rig.add("a")
    told = rig.scheduler.__dict__["_dask_gitops"].status
    slow, original = [], told.progress

    def progress():
        slow.append(time.sleep(0.01))
        return original()

    monkeypatch.setattr(told, "progress", progress)
    asked = asyncio.ensure_future(rig.post("ask", {"questions": [{"progress": True}] * 300}))
    await until(lambda: slow)
    assert await rig.client.submit(abs, -7) == 7
    assert len(slow) < 300
    assert len((await asked)[1]["answers"]) == 300


async def test_who_has_gone_is_not_answered_on(rig, monkeypatch):
    slow = []
    monkeypatch.setattr(
        rig.scheduler.__dict__["_dask_gitops"].status, "progress", lambda: slow.append(time.sleep(0.03))
    )
    asked = asyncio.ensure_future(rig.post("ask", {"questions": [{"progress": True}] * 100}))
    await until(lambda: slow)
    asked.cancel()
    await asyncio.sleep(0.5)
    assert len(slow) < 20
