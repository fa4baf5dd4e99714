"""A REST client for one signed-in user, with patience for a system whose processes may be killed under it.

- A request is repeated while nobody answers, the service is away (429, 502, 503, 504) or the first try is still
  running (409): for as long as the client has patience, with growing pauses.
- It is the same request each time: it carries the same Idempotency-Key, so it has one effect.
- A refusal is an exception with the problem's code and metadata.
"""

from __future__ import annotations

import random
import re
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from demo.harness import HarnessError

Json = dict[str, Any]

API = "/api/v1"
PATIENCE_SECONDS = 60.0
_AWAY = (429, 502, 503, 504)
_PAUSE_SECONDS_MIN, _PAUSE_SECONDS_MAX = 0.05, 2.0
# Each client would read anew whom it may trust.
_TLS = httpx.create_ssl_context()


class Refusal(HarnessError):
    """A problem document (RFC 9457)."""

    def __init__(self, request: str, status: int, problem: Json) -> None:
        self.status = status
        self.problem = problem
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail", ""))
        self.metadata: dict[str, str] = problem.get("metadata", {})
        errors = "; ".join(f"{error.get('pointer')} {error.get('detail')}" for error in problem.get("errors", []))
        super().__init__(f"{request}: {status} {self.code}: {self.detail}{f' ({errors})' if errors else ''}")


class Unanswered(HarnessError):
    """Nobody answered within the client's patience."""


class UnexpectedAnswer(HarnessError):
    """The answer is not the one that whoever asked knows to be right."""


class RestClient:
    """What one signed-in user does. Paths are below `base_url`."""

    def __init__(
        self,
        base_url: str,
        user: str,
        token: str = "",
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        check_answer: Callable[[httpx.Response], None] | None = None,
    ) -> None:
        """Patience of 0 repeats nothing. `check_answer` is given each answer, and raises if it is not acceptable."""
        self.user = user
        self.token = token
        self.repeats = 0  # requests that had to be sent again
        self._patience_seconds = patience_seconds
        self.http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(20.0, connect=2.0),
            trust_env=False,
            verify=_TLS,
            event_hooks={"response": [check_answer] if check_answer else []},
        )

    def close(self) -> None:
        self.http.close()

    # --- what must succeed ------------------------------------------------------------------------------------------

    def get(self, path: str, **query: str) -> Json:
        """Raises: Refusal, Unanswered; so do all of these."""
        return self._send("GET", path, params=query)

    def iterate_pages(self, path: str, items: str, **query: str) -> Iterator[list[Json]]:
        """The items of each page of a list, to the last."""
        for page in self.iterate_answers(path, **query):
            yield page[items]

    def iterate_answers(self, path: str, **query: str) -> Iterator[Json]:
        """Each page of a list as it is answered, to the last."""
        token = ""
        while True:
            page = self.get(path, **query, **({"pageToken": token} if token else {}))
            yield page
            token = page.get("nextPageToken", "")
            if not token:
                return

    def list_all(self, path: str, items: str, **query: str) -> list[Json]:
        """The items of all pages."""
        return [item for page in self.iterate_pages(path, items, **query, pageSize="200") for item in page]

    def post(self, path: str, body: Json | None = None, *, deed: str = "", etag: str = "") -> Json:
        """`deed` names what is done: the same deed of the same user is the same request. None: a new request.

        `etag` is that of the resource the request was decided on.
        """
        return self._send("POST", path, json=body or {}, headers=self._headers(deed, etag))

    def decide(self, path: str, verb: str, body: Json | None = None, *, deed: str = "") -> Json:
        """Reads the resource at `path`, and posts to its `verb` what was decided on that version of it."""
        return self.post(f"{path}/{verb}", body, deed=deed, etag=self.get(path)["etag"])

    def put(self, path: str, body: Json, *, deed: str = "", etag: str = "") -> Json:
        return self._send("PUT", path, json=body, headers=self._headers(deed, etag))

    def delete(self, path: str, *, deed: str = "", etag: str = "") -> Json:
        """The answer; empty where there is nothing to say."""
        return self._send("DELETE", path, headers=self._headers(deed, etag))

    # --- what must be refused, or is looked at as it is ---------------------------------------------------------------

    def expect_refusal(
        self,
        status: int,
        code: str,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        deed: str = "",
        etag: str = "",
    ) -> Refusal:
        """The refusal that the request must meet. Raises: UnexpectedAnswer if it meets another, or none."""
        options: Json = {} if method == "GET" else {"headers": self._headers(deed, etag)}
        if method not in {"GET", "DELETE"}:  # those take no body
            options["json"] = body or {}
        try:
            answer = self._send(method, path, expected_status=status, **options)
        except Refusal as refusal:
            if (refusal.status, refusal.code) == (status, code):
                return refusal
            raise UnexpectedAnswer(f"Expected {status} {code}, but it was {refusal}") from refusal
        raise UnexpectedAnswer(f"Expected {status} {code}, but {self.user}'s {method} {path} was accepted: {answer}")

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One try, and the answer whatever it is; `options` are httpx's."""
        return self.http.request(method, path, **options)

    def _send(self, method: str, path: str, *, expected_status: int = 0, **options: Any) -> Json:
        deadline = time.monotonic() + self._patience_seconds
        pause = _PAUSE_SECONDS_MIN
        while True:
            try:
                response = self.request(method, path, **options)
            except httpx.TransportError as error:
                last: Exception = error
            else:
                if response.is_success:
                    return dict(response.json()) if response.content else {}
                last = refusal = Refusal(f"{method} {path}", response.status_code, _problem_of(response))
                if refusal.status == expected_status or not _may_pass(refusal):
                    raise refusal
            if time.monotonic() + pause > deadline:
                waited = f"within {self._patience_seconds:g} s"
                raise Unanswered(f"{method} {path} had no answer {waited}; the last: {_brief(last)}") from last
            self.repeats += 1
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)

    def _headers(self, deed: str, etag: str = "") -> dict[str, str]:
        headers = {"Idempotency-Key": _key_of(self.user, deed) if deed else new_key()}
        return headers | {"If-Match": f'"{etag}"'} if etag else headers


def new_key() -> str:
    return f"key-{secrets.token_hex(8)}"


def _key_of(user: str, deed: str) -> str:
    return re.sub(r"[^A-Za-z0-9.:_-]+", "-", f"{user}:{deed}")[:255]


def _may_pass(refusal: Refusal) -> bool:
    """Whether the same request may be answered later."""
    return refusal.status in _AWAY or refusal.code == "REQUEST_IN_FLIGHT"


def _problem_of(response: httpx.Response) -> Json:
    try:
        return dict(response.json())
    except ValueError:
        return {"detail": response.text[:200]}


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
