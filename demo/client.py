"""A tiny REST client that gets its answer from a system whose processes may be killed under it.

- A request is repeated while nobody answers, the service is away (429, 502, 503, 504) or the first try is still
  running (409): for up to a minute, with growing pauses.
- It is the same request each time: the Idempotency-Key is made of who asks and what for, so it has one effect.
- A refusal is an exception with the problem's code, working and metadata.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from typing import Any

import httpx

Json = dict[str, Any]
Query = Mapping[str, str] | None

PATIENCE_SECONDS = 60.0
_AWAY = (429, 502, 503, 504)
_PAUSE_SECONDS_MIN, _PAUSE_SECONDS_MAX = 0.05, 2.0


class Refusal(Exception):
    """A problem document (RFC 9457)."""

    def __init__(self, status: int, problem: Json) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail", ""))
        self.metadata: Mapping[str, str] = problem.get("metadata", {})
        errors = "; ".join(f"{error.get('pointer')} {error.get('detail')}" for error in problem.get("errors", []))
        super().__init__(f"{status} {self.code}: {self.detail}{f' ({errors})' if errors else ''}")


class Unanswered(Exception):
    """Nobody answered within the client's patience."""


class Client:
    """What one signed-in person does over REST."""

    def __init__(self, base_url: str, who: str, token: str) -> None:
        self.who = who
        self.repeats = 0
        self._http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(15.0, connect=2.0),
            trust_env=False,
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **query: str) -> Json:
        return self._send("GET", path, query=query)

    def list_all(self, path: str, items: str, **query: str) -> list[Json]:
        """All pages."""
        found: list[Json] = []
        token = ""
        while True:
            page = self.get(path, **query, pageSize="200", **({"pageToken": token} if token else {}))
            found += page[items]
            token = page.get("nextPageToken", "")
            if not token:
                return found

    def post(self, path: str, what: str, body: Json | None = None) -> Json:
        """`what` names the deed: the same one again is the same request."""
        return self._send("POST", path, what=what, body=body or {})

    def put(self, path: str, what: str, body: Json) -> Json:
        return self._send("PUT", path, what=what, body=body)

    def refused(self, path: str, what: str, body: Json | None = None) -> Refusal:
        """The refusal a POST must meet. Raises: Unexpected if it is accepted."""
        try:
            answer = self.post(path, what, body)
        except Refusal as refusal:
            return refusal
        raise Unexpected(f"{self.who} was not refused: {what} answered {answer}")

    def _send(
        self,
        method: str,
        path: str,
        *,
        what: str = "",
        body: Json | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Json:
        headers = {"Idempotency-Key": _key(self.who, what)} if what else {}
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = _PAUSE_SECONDS_MIN
        while True:
            failure = ""
            try:
                response = self._http.request(method, path, params=query, json=body, headers=headers)
            except httpx.TransportError as error:
                failure = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    return dict(response.json()) if response.content else {}
                refusal = Refusal(response.status_code, _problem(response))
                if not _worth_another_try(refusal):
                    raise refusal
                failure = str(refusal)
            if time.monotonic() + pause > deadline:
                raise Unanswered(f"{method} {path} had no answer within {PATIENCE_SECONDS:g} s; the last: {failure}")
            self.repeats += 1
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)


class Unexpected(Exception):
    """The system answered otherwise than the story says."""


def expect(refusal: Refusal, status: int, code: str) -> None:
    """Raises: Unexpected if it was refused for another reason."""
    if (refusal.status, refusal.code) != (status, code):
        raise Unexpected(f"Expected {status} {code}, but it was {refusal}")


def _worth_another_try(refusal: Refusal) -> bool:
    return refusal.status in _AWAY or refusal.code == "REQUEST_IN_FLIGHT"


def _problem(response: httpx.Response) -> Json:
    try:
        return dict(response.json())
    except ValueError:
        return {"detail": response.text[:200]}


def _key(who: str, what: str) -> str:
    return re.sub(r"[^A-Za-z0-9.:_-]+", "-", f"demo:{who}:{what}")[:255]
