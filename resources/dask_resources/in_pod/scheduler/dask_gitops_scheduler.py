"""Preloaded into a Dask scheduler by its path: the routes that the dask-gitops operator needs there.

This file and those that it imports from beside it must run with any ``distributed`` from 2024.11 on, and never break
one that they do not know. Hence: importing them needs only the standard library and tornado; ``dask_setup`` runs where
distributed logs errors and carries on (``PreloadManager.start``); a surprise inside a route is answered with 501 and
leaves the scheduler as it was. Only workers that a request names are ever touched. Routes and fields of ``/v1`` are
only ever added: the operator may be newer than the files that a running scheduler has loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

# Another preload may have imported modules of these names from elsewhere.
for _name in [name for name in sys.modules if name.startswith("dask_gitops_")]:
    if os.path.dirname(getattr(sys.modules[_name], "__file__", None) or "") != os.path.dirname(__file__):
        del sys.modules[_name]

import dask_gitops_control
import dask_gitops_metrics
import dask_gitops_tls
from dask_gitops_http import Ask, Route
from dask_gitops_questions import Extension, extension
from dask_gitops_requests import Forbidden, Malformed, Pod, is_number, read_groups, read_pods

VERSION = "11"
PREFIX = "/dask-gitops/v1"

#: Header of a request whose workers share their addresses with nobody. Older hooks send the addresses of nodes as well.
OWN_ADDRESSES = "Dask-Gitops-Own-Addresses"


class _AboutScheduler(Route):
    """A question about the scheduler as a whole."""

    def get(self) -> None:
        self.send_result(lambda: self.answer(extension(self.scheduler)))


class _AboutWorkers(Route):
    """A question about named workers."""

    def post(self) -> None:
        self.send_result(self._ask)

    def _ask(self) -> Any:
        body = self.body()
        if not (isinstance(body, dict) and isinstance(body.get("workers"), list)):
            raise Malformed('expected {"workers": [...]}')
        owns_ips = OWN_ADDRESSES in self.request.headers
        pods = [pod._replace(owns_ips=owns_ips) for pod in read_pods(body)]
        return self.answer(extension(self.scheduler), pods, body)


class _AdaptiveTarget(_AboutWorkers):
    def get(self) -> None:
        """For the whole cluster, as distributed sees it: what KEDA and the like can read."""
        self.send_result(lambda: {"target": self.scheduler.adaptive_target()})


def _workers_to_close(asked: Extension, pods: list[Pod], body: dict[str, Any]) -> dict[str, Any]:
    n = body.get("n")
    if n is not None and (not isinstance(n, int) or n < 0):
        raise Malformed("n is a number of workers")
    return {"workers": asked.workers.cheapest_first(pods)[:n]}


def _adaptive_target(asked: Extension, _: list[Pod], body: dict[str, Any]) -> dict[str, Any]:
    duration = body.get("target_duration")
    if duration is not None and not (is_number(duration) and duration > 0):
        raise Malformed("target_duration is a number of seconds above 0")
    return asked.target(read_groups(body, body), duration)


def _order(of: Callable[[Extension, list[Pod]], dict[str, str]]) -> Callable[[Extension, list[Pod], Any], Any]:
    """What is answered to an order that nobody has signed."""

    def answer(asked: Extension, pods: list[Pod], _: Any) -> dict[str, Any]:
        if asked.is_guarded:
            raise Forbidden()
        return {"workers": of(asked, pods)}

    return answer


def _route(name: str, handler: type[Route], answer: Any = None) -> tuple[str, type[Route], dict[str, Any]]:
    return f"{PREFIX}/{name}", handler, {"answer": answer}


#: Of use to ``distributed.scheduler.http.routes`` as well, for whoever prefers to load the module that way. That opens
#: no port for orders: where these have to be signed, nobody can give any.
routes = [
    _route("ask", Ask),
    _route("state", _AboutScheduler, lambda asked: {"version": VERSION, **asked.status.state()}),
    _route("progress", _AboutScheduler, lambda asked: asked.status.progress()),
    _route("versions", _AboutScheduler, lambda asked: asked.status.versions()),
    _route("workers_to_close", _AboutWorkers, _workers_to_close),
    _route("retire", _AboutWorkers, _order(lambda asked, pods: asked.retirement.retire(pods))),
    _route("resume", _AboutWorkers, _order(lambda asked, pods: asked.retirement.resume(pods))),
    _route("adaptive_target", _AdaptiveTarget, _adaptive_target),
]


async def dask_setup(scheduler: Any) -> None:
    """Called by distributed when the scheduler has started."""
    extension(scheduler)
    served = [(path, handler, {**options, "dask_server": scheduler}) for path, handler, options in routes]
    scheduler.http_application.add_handlers(r".*", served)
    dask_gitops_metrics.serve(scheduler)
    dask_gitops_control.listen(scheduler)
    await dask_gitops_tls.listen(scheduler)
    await _preload_hidden(scheduler)


async def dask_teardown(scheduler: Any) -> None:
    """Called by distributed when the scheduler closes."""
    await dask_gitops_control.close(scheduler)
    history = extension(scheduler).history
    if history is not None:
        await history.close()
    hidden = scheduler.__dict__.get("_dask_gitops_hidden")
    if hidden is not None:
        await hidden.teardown()


async def _preload_hidden(scheduler: Any) -> None:
    """Load what the user's YAML files ask to preload.

    The variable that names this file hides it, as dask's configuration does not merge lists. Preloads on the command
    line, or others in that variable, would have hidden it anyway.
    """
    if len(scheduler.preloads) != 1:
        return
    from dask import config
    from distributed.preloading import process_preloads

    files = config.collect(env={})
    names = config.get("distributed.scheduler.preload", None, config=files) or []
    arguments = config.get("distributed.scheduler.preload-argv") or config.get(
        "distributed.scheduler.preload-argv", [], config=files
    )
    if names:
        scheduler._dask_gitops_hidden = process_preloads(scheduler, names, arguments)
        await scheduler._dask_gitops_hidden.start()
