"""Signatures: the same at all three ends, and what is refused, whoever has made it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from distributed.utils import import_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.dask_scheduler import MODULE

from dask_controller.schedulers import signing as operators
from dask_resources.security import control_key
from dask_resources.worker_hook import source

import_file(str(MODULE))
module = sys.modules["dask_gitops_signing"]

patiently = settings(suppress_health_check=list(HealthCheck))  # a busy machine is slow
NOW = 1_800_000_000.0
KEY = bytes(range(32))
NONCE = "00112233445566778899aabbccddeeff"
PATH = "/dask-gitops/v2/ask"
BODY = b'{"questions": [{"retire": ["w"]}]}'
#: Written down, so that no two ends change together: releases of both meet.
SIGNATURE = "343d66a7b76c76ffa3deaf73d9d1b1cd67e00427828873c031de6bff555c4343"
PROOF = "c971b4e2aae433dd145ecf8132ffe6a4ca8de46882e200356dfd6314090107f8"


@pytest.fixture
def file(tmp_path) -> Path:
    (tmp_path / "control.key").write_bytes(KEY)
    return tmp_path / "control.key"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def headers(key: bytes = KEY, *, path=PATH, body=BODY, made_at=f"{NOW:.3f}", nonce=NONCE) -> dict[str, str]:
    signature = module.signature(key, "POST", path, made_at, nonce, body)
    return {module.TIME: made_at, module.NONCE: nonce, module.SIGNATURE: signature}


def admitted(guard, given: dict[str, str], *, method="POST", path=PATH, body=BODY):
    proven = guard.proven(method, path, given, body)
    guard.admit(proven)
    return proven


def test_the_key_of_a_cluster_is_its_own():
    """From the operator's and its uid; written down, as the scheduler of one release meets the operator of another."""
    assert control_key(KEY, "uid-1").hex() == "95c032da16b11ad4225a781a90926032aaa5b6d84f438ae750c115f8775f9841"
    assert control_key(KEY, "uid-1") != control_key(KEY, "uid-2")


def test_all_ends_sign_alike(monkeypatch):
    assert module.signature(KEY, "POST", PATH, f"{NOW:.3f}", NONCE, BODY) == SIGNATURE
    assert module.Proven(KEY, NONCE, NOW).proof(200, b'{"answers": []}') == PROOF

    monkeypatch.setattr(operators.secrets, "token_hex", lambda _: NONCE)
    signed = operators.Key(KEY).signed(PATH, BODY, NOW)
    assert signed.headers[operators.SIGNATURE] == SIGNATURE
    assert signed.is_proven(200, b'{"answers": []}', PROOF)

    hook: dict = {}
    exec("import hashlib, hmac\n" + source()[source().index("def signed(") : source().index("def answer(")], hook)
    assert hook["signed"](KEY, "dask-gitops request", "POST", PATH, f"{NOW:.3f}", NONCE, BODY) == SIGNATURE
    assert hook["signed"](KEY, "dask-gitops answer", NONCE, "200", b'{"answers": []}') == PROOF


def test_an_operators_key_is_in_no_text():
    key = operators.Key(b"secret" * 6)
    assert "secret" not in f"{key} {key!r} {key.signed(PATH, BODY, NOW)!r}"


def test_who_has_the_key_is_let_in_once(file):
    guard = module.Guard(str(file), Clock())
    admitted(guard, headers())
    with pytest.raises(module.Refused, match="made before"):
        admitted(guard, headers())
    admitted(guard, headers(nonce="f" * 32))


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (headers(b"x" * 32), {}),
        (headers(), {"body": BODY + b" "}),
        (headers(), {"method": "PUT"}),
        (headers(), {"path": PATH + "?x"}),
        (headers() | {module.TIME: f"{NOW + 1:.3f}"}, {}),
        (headers() | {module.NONCE: "f" * 32}, {}),
        (headers() | {module.SIGNATURE: ""}, {}),
        (headers() | {module.SIGNATURE: "é" * 64}, {}),
        (headers() | {module.SIGNATURE: headers()[module.SIGNATURE].upper()}, {}),
        (headers() | {module.SIGNATURE: headers()[module.SIGNATURE] + "\n"}, {}),
        (headers(made_at="-1"), {}),
        (headers(made_at="nan"), {}),
        (headers(made_at="1e9"), {}),
        (headers(made_at=f"{NOW:.0f}\n"), {}),
        (headers(made_at="٣" * 10), {}),
        (headers(nonce="0" * 31), {}),
        (headers(nonce="0" * 10_000), {}),
        ({}, {}),
    ],
)
def test_what_is_not_signed_as_it_stands_is_refused(file, given, asked):
    """Security finding 9; without proof, so that nobody learns more than that."""
    with pytest.raises(module.Refused):
        module.Guard(str(file), Clock()).proven(
            asked.get("method", "POST"), asked.get("path", PATH), given, asked.get("body", BODY)
        )


@patiently
@given(
    st.dictionaries(st.sampled_from([module.TIME, module.NONCE, module.SIGNATURE]), st.text(max_size=80)),
    st.binary(max_size=50),
)
def test_nobody_guesses_a_signature(tmp_path_factory, given, body):
    file = tmp_path_factory.getbasetemp() / "guessed.key"
    file.write_bytes(KEY)
    with pytest.raises(module.Refused):
        module.Guard(str(file), Clock()).proven("POST", PATH, given, body)


@pytest.mark.parametrize(
    ("seconds", "word"), [(-61, "clocks"), (61, "clocks"), (-59, "before the scheduler"), (59, "")]
)
def test_clocks_may_differ_by_a_minute_and_that_is_told(file, seconds, word):
    clock = Clock()
    guard = module.Guard(str(file), clock)
    given = headers(made_at=f"{NOW + seconds:.3f}")
    if not word:
        assert admitted(guard, given).nonce == NONCE
        return
    with pytest.raises(module.Refused, match=word):
        guard.admit(guard.proven("POST", PATH, given, BODY))
    if word == "clocks":
        with pytest.raises(module.Refused, match=r"2027-01-15 08:00:00 UTC"):
            guard.admit(guard.proven("POST", PATH, given, BODY))


def test_a_request_of_before_a_restart_is_of_no_use_after_it(file):
    """What was used then is not remembered."""
    clock = Clock()
    admitted(module.Guard(str(file), clock), headers())
    clock.now += 5
    with pytest.raises(module.Refused, match="before the scheduler started"):
        admitted(module.Guard(str(file), clock), headers())


@patiently
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(-70, 70), st.integers(0, 8)), max_size=60))
def test_no_request_is_let_in_twice_however_time_goes_by(tmp_path_factory, steps):
    file = tmp_path_factory.getbasetemp() / "twice.key"
    file.write_bytes(KEY)
    clock = Clock()
    guard, used = module.Guard(str(file), clock), set()
    for pause, off, number in steps:
        clock.now += pause
        made = headers(made_at=f"{NOW + 60 * (number % 3) + off:.3f}", nonce=f"{number:032x}")
        for again in (made, *map(dict, used)):
            try:
                admitted(guard, again)
            except module.Refused:
                continue
            assert tuple(again.items()) not in used
            used.add(tuple(again.items()))
            assert abs(float(again[module.TIME]) - clock.now) <= 60


def test_memory_is_bounded_and_becomes_free_again(file, monkeypatch):
    monkeypatch.setattr(module, "MOST_NONCES", 100)
    clock = Clock()
    guard = module.Guard(str(file), clock)
    for number in range(100):
        admitted(guard, headers(nonce=f"{number:032x}"))
    with pytest.raises(module.Busy, match="too many"):
        admitted(guard, headers(nonce="f" * 32))
    clock.now += 62
    admitted(guard, headers(nonce="f" * 32, made_at=f"{clock.now:.3f}"))
    assert sum(map(len, guard._seen.values())) == 1


@pytest.mark.parametrize("content", [None, b"", b"short", KEY + b"\n", b"x" * 10_000])
def test_without_a_key_that_is_one_nobody_is_let_in(file, content):
    """Its Secret is not there yet, or somebody else's: that opens nothing."""
    guard = module.Guard(str(file), Clock())
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    for key in (KEY, b"", content or b""):
        with pytest.raises(module.Busy, match="key"):
            guard.proven("POST", PATH, headers(key), BODY)
    file.write_bytes(KEY)
    admitted(guard, headers())


def test_a_key_that_is_renewed_counts_at_once(file):
    """The kubelet replaces the files of Pods that run."""
    guard = module.Guard(str(file), Clock())
    admitted(guard, headers())
    other = file.with_name("next")
    other.write_bytes(b"x" * 32)
    other.rename(file)
    with pytest.raises(module.Refused):
        admitted(guard, headers(nonce="1" * 32))
    admitted(guard, headers(b"x" * 32, nonce="1" * 32))
