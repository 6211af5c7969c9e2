"""The credentials of a cluster that speaks TLS, as far as the user may read them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from distributed.security import Security

from .access import Access
from .errors import MissingRight, NoSuchObject, NotReady

#: Entries of the Secret, as cert-manager calls them: decision 14.
CA, CERTIFICATE, KEY = "ca.crt", "tls.crt", "tls.key"


async def read(access: Access, secret: str) -> Security | None:
    """The credentials in a Secret; ``None`` if the user may not read it, or it is not there.

    They stay in memory: distributed takes PEM as well as names of files.

    Raises:
        NotReady: it does not hold what it should.
    """
    try:
        found = await access.get("Secret", secret)
    except (MissingRight, NoSuchObject):
        return None
    return security(secret, found.get("data") or {})


def security(secret: str, data: Mapping[str, Any]) -> Security:
    """What a client needs, from the entries of a Secret.

    Raises:
        NotReady: an entry is missing, or is not base64 of text.
    """
    read: dict[str, str] = {}
    for entry in (CA, CERTIFICATE, KEY):
        try:
            read[entry] = base64.b64decode(data[entry], validate=True).decode()
        except (KeyError, binascii.Error, ValueError) as error:
            raise NotReady(f"Secret {secret} has no {entry} that could be read", "NoCertificate") from error
    return Security(
        require_encryption=True,
        tls_ca_file=read[CA],
        tls_client_cert=read[CERTIFICATE],
        tls_client_key=read[KEY],
    )
