"""The certificates of a cluster that has no cert-manager: a function of the operator's key, the cluster and the time.

Nothing is stored, and nothing is random: whoever has the operator's key makes the same CA, and the same certificate at
any time of its life. Importing this takes some MB, so only who needs it does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dask_resources.security import CA, CERTIFICATE, KEY

from .certificate_life import BACKDATED_SECONDS, Life
from .time import Time

#: How long a CA lasts, from when its cluster was created.
AUTHORITY_SECONDS = 20 * 365 * 86400.0
#: The order of the curve P-256.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_LONGEST_COMMON_NAME = 64


class Authority:
    """The CA of one cluster.

    Args:
        master: the operator's key.
        cluster_uid: of the cluster.
        created: when that was created.
    """

    def __init__(self, master: bytes, cluster_uid: str, created: Time) -> None:
        self._master, self._uid = master, cluster_uid
        self._key = _derived(master, f"dask-gitops ca\n{cluster_uid}")
        self._name = _name(f"dask-gitops {cluster_uid}")
        life = Life(created - BACKDATED_SECONDS, created + AUTHORITY_SECONDS)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self._certificate = self._signed(
            self._name, self._key, life, [(x509.BasicConstraints(True, 0), True), (usage, True)]
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its certificate, in hexadecimal digits."""
        return self._certificate.fingerprint(SHA256()).hex()

    def files(self, life: Life, hosts: Sequence[str]) -> dict[str, bytes]:
        """A key, and its certificate for client and server with that life, as the entries of a Secret."""
        key = _derived(self._master, f"dask-gitops certificate\n{self._uid}\n{life.not_after:.0f}")
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(False, None), True),
            (x509.KeyUsage(True, False, False, False, False, False, False, False, False), True),
            (both, False),
            (x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), False),
        ]
        certificate = self._signed(_name(hosts[0]), key, life, extensions)
        return {
            CA: self._certificate.public_bytes(Encoding.PEM),
            CERTIFICATE: certificate.public_bytes(Encoding.PEM),
            KEY: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        }

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        life: Life,
        extensions: Sequence[tuple[x509.ExtensionType, bool]],
    ) -> x509.Certificate:
        public = key.public_key()
        point = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        serial = int.from_bytes(hashlib.sha256(point + repr(life).encode()).digest()[:16], "big") >> 1 or 1
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(serial)
            .not_valid_before(_date(life.not_before))
            .not_valid_after(_date(life.not_after))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )
        for extension, critical in extensions:
            made = made.add_extension(extension, critical)
        return made.sign(self._key, SHA256(), ecdsa_deterministic=True)


def _derived(master: bytes, purpose: str) -> ec.EllipticCurvePrivateKey:
    """A private key; 48 bytes, so that none is likelier than another by more than one in 2**128."""
    found = HKDF(algorithm=SHA256(), length=48, salt=None, info=purpose.encode()).derive(master)
    return ec.derive_private_key(int.from_bytes(found, "big") % (_ORDER - 1) + 1, ec.SECP256R1())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:_LONGEST_COMMON_NAME])])


def _date(time: Time) -> datetime:
    return datetime.fromtimestamp(int(time), UTC)
