"""What becomes of running Pods and of work when one state takes the place of another, in words."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from .state import Group, Scheduler, State

_LOST = "all work of the cluster is lost"


class Effect(Struct, frozen=True, rename="camel"):
    """Something that happens."""

    text: str
    loses_work: bool = False


def effects(before: State | None, after: State | None) -> Iterator[Effect]:
    """What happens; ``None`` stands for a resource that does not exist."""
    if (before or after or State()).runs is not None:
        yield from _run(before, after)
        return
    yield from _bounds(before, after)
    old, new = before or State(), after or State()
    yield from _scheduler(old.scheduler, new.scheduler)
    for name in sorted({*old.groups, *new.groups}):
        yield from _group(name, old.groups.get(name), new.groups.get(name))
    if before and after:
        for name in sorted({*old.objects, *new.objects}):
            if old.objects.get(name) != new.objects.get(name):
                yield Effect(f"{name} {_change(name in old.objects, name in new.objects)}")


def _change(was: bool, remains: bool) -> str:
    return "is changed" if was and remains else "is deleted" if was else "is created"


def _scheduler(before: Scheduler | None, after: Scheduler | None) -> Iterator[Effect]:
    if before is None and after is not None:
        yield Effect("the scheduler starts")
    elif before is not None and after is None:
        yield Effect(f"the scheduler stops: {_LOST}", True)
    elif before is not None and after is not None and before.revision != after.revision:
        if after.on_delete:
            yield Effect("the scheduler stays as it is until its Pod is deleted (updateStrategy OnDelete)")
        else:
            yield Effect(f"the scheduler is replaced: {_LOST}", True)


def _group(name: str, before: Group | None, after: Group | None) -> Iterator[Effect]:
    if before is None and after is not None:
        yield Effect(f"{name} starts with {workers(after, '1 worker')}")
    elif before is not None and after is None:
        yield Effect(f"{name} is deleted with {workers(before)}")
    elif before is not None and after is not None:
        if before.revision != after.revision and before.most and after.most:
            yield Effect(f"{name}: {_rolled(before, after)}", not after.drains and not after.on_delete)
        yield from _scaled(name, before, after)


def _rolled(before: Group, after: Group) -> str:
    if after.on_delete:
        return "workers stay as they are until they are deleted (updateStrategy OnDelete)"
    if after.drains:
        return f"{workers(before)} replaced, each drained first"
    return f"{workers(before)} replaced, and what they hold is lost (drainTimeoutSeconds 0)"


def _scaled(name: str, before: Group, after: Group) -> Iterator[Effect]:
    if (before.least, before.most) != (after.least, after.most):
        fewer = after.most < before.most
        how = (", drained first" if after.drains else ", what they hold is lost") if fewer else ""
        spans = f"{span(before.least, before.most)} → {span(after.least, after.most)}"
        yield Effect(f"{name}: {spans} workers{how}", fewer and not after.drains)
    if before.stated and not after.stated:
        yield Effect(f"{name}: Git does not say any more how many workers; unless somebody else does, it is 1")
    elif after.stated and not before.stated and after.most:
        yield Effect(f"{name}: {workers(after)} from now on, however many it was scaled to")


def _bounds(before: State | None, after: State | None) -> Iterator[Effect]:
    old, new = before.bounds if before else "", after.bounds if after else ""
    if new and old != new:
        yield Effect(f"the load decides how many workers there are: {new}")
    elif old and not new:
        yield Effect(f"the load does not decide any more: {old}")


def _run(before: State | None, after: State | None) -> Iterator[Effect]:
    if after is None:
        yield Effect("is deleted: a run that is under way ends, and its work is lost", True)
    elif before is None:
        yield Effect("is held back (suspend)" if after.suspended else "runs")
    else:
        if after.suspended and not before.suspended:
            yield Effect("is suspended: a run that is under way stops, and its work is lost", True)
        elif before.suspended and not after.suspended:
            yield Effect("is resumed: a run that has not ended begins again")
        if (before.run_id or "") != (after.run_id or ""):
            when = "once it is resumed" if after.suspended else "after a run that is under way"
            yield Effect(f"runs again, {when} (runId {before.run_id!r} → {after.run_id!r})")
        elif before.runs != after.runs:
            yield Effect("a run that has begun, or ended, stays as it was: give a new runId to run what is written now")


def workers(group: Group, unstated: str = "all workers") -> str:
    """How many workers a group has, for people; what to say where that is not for Git to say."""
    if group.least == group.most and not group.stated:
        return unstated
    number = span(group.least, group.most)
    return f"{number} worker" if number == "1" else f"{number} workers"


def span(least: object, most: object) -> str:
    """A number, or two and all between them."""
    return f"{least}" if least == most else f"{least}-{most}"
