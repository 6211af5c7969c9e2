"""What can go wrong, in words that say what to do about it. All of it is a `DaskGitopsError`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: Most names that a message lists.
_LISTED = 10
#: What the API server's authorizer says, see ``k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go``.
_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)"'
    r'(?: in API group "(?P<group>[^"]*)")?(?: in the namespace "(?P<namespace>[^"]*)")?'
)
#: What those say who judge what is written, and not whether one may: quotas, policies, webhooks.
_ADMISSION = ("exceeded quota", "denied request", "denied the request")


class DaskGitopsError(Exception):
    """Something that a user can act on; the message says how."""


class Unreachable(DaskGitopsError):
    """No Kubernetes is known, or it does not answer, or it does not know who asks."""


class NotInstalled(DaskGitopsError):
    """The Kubernetes cluster does not have our kinds."""

    def __init__(self) -> None:
        super().__init__("this Kubernetes cluster has no Dask resources: dask-gitops is yet to be installed there")


class NoSuchObject(DaskGitopsError):
    """There is none of that name.

    Attributes:
        kind: of what was asked for.
        name: that nothing has.
        namespace: where it was looked for.
        near: names that are there and look like it.
    """

    def __init__(self, kind: str, name: str, namespace: str, names: Iterable[str] = ()) -> None:
        there = sorted(names)
        self.kind, self.name, self.namespace = kind, name, namespace
        self.near = near_names(name, there)
        super().__init__(f'no {kind} "{name}" in namespace "{namespace}"{_instead(self.near, there)}')


class NoSuchCluster(NoSuchObject):
    """There is no DaskCluster of that name."""


class MissingRight(DaskGitopsError):
    """The user may not do what is needed.

    Attributes:
        verb: ``get``, say.
        resource: plural, with its group and subresource: ``pods/portforward``, ``daskclusters.kubernetes.dask.org``.
        namespace: where; empty for the whole cluster.
        name: of the only object that it was about; empty for all.
        user: who asked, as far as the API server said so.
    """

    def __init__(self, verb: str, resource: str, namespace: str, *, name: str = "", user: str = "") -> None:
        self.verb, self.resource, self.namespace, self.name, self.user = verb, resource, namespace, name, user
        where = f'in namespace "{namespace}"' if namespace else "in the whole cluster"
        what = f'{resource} "{name}"' if name else resource
        super().__init__(
            f"{user or 'you'} may not {verb} {what} {where}: whoever looks after the namespace can grant it, "
            "with the ClusterRole dask-notebook for what connecting needs"
        )


class Refused(DaskGitopsError):
    """The API server refused what the user may do in principle: a policy, a quota, a value.

    Attributes:
        status: HTTP status of the answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NotReady(DaskGitopsError):
    """A cluster that does not come up, or not in time.

    Attributes:
        reason: in one word, as in the conditions of its status.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Governed(DaskGitopsError):
    """Something else decides that: a DaskAutoscaler the number of workers, Git the autoscaler."""


def refusal(status: int, message: str, *, verb: str, resource: str, namespace: str, name: str = "") -> DaskGitopsError:
    """What an answer of the API server means to its user.

    Args:
        status: HTTP status, 400 or above.
        message: its words.
        verb: what was tried, if the words do not say it; likewise the others.
        resource: plural with group and subresource.
        namespace: empty for the whole cluster.
        name: of the object, if it was about one.
    """
    if status == 401:
        return Unreachable(f"Kubernetes does not know who you are: {message}")
    if status != 403:
        return Refused(message, status)
    if any(words in message for words in _ADMISSION):
        return Refused(message, status)
    if found := _FORBIDDEN.search(message):
        told = found.groupdict()
        resource = ".".join(filter(None, _with_group(told["resource"], told["group"] or "")))
        return MissingRight(told["verb"], resource, told["namespace"] or "", name=name, user=told["user"])
    if "forbidden" in message.lower() and " is forbidden: " not in message:  # then a reason follows
        return MissingRight(verb, resource, namespace, name=name)
    return Refused(message, status)


def near_names(name: str, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that ``name`` may have been meant for, the nearest first."""
    there = list(names)
    near = difflib.get_close_matches(name, there, n=3, cutoff=0.6)
    return near + [each for each in there if name and name in each and each not in near][: 3 - len(near)]


def _instead(near: list[str], there: list[str]) -> str:
    if near:
        return f"; did you mean {' or '.join(near)}?"
    if not there:
        return ", and no other either"
    more = f" and {len(there) - _LISTED} more" if len(there) > _LISTED else ""
    return f"; there are {', '.join(there[:_LISTED])}{more}"


def _with_group(resource: str, group: str) -> tuple[str, str]:
    plural, slash, subresource = resource.partition("/")
    return (f"{plural}.{group}{slash}{subresource}", "") if group else (resource, "")
