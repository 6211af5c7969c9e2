"""Certificates that the operator makes: what they are made of, when they end, and who believes them (finding 9)."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from dask_controller.core.certificate_life import (
    BACKDATED_SECONDS,
    LIFE_SECONDS,
    RENEWED_AFTER_SECONDS,
    life_at,
    life_until,
)
from dask_controller.core.certificates import Authority

CREATED = 1_800_000_000.0
MASTER = bytes(range(32))
UID = "6f1c7a0e-0000-4000-8000-000000000001"
#: Made of these: the scalar of the key, the CA's certificate, and the number of the certificate.
KEY = "d2bee376b6cb2d6c110f848a971263acf25848fe2de9fbd4c4dd6fbef03f8479"
FINGERPRINT = "d2d6a9eb69a7805661f61532b5be6a9dc925cb8cd27c636d8642f0c55e28057a"
SERIAL = 69201541350190075066034846714690428230
HOSTS = ["c-scheduler", "c-scheduler.team", "c-scheduler.team.svc"]


def authority(master: bytes = MASTER, uid: str = UID) -> Authority:
    return Authority(master, uid, CREATED)


def certificate(files: dict[str, bytes], name: str = "tls.crt") -> x509.Certificate:
    return x509.load_pem_x509_certificate(files[name])


# --- vectors ----------------------------------------------------------------------------------------------------------


def test_vectors() -> None:
    """What another release makes must be the same: running clusters live by it."""
    files = authority().files(life_at(CREATED, CREATED), HOSTS)
    key = serialization.load_pem_private_key(files["tls.key"], None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert f"{key.private_numbers().private_value:064x}" == KEY
    assert authority().fingerprint == FINGERPRINT
    assert certificate(files).serial_number == SERIAL


def test_all_replicas_make_the_same() -> None:
    life = life_at(CREATED, CREATED)
    assert authority().files(life, HOSTS) == authority().files(life, HOSTS)


def test_no_two_clusters_keys_or_renewals_have_a_key_in_common() -> None:
    made = [
        authority(master, uid).files(life_at(now, CREATED), HOSTS)
        for master in (MASTER, b"x" * 32)
        for uid in (UID, UID[:-1] + "2", "")
        for now in (CREATED, CREATED + RENEWED_AFTER_SECONDS)
    ]
    assert len({files["tls.key"] for files in made}) == len(made)
    assert len({files["tls.crt"] for files in made}) == len(made)
    assert len({files["ca.crt"] for files in made}) == len(made) // 2, "a renewal has the same CA"


# --- what they say ----------------------------------------------------------------------------------------------------


def test_a_certificate_is_for_client_and_server_and_signs_nothing() -> None:
    files = authority().files(life_at(CREATED, CREATED), HOSTS)
    leaf, root = certificate(files), certificate(files, "ca.crt")
    leaf.verify_directly_issued_by(root)
    value = leaf.extensions.get_extension_for_class
    assert not value(x509.BasicConstraints).value.ca
    assert value(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName) == HOSTS
    assert {usage._name for usage in value(x509.ExtendedKeyUsage).value} == {"serverAuth", "clientAuth"}
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert leaf.not_valid_before_utc == datetime.fromtimestamp(CREATED - BACKDATED_SECONDS, UTC)
    assert root.not_valid_after_utc > leaf.not_valid_after_utc


@pytest.mark.parametrize("uid", ["", "x" * 500, "ä\n\x00", "CN=other,O=evil"])
def test_a_cluster_may_have_any_uid(uid: str) -> None:
    leaf = certificate(authority(uid=uid).files(life_at(CREATED, CREATED), ["h" * 250]))
    assert len(leaf.subject) == 1
    assert leaf.issuer == certificate(authority(uid=uid).files(life_at(0, 0), HOSTS), "ca.crt").subject


def believes(folder: Path, theirs: Path) -> bool:
    """Whether a client with one folder's files and a server with another's come to terms, strictly."""
    contexts = []
    for purpose, files in ((ssl.Purpose.SERVER_AUTH, folder), (ssl.Purpose.CLIENT_AUTH, theirs)):
        context = ssl.create_default_context(purpose, cafile=str(files / "ca.crt"))
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # from Python 3.13 on
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(files / "tls.crt", files / "tls.key")
        contexts.append(context)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = contexts[0].wrap_bio(back, there, server_hostname=HOSTS[2])
    server = contexts[1].wrap_bio(there, back, server_side=True)
    try:
        for _ in range(4):
            for end in (client, server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLError:
        return False
    return bool(client.getpeercert())


def test_who_believes_whom(tmp_path: Path) -> None:
    now = datetime.now(UTC).timestamp()
    for name, uid, age in (("one", "a", 0), ("renewed", "a", 0), ("other", "b", 0), ("expired", "a", LIFE_SECONDS + 1)):
        made = Authority(MASTER, uid, now - 2 * LIFE_SECONDS)
        life = life_until(now + LIFE_SECONDS - age - (name == "renewed"))
        (tmp_path / name).mkdir()
        for file, content in made.files(life, HOSTS).items():
            (tmp_path / name / file).write_bytes(content)
    assert believes(tmp_path / "one", tmp_path / "one")
    assert believes(tmp_path / "one", tmp_path / "renewed")
    assert believes(tmp_path / "renewed", tmp_path / "one")
    assert not believes(tmp_path / "one", tmp_path / "other")
    assert not believes(tmp_path / "one", tmp_path / "expired")
    assert not believes(tmp_path / "expired", tmp_path / "one")


# --- their lives ------------------------------------------------------------------------------------------------------

_TIMES = st.integers(0, 4_000_000_000)


@given(_TIMES, st.integers(0, 600_000_000))
def test_there_is_always_a_certificate_that_lasts(created: int, age: int) -> None:
    """Whoever loads it now can use it for a third of its life, and nobody is early."""
    now = float(created + age)
    life = life_at(now, created)
    assert life.not_before <= now - BACKDATED_SECONDS
    assert life.not_after - now >= LIFE_SECONDS - RENEWED_AFTER_SECONDS
    assert life == life_until(life.not_after)


@given(_TIMES, st.integers(0, 600_000_000))
def test_it_is_renewed_once_in_a_while(created: int, age: int) -> None:
    now = float(created + age)
    assert life_at(now + RENEWED_AFTER_SECONDS, created).not_after == life_at(now, created).not_after + (
        RENEWED_AFTER_SECONDS
    )
    begin = life_at(now, created).not_before + BACKDATED_SECONDS
    assert life_at(begin, created) == life_at(begin + RENEWED_AFTER_SECONDS - 1, created)


def test_a_clock_that_is_behind_makes_the_first() -> None:
    assert life_at(CREATED - 500, CREATED) == life_at(CREATED, CREATED)
