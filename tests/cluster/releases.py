"""Programs from their projects' own releases, checked against the checksums that are published beside them.

A checksum comes over TLS from the same release: it finds what broke on the way, and is worth as much as the release
itself. What is built instead is checked by Go against its checksum database, https://go.dev/ref/mod#checksum-database.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import ssl
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from .machine import ARCHITECTURE, Unavailable
from .modules import Module, program

VARIABLE = "DASK_GITOPS_PROGRAMS"
SCHEME = "https://"
CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
_OTHERWISE = f". Try again, or build it: {VARIABLE}=build"


class NotPublished(Unavailable):
    """A release lacks a file; the message says which."""


class Refused(Exception):
    """A download is not what its project published; the message says which, and what to do about it."""


def forced() -> bool:
    """Whether programs and images must be downloaded.

    Raises:
        Unavailable: the variable says neither this nor that.
    """
    way = os.environ.get(VARIABLE, "")
    if way not in ("", "download", "build"):
        raise Unavailable(f"{VARIABLE} is {way!r}, and can be `download` or `build`")
    return way == "download"


def to_download(host: str) -> bool:
    """Whether to download from a host: as the environment says, else where it answers.

    Raises:
        Unavailable: what must be downloaded cannot be.
    """
    if forced() and (reason := _silence(host)):
        raise Unavailable(f"{host} cannot be reached ({reason}), and {VARIABLE} is `download`")
    return os.environ.get(VARIABLE) != "build" and not _silence(host)


@functools.cache
def _silence(host: str) -> str:
    """Why a host does not answer, nothing where it does; asked once and told once."""
    try:
        with _client() as client:
            client.head(SCHEME + host, follow_redirects=False)
    except httpx.HTTPError as error:
        reason = _short(error)
        instead = "" if forced() else ": what it publishes is built instead"
        print(f"- {host} cannot be reached ({reason}){instead}", file=sys.stderr, flush=True)
        return reason
    return ""


def download(module: Module, name: str) -> None:
    """Put a program of a release into its place, whole or not at all; with it all others of its archive.

    Raises:
        NotPublished: the release lacks it, or its checksum.
        Refused: it broke off, or is not what the checksum says.
    """
    release = module.release
    assert release

    def filled(pattern: str, name: str = name) -> str:
        machine = "x86_64" if ARCHITECTURE == "amd64" else ARCHITECTURE
        return pattern.format(version=module.version, program=name, arch=ARCHITECTURE, machine=machine)

    folder, file, sums = SCHEME + filled(release.folder), filled(release.file), filled(release.sums)
    module.folder.mkdir(parents=True, exist_ok=True)
    with _client() as client, TemporaryDirectory(prefix=".", dir=module.folder) as temporary:
        published = checksum(_text(client, f"{folder}/{sums}"), file)
        if not published:
            raise NotPublished(f"{folder}/{sums} has no checksum of {file}")
        fetched = Path(temporary) / file
        digest = _save(client, f"{folder}/{file}", fetched)
        if digest != published:
            raise Refused(
                f"{folder}/{file} is refused: its SHA-256 is {digest}, and {sums} says {published}{_OTHERWISE}"
            )
        for other in map(program, module.programs) if "{program}" in release.member else [name]:
            path = _member(fetched, filled(release.member, other)) if release.member else fetched
            path.chmod(0o755)
            path.rename(module.folder / other)


def checksum(sums: str, file: str) -> str | None:
    """The SHA-256 of a file in the output of ``sha256sum``, or the only one that there is."""
    for line in sums.splitlines():
        digest, *names = line.split() or [""]
        if re.fullmatch(r"[0-9a-f]{64}", digest) and names in ([], [file], [f"*{file}"]):
            return digest
    return None


def _client() -> httpx.Client:
    limits = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    # The machine's own certificates, which may name a company's proxy; files as they are, whatever was compressed.
    headers = {"Accept-Encoding": "identity"}
    return httpx.Client(timeout=limits, follow_redirects=True, verify=ssl.create_default_context(), headers=headers)


def _text(client: httpx.Client, url: str) -> str:
    try:
        return client.get(url).raise_for_status().text
    except httpx.HTTPError as error:
        raise NotPublished(f"{url} cannot be had ({_short(error)})") from None


def _save(client: httpx.Client, url: str, path: Path) -> str:
    """Save a file; gives its SHA-256."""
    digest = hashlib.sha256()
    try:
        with client.stream("GET", url) as answer, path.open("wb") as file:
            answer.raise_for_status()
            for piece in answer.iter_raw():
                digest.update(piece)
                file.write(piece)
    except httpx.HTTPError as error:
        if path.exists() and path.stat().st_size:
            raise Refused(f"{url} is refused: it broke off ({_short(error)}){_OTHERWISE}") from None
        raise NotPublished(f"{url} cannot be had ({_short(error)})") from None
    return digest.hexdigest()


def _short(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"{error.response.status_code} {error.response.reason_phrase}"
    return str(error) or type(error).__name__


def _member(archive: Path, name: str) -> Path:
    with tarfile.open(archive) as tar:
        try:
            tar.extract(name, archive.parent, filter="data")
        except KeyError:
            raise NotPublished(f"{archive.name} holds no {name}") from None
    return archive.parent / name
