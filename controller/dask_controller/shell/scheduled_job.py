"""``dask-controller start``: create a DaskJob and wait for its end, as a CronJob's Pod does.

It waits so that the CronJob's Job lasts as long as the DaskJob: that is what ``concurrencyPolicy`` and the history
limits go by.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from dask_crds.model import DaskJob, InvalidManifest, parse

from ..core.scheduled_job import Owner, belongs_to, dask_job, verdict
from ..kube.api import ApiError, Caller, Manifest
from ..kube.client import Kubernetes
from ..kube.credentials import ConfigError

logger = logging.getLogger(__name__)

#: Exit codes that trying again does not help with; the CronJob's ``podFailurePolicy`` knows them.
REFUSED, FAILED = 2, 3
#: Of a process that SIGTERM has ended.
TERMINATED = 128 + signal.SIGTERM

#: Environment variables with the namespace, the name and the uid of the Job that this is a Pod of.
OWNER = ("POD_NAMESPACE", "JOB_NAME", "JOB_UID")
LOOK_SECONDS = 5.0
LONGEST_PAUSE = 60.0


async def follow(template: Manifest, caller: Caller) -> int:
    """Create the DaskJob of a template as ``caller``, follow it until it has ended.

    Returns:
        The exit code: 0 for success, `FAILED` if the DaskJob failed or was deleted, `REFUSED` if it can't be created,
        `TERMINATED` after a signal, which leaves the DaskJob to its owner.

    Raises:
        ConfigError: no API server is known, or not which Job this belongs to.
    """
    identity = [os.environ.get(name, "") for name in OWNER]
    if not all(identity):
        raise ConfigError(f"needs the environment variables {', '.join(OWNER)}, as a DaskCronJob sets them")
    owner = Owner(*identity)
    async with Kubernetes.from_environment(caller) as kubernetes:
        work = asyncio.create_task(_run(kubernetes, template, owner))
        # The first process of a container does not die of a signal that it has no handler for.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
        try:
            return await work
        except asyncio.CancelledError:
            return TERMINATED


async def _run(kubernetes: Kubernetes, template: Manifest, owner: Owner) -> int:
    pause, told, created = LOOK_SECONDS, "", False
    while True:
        try:
            if not created:
                if (refusal := await _create(kubernetes, template, owner)) is not None:
                    logger.error("DaskJob %s: %s", owner.name, refusal)
                    return REFUSED
                created = True
            manifest = await kubernetes.get("DaskJob", owner.namespace, owner.name)
        except ApiError as error:
            logger.warning("%s; trying again in %.0f s", error, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            continue
        pause = LOOK_SECONDS
        if manifest is None or not belongs_to(manifest, owner):
            logger.error("DaskJob %s was deleted", owner.name)
            return FAILED
        try:
            job = parse(manifest)
            assert isinstance(job, DaskJob)
        except InvalidManifest as error:  # written by a newer operator
            logger.warning("DaskJob %s: %s", owner.name, error)
        else:
            found = verdict(job)
            if found.message != told:
                logger.info("DaskJob %s: %s", owner.name, told := found.message)
            if found.succeeded is not None:
                return 0 if found.succeeded else FAILED
        await asyncio.sleep(LOOK_SECONDS)


async def _create(kubernetes: Kubernetes, template: Manifest, owner: Owner) -> str | None:
    """Create the DaskJob unless it exists; why that is impossible, else ``None``.

    Raises:
        ApiError: try again.
    """
    try:
        await kubernetes.create(dask_job(template, owner))
        return None
    except ApiError as error:
        # A quota is refused with 403, too, but others may make room.
        if error.status in (400, 403, 404, 422) and "exceeded quota" not in error.message:
            return error.message
        if error.reason != "AlreadyExists":
            raise
    live = await kubernetes.get("DaskJob", owner.namespace, owner.name)
    return None if live is None or belongs_to(live, owner) else "exists, and belongs to somebody else"
