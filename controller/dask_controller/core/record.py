"""The record that a scheduler keeps of what it does, as far as it is the operator's business: where, and the end."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from dask_crds.model import Bundle, DaskJobStatus, History

from .questions import Answers
from .run_questions import Recorded

#: Characters of a message that get into the record; most of what is told must be known to fit, see ``MOST_TOLD``.
LONGEST_MESSAGE = 2048


def bundle(before: Bundle | None, history: History | None, answers: Answers | None) -> Bundle | None:
    """What status says of the record; it stands while the scheduler says nothing."""
    if history is None:
        return None
    said = answers.of(Recorded) if answers is not None else None
    if said is None:
        return before
    known = before.path if before is not None and before.claim_name == history.claim_name else None
    return Bundle(claim_name=history.claim_name, path=said.path or known, problem=said.problem or None)


def recorded(status: DaskJobStatus) -> str:
    """The status of a run that has ended as it gets into its record: without the runs before, and bounded."""
    conditions = [replace(c, message=c.message[:LONGEST_MESSAGE]) for c in status.conditions or ()]
    problem = status.last_problem[:LONGEST_MESSAGE] if status.last_problem else None
    told = replace(status, history=None, bundle=None, conditions=conditions[:16], last_problem=problem)
    return msgspec.json.encode(told).decode()
