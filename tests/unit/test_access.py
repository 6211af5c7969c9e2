"""Who is let in is asked of the API server, and not too often (security finding 15)."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import pytest
from tests.support.virtual_time import virtual_time

from dask_controller.kube import access
from dask_controller.kube.access import Access
from dask_controller.kube.api import ApiError, Manifest


class Server:
    """Knows a user by a token, and lets it read metrics; a review takes a second."""

    def __init__(self, **judgement: Any) -> None:
        self.judgement = {"allowed": True, **judgement}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.under_way = self.most = 0

    async def review(self, kind: str, spec: dict[str, Any]) -> Manifest:
        self.asked.append((kind, spec))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(1)
        self.under_way -= 1
        if kind == "SubjectAccessReview":
            return self.judgement
        if spec["token"] == "down":
            raise ApiError(500, "InternalError", "etcd is slow")
        if not spec["token"]:  # as the real one
            raise ApiError(400, "BadRequest", "token is required for TokenReview in authentication")
        user = {"username": "prometheus", "uid": "u", "groups": ["g"], "extra": {"x": ["y"]}}
        return {"authenticated": True, "user": user} if spec["token"].startswith("good") else {}


@virtual_time
async def test_the_user_of_the_token_is_asked_about() -> None:
    server = Server()
    assert await Access(server)("bearer  good ", "/metrics") == HTTPStatus.OK
    assert server.asked[0] == ("TokenReview", {"token": "good"})
    assert server.asked[1] == (
        "SubjectAccessReview",
        {
            "user": "prometheus",
            "uid": "u",
            "groups": ["g"],
            "extra": {"x": ["y"]},
            "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
        },
    )


@pytest.mark.parametrize(
    "authorization", ["", "Basic Z29vZDo=", "good", "Bearer", "Bearer unknown", "Bearer ", "bearer \t"]
)
@virtual_time
async def test_whom_nobody_knows_is_not_let_in(authorization: str) -> None:
    assert await Access(Server())(authorization, "/metrics") == HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize("judgement", [{"allowed": False}, {"allowed": True, "denied": True}])
@virtual_time
async def test_who_may_not_is_not_let_in(judgement: dict[str, bool]) -> None:
    assert await Access(Server(**judgement))("Bearer good", "/metrics") == HTTPStatus.FORBIDDEN


@virtual_time
async def test_a_yes_is_believed_for_a_minute_and_a_no_is_not() -> None:
    server = Server()
    ask = Access(server)
    for _ in range(3):
        assert await ask("Bearer good", "/metrics") == HTTPStatus.OK
    assert len(server.asked) == 2
    await ask("Bearer good", "/elsewhere")
    assert len(server.asked) == 4
    server.judgement = {"allowed": False}
    await asyncio.sleep(access.BELIEVED_SECONDS)
    for _ in range(2):
        assert await ask("Bearer good", "/metrics") == HTTPStatus.FORBIDDEN
    assert len(server.asked) == 8
    assert await ask("Bearer down", "/metrics") == HTTPStatus.SERVICE_UNAVAILABLE


@virtual_time
async def test_strangers_take_neither_the_api_servers_time_nor_the_place_of_who_is_known() -> None:
    server = Server()
    ask = Access(server)
    await ask("Bearer good", "/metrics")
    strangers = [asyncio.create_task(ask(f"Bearer {number}", "/metrics")) for number in range(100)]
    await asyncio.sleep(1.5)
    begin = asyncio.get_running_loop().time()
    assert await ask("Bearer good", "/metrics") == HTTPStatus.OK
    assert asyncio.get_running_loop().time() == begin
    await asyncio.gather(*strangers)
    assert server.most == access.REVIEWS


@virtual_time
async def test_no_more_are_remembered_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "BELIEVED", 2)
    server = Server()
    ask = Access(server)
    for token in ("good 1", "good 2", "good 3", "good 3", "good 2", "good 1"):
        await ask(f"Bearer {token}", "/metrics")
    tokens = [spec["token"] for kind, spec in server.asked if kind == "TokenReview"]
    assert tokens == ["good 1", "good 2", "good 3", "good 1"]
