"""What the operator asks: each question's field in a request, its body, the field of its answer, and who answers it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from dask_gitops_clients import Clients
from dask_gitops_demand import adaptive_target
from dask_gitops_history import MOST_TOLD, History
from dask_gitops_requests import Forbidden, Groups, Malformed, Pod, read_groups, read_object, read_pods
from dask_gitops_retirement import Retirement
from dask_gitops_signing import Guard
from dask_gitops_status import Status
from dask_gitops_tls import encryption
from dask_gitops_work import Work
from dask_gitops_workers import Workers


class Extension:
    """Answers the operator on behalf of a scheduler. There is one for each, see :func:`extension`."""

    def __init__(self, scheduler: Any) -> None:
        self.workers = Workers(scheduler)
        self.retirement = Retirement(scheduler, self.workers)
        self.status = Status(scheduler)
        self.work = Work(scheduler)
        self.history = History.from_environment(scheduler, self.status, self.work)
        self.clients = Clients(scheduler)
        self.target = partial(adaptive_target, scheduler, self.workers)
        self.encryption = partial(encryption, scheduler)
        self.guard = Guard.from_environment()

    def recorded(self, end: str | None = None) -> dict[str, str]:
        """Where the record is; after it was told how the run has ended, if it is."""
        if self.history is None:
            return {}
        return self.history.place() if end is None else self.history.ends(end)

    def noted(self, failed: str) -> dict[str, str]:
        """Likewise, after the record was told how workers have ended that failed."""
        return {} if self.history is None else self.history.note_failures(failed)

    def versions(self) -> dict[str, list[dict[str, str]]]:
        """The sets of versions by role, clients that are there now apart from all that have ever been."""
        return {**self.status.versions(), "connected": self.clients.versions()}

    @property
    def is_guarded(self) -> bool:
        """Whether orders must be signed."""
        return self.guard is not None


def extension(scheduler: Any) -> Extension:
    """The extension of a scheduler: made on first use and kept on it, so that it lives and dies with it."""
    if "_dask_gitops" not in scheduler.__dict__:
        scheduler._dask_gitops = Extension(scheduler)
    found: Extension = scheduler._dask_gitops
    return found


class Question(NamedTuple):
    """One thing that the operator may ask, alone or together with others."""

    field: str  #: of a request
    read: Callable[[dict[str, Any], str], Any]  #: gives the body in that field; ``None`` if this is not asked
    answer_field: str
    answer: Callable[[Extension, Any], Any]
    changes: bool = False  #: the scheduler's state


def _flag(request: dict[str, Any], field: str) -> bool | None:
    return True if request.get(field) else None


def _pods(request: dict[str, Any], field: str) -> list[Pod] | None:
    return None if request.get(field) is None else read_pods(request, field)


def _told(request: dict[str, Any], field: str) -> str | None:
    told = request.get(field)
    if told is not None and not (isinstance(told, str) and len(told) <= MOST_TOLD):
        raise Malformed(f"{field} is a text of at most {MOST_TOLD:,} characters")
    return told


def _groups(request: dict[str, Any], field: str) -> Groups | None:
    body = request.get(field)
    if body is None:
        return None
    others = read_object(body, f"{field} is an object")
    return read_groups(others.get("group"), others)


#: In the order in which they are answered: what is taken back is so before anything else is found out, and workers are
#: told to go last.
QUESTIONS = (
    Question("resume", _pods, "resumption", lambda asked, pods: asked.retirement.resume(pods), True),
    Question("idle", _flag, "idle_seconds", lambda asked, _: asked.status.idle_seconds()),
    Question("no_client", _flag, "no_client_seconds", lambda asked, _: asked.clients.absent_seconds()),
    Question("progress", _flag, "progress", lambda asked, _: asked.status.progress()),
    Question("work", _flag, "work", lambda asked, _: asked.work.seconds()),
    Question("versions", _flag, "versions", lambda asked, _: asked.versions()),
    Question("recorded", _flag, "record", lambda asked, _: asked.recorded()),
    Question("failed", _told, "noted", lambda asked, ends: asked.noted(ends), True),
    Question("end", _told, "ending", lambda asked, end: asked.recorded(end), True),
    Question("encryption", _flag, "encryption", lambda asked, _: asked.encryption()),
    Question("registered", _pods, "registered", lambda asked, pods: asked.workers.registered(pods)),
    Question("rank", _pods, "ranked", lambda asked, pods: asked.workers.cheapest_first(pods)),
    Question("target", _groups, "target", lambda asked, groups: asked.target(groups)["target"]),
    Question("retire", _pods, "retirement", lambda asked, pods: asked.retirement.retire(pods), True),
)


def answers(asked: Extension, request: Any, *, may_change: bool) -> dict[str, Any]:
    """The answers to all that one request asks; it is read as a whole before anything is done."""
    request = read_object(request, "a question is an object")
    bodies = [(question, question.read(request, question.field)) for question in QUESTIONS]
    if not may_change and any(question.changes and body is not None for question, body in bodies):
        raise Forbidden()
    return {question.answer_field: question.answer(asked, body) for question, body in bodies if body is not None}
