"""Certificates of clusters, as the operator makes them, and how Dask is told to use them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dask_controller.core.certificate_life import RENEWED_AFTER_SECONDS, life_at
from dask_controller.core.certificates import Authority
from dask_resources.security import CA, CERTIFICATE, KEY


class Certificates:
    """A folder with the files of a cluster's Secret."""

    def __init__(self, folder: Path, uid: str = "uid-simple") -> None:
        self.folder = folder
        self.created = time.time() - 1000
        self.authority = Authority(b"m" * 32, uid, self.created)
        folder.mkdir(exist_ok=True)
        self.write()

    def write(self, renewals: int = 0, *, only: str = "", age: float = 0.0) -> None:
        """The files after so many renewals, all or one, as if made that long ago."""
        now = self.created + renewals * RENEWED_AFTER_SECONDS + 1
        life = life_at(now, self.created)
        # Its certificates differ by their ends alone: all of them begin in the past.
        life = type(life)(self.created - age, life.not_after - age)
        for name, content in self.authority.files(life, ["simple-scheduler.team.svc"]).items():
            if only in ("", name):
                (self.folder / f".{name}").write_bytes(content)
                (self.folder / f".{name}").replace(self.folder / name)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def config(self) -> dict[str, Any]:
        """Of dask, for all roles."""
        tls = "distributed.comm.tls"
        files = {"cert": self.path(CERTIFICATE), "key": self.path(KEY)}
        of_roles = {
            f"{tls}.{role}.{what}": path for role in ("scheduler", "worker", "client") for what, path in files.items()
        }
        return {"distributed.comm.default-scheme": "tls", f"{tls}.ca-file": self.path(CA), **of_roles}

    def security(self) -> Any:
        """Of a client that says it itself."""
        from distributed.security import Security

        return Security(
            tls_ca_file=self.path(CA),
            tls_client_cert=self.path(CERTIFICATE),
            tls_client_key=self.path(KEY),
            require_encryption=True,
        )

    async def serial(self, address: str) -> str:
        """That of the certificate which is shown at an address; raises `OSError` where it is not of this CA."""
        return await asyncio.to_thread(self._serial, address)

    def _serial(self, address: str) -> str:
        context = ssl.create_default_context(cafile=self.path(CA))
        context.check_hostname = False
        context.load_cert_chain(self.path(CERTIFICATE), self.path(KEY))
        parts = urlsplit(address)
        with (
            socket.create_connection((parts.hostname, parts.port), 5) as plain,
            context.wrap_socket(plain) as encrypted,
        ):
            return str(encrypted.getpeercert()["serialNumber"])
