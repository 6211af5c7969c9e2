"""What clusters need of the machine: a cache, Debian packages, one at a time, and a word about what takes long."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(
    os.environ.get("DASK_GITOPS_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dask-gitops"
)


#: Of this machine, as Go and container images call it.
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


class Unavailable(Exception):
    """Something that this machine lacks; the message says what, and what to do about it."""


#: Debian packages that a real node needs, and a file of each.
NODE_PACKAGES = {
    "libseccomp-dev": "/usr/include/seccomp.h",
    "pkg-config": "/usr/bin/pkg-config",
    "gcc": "/usr/bin/gcc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "/usr/sbin/iptables",
    "nftables": "/usr/sbin/nft",
    "conntrack": "/usr/sbin/conntrack",
    "dnsmasq-base": "/usr/sbin/dnsmasq",
    "debootstrap": "/usr/sbin/debootstrap",
    "iproute2": "/usr/sbin/ip",
}
#: The same for Argo CD. Redis' server is another name of the checker of its files, and only the server's own package
#: would start it as a service.
ARGO_CD_PACKAGES = {"redis-tools": "/usr/bin/redis-check-rdb", "git": "/usr/bin/git"}


def ensure_packages(packages: Mapping[str, str] = NODE_PACKAGES) -> None:
    """Debian packages, those of a real node by default; each with a file of it.

    Raises:
        Unavailable: some are missing and cannot be installed here.
    """
    missing = [name for name, file in packages.items() if not Path(file).exists()]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"missing packages: {' '.join(missing)} (install them, or run as root on Debian)")
    with locked("apt"), progress(f"installing {' '.join(missing)}"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], env=environment)
        run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing], env=environment)


def unpacked(package: str, file: str) -> Path:
    """A program of a Debian package that is not installed for it, as it would start a service; kept in the cache.

    Raises:
        Unavailable: it cannot be downloaded here.
    """
    if found := shutil.which(Path(file).name):
        return Path(found)
    folder = CACHE / "debian" / package
    with locked("apt"):
        if not (folder / file).exists():
            if not shutil.which("apt-get"):
                raise Unavailable(f"{Path(file).name} is missing, and so is apt-get")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            if os.geteuid() == 0:
                run(["apt-get", "update", "-qq"])
            with progress(f"downloading {package}"):
                run(["apt-get", "download", "-qq", package], cwd=folder)
                run(["dpkg-deb", "--extract", str(next(folder.glob("*.deb"))), "."], cwd=folder)
    return folder / file


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep other runs on this machine from doing the same at the same time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Tell what is being done, that it still is, and how long it took."""
    began = time.monotonic()
    stop = threading.Event()
    print(f"- {what} ...", file=sys.stderr, flush=True)

    def tick() -> None:
        while not stop.wait(30):
            print(f"  {what}: {time.monotonic() - began:.0f} s so far", file=sys.stderr, flush=True)

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    end = "failed after"
    try:
        yield
        end = "done in"
    finally:
        stop.set()
        ticker.join()
        print(f"  {what}: {end} {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def run(command: Sequence[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Unavailable(f"`{' '.join(command)}` failed:\n{done.stdout[-3000:]}")
