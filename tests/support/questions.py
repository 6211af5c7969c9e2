"""Questions to schedulers and their answers by their fields on the wire, as tests write and read them."""

from __future__ import annotations

from types import SimpleNamespace

from dask_controller.core import questions, run_questions
from dask_controller.core.questions import Answers, Ask, Question, Target

#: Every question that the operator may ask.
QUESTIONS = tuple(
    found
    for found in {**vars(questions), **vars(run_questions)}.values()
    if isinstance(found, type) and issubclass(found, Question) and hasattr(found, "field")
)


def ask_of(every: float | None = None, **fields) -> Ask:
    """``True``, workers, a text or a `Target` by a question's field; what is empty is not asked."""
    assert fields.keys() <= {question.field for question in QUESTIONS}
    asked = ((question, fields.get(question.field)) for question in QUESTIONS)
    return Ask(tuple(_question(question, value) for question, value in asked if value), every)


def _question(question, value):
    if isinstance(value, Target):
        return value
    return question() if value is True else question(value if isinstance(value, str) else tuple(value))


def answers_of(silent: str = "", **fields) -> Answers:
    """Answers by their fields; what is ``None`` was not asked."""
    assert fields.keys() <= {question.answer_field for question in QUESTIONS}
    known = {question: fields.get(question.answer_field) for question in QUESTIONS}
    return Answers(silent, {question: answer for question, answer in known.items() if answer is not None})


def parts(of: Ask | Answers) -> SimpleNamespace:
    """Questions or answers by their fields: of what was not asked ``()`` and ``None``."""
    if isinstance(of, Answers):
        return SimpleNamespace(silent=of.silent, **{question.answer_field: of.of(question) for question in QUESTIONS})
    fields = dict.fromkeys((question.field for question in QUESTIONS), ())
    return SimpleNamespace(every=of.every, **fields | {question.field: question.body for question in of.questions})
