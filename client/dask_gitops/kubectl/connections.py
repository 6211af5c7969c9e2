"""Ports of this machine that lead to a cluster, and the environment that clients find it by."""

from __future__ import annotations

import asyncio
import base64
import os
import shlex
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from dask_crds import names
from dask_crds.names import Env, Port

from ..access import Access
from ..errors import DaskGitopsError
from ..forward import forwarded
from .facts import Manifest, at, name_of, text, uid_of
from .reading import found, opened, parted
from .where import Where

#: Entries of a Secret with certificates, by the variable of distributed that names the file, see docs/decisions/0014.
_FILES = {"CA_FILE": "ca.crt", "CLIENT__CERT": "tls.crt", "CLIENT__KEY": "tls.key"}
_TLS = "DASK_DISTRIBUTED__COMM__TLS__"


async def _cluster(access: Access, name: str) -> dict[str, Any]:
    """The cluster of that name; that of a job has the job's."""
    _, plain = parted(name, "DaskCluster", "DaskJob")
    return await found(access, plain, "DaskCluster")


async def dashboard(where: Where, name: str, *, port: int, browser: bool) -> None:
    """Open a cluster's dashboard."""
    access = await opened(where)
    cluster = await _cluster(access, name)
    service = names.scheduler(name_of(cluster))
    async with forwarded(access, service, [Port.DASHBOARD.name], local_port=port) as local:
        url = f"http://127.0.0.1:{local}/status"
        click.echo(url)
        if browser and sys.stdout.isatty():
            webbrowser.open(url)
        await _until_interrupted()


async def connect(where: Where, name: str, command: Sequence[str], *, port: int, folder: str | None) -> None:
    """Lead a port to a cluster's scheduler, and say by which environment clients find it."""
    access = await opened(where)
    cluster = await _cluster(access, name)
    secret = tls_secret(cluster)
    if folder is not None and not secret:
        raise DaskGitopsError(f"DaskCluster {name_of(cluster)} speaks plain TCP: leave out --tls")
    # With TLS, a plain port is there for port-forwards alone: those come in by the API server.
    wanted = [Port.TLS.name] if folder is not None else [Port.COMM.name]
    files = await _certificates(access, secret, Path(folder)) if folder is not None else {}
    async with forwarded(access, names.scheduler(name_of(cluster)), wanted, local_port=port) as local:
        environment = environment_of(local, files)
        if command:
            sys.exit(await _run(command, environment))
        for key, value in environment.items():
            click.echo(f"export {key}={shlex.quote(value)}")
        click.echo("as long as this runs; Ctrl-C ends it", err=True)
        await _until_interrupted()


def tls_secret(cluster: Manifest) -> str:
    """Name of the Secret with the certificates of a cluster; empty where it speaks plain TCP."""
    if at(cluster, "spec", "security", "tls") is None:
        return ""
    stated = text(cluster, "spec", "security", "tls", "secretName")
    return stated or names.security(name_of(cluster), uid_of(cluster))


def environment_of(port: int, files: Mapping[str, str]) -> dict[str, str]:
    """What clients read: ``distributed.Client()`` without an address connects to this one.

    Args:
        port: of this machine.
        files: variables of distributed that name files; empty for a plain connection.
    """
    scheme = "tls" if files else "tcp"
    address = f"{scheme}://127.0.0.1:{port}"
    required = {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True"} if files else {}
    return {Env.SCHEDULER_ADDRESS: address, **files, **required}


async def _certificates(access: Access, secret: str, folder: Path) -> dict[str, str]:
    """Write the certificates of a cluster into files that nobody else reads."""
    return await asyncio.to_thread(_write, at(await access.get("Secret", secret), "data"), secret, folder)


def _write(data: Any, secret: str, folder: Path) -> dict[str, str]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = {}
    for variable, key in _FILES.items():
        try:
            content = base64.b64decode(data[key], validate=True)
        except (KeyError, TypeError, ValueError):
            raise DaskGitopsError(f"Secret {secret} has no {key}") from None
        path = folder / key
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        written[f"{_TLS}{variable}"] = str(path.absolute())
    return written


async def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    try:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment})
    except OSError as error:
        raise DaskGitopsError(f"{command[0]}: {error.strerror}") from None
    try:
        status = await process.wait()
        return status if status >= 0 else 128 - status  # as a shell tells a signal
    except asyncio.CancelledError:  # Ctrl-C, which the terminal has sent to it as well
        process.terminate()
        await process.wait()
        raise


async def _until_interrupted() -> None:
    await asyncio.Event().wait()
