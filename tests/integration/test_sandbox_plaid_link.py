"""Link at the stand-in for Plaid, over HTTP: what is good once, and for how long; and its page."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.plaid.holders import HOLDERS
from tests.integration.plaid_desk import CLIENT_ID, SECRET, ask, read, refusal, sign_in
from tests.support.stand_ins import find_free_port, run_stand_in

pytest_plugins = ("tests.integration.plaid_desk",)

WANTED = {"client_name": "x", "language": "en", "country_codes": ["US"], "products": ["auth"]}


def create_link_token(url: str) -> str:
    token: str = ask(url, "/link/token/create", **WANTED, user={"client_user_id": "pty_1"})["link_token"]
    return token


def exchange(url: str, public_token: str) -> str:
    token: str = ask(url, "/item/public_token/exchange", public_token=public_token)["access_token"]
    return token


def grow_old(books: Path, object_id: str) -> None:
    with sqlite3.connect(books, timeout=5) as connection:
        old = "UPDATE objects SET body = json_set(body, '$._made_ms', 0) WHERE id = ?"
        assert connection.execute(old, (object_id,)).rowcount == 1


def enter(url: str, link_token: str, **form: str) -> httpx.Response:
    """What the person does on the page."""
    return httpx.post(f"{url}/link", params={"token": link_token}, data=form, trust_env=False)


def test_a_person_signs_in_on_a_page_without_scripts_and_is_given_a_public_token(plaid_url) -> None:
    token = create_link_token(plaid_url)
    shown = httpx.get(f"{plaid_url}/link", params={"token": token}, trust_env=False)
    assert all(f"<option value={name}>" in shown.text for name in HOLDERS)
    assert "<script" not in shown.text
    answer = enter(plaid_url, token, user="user_several", number="")
    [public_token] = re.findall(r"<code id=public-token>(public-sandbox-[0-9a-f-]+)</code>", answer.text)
    auth = ask(plaid_url, "/auth/get", access_token=exchange(plaid_url, public_token))
    assert [each["account_id"] in answer.text for each in auth["accounts"]] == [True, True]


@pytest.mark.parametrize("token", ["", "link-sandbox-none", "<script>"])
def test_a_page_without_a_link_token_opens_for_nobody(plaid_url, token) -> None:
    answers = [
        httpx.get(f"{plaid_url}/link", params={"token": token}, trust_env=False),
        enter(plaid_url, token, user="user_good"),
    ]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert not any("<script" in answer.text or "public-sandbox" in answer.text for answer in answers)


def test_a_link_token_opens_the_page_once_and_until_it_expires(plaid_url, plaid_books) -> None:
    used, old = create_link_token(plaid_url), create_link_token(plaid_url)
    assert [enter(plaid_url, used, user="user_good").status_code for _ in range(2)] == [200, 400]
    grow_old(plaid_books, old)
    assert enter(plaid_url, old, user="user_good").status_code == 400


@pytest.mark.parametrize("form", [{"user": "nobody"}, {"user": "user_good", "number": "12 34"}])
def test_who_signs_in_wrongly_may_try_again(plaid_url, form) -> None:
    token = create_link_token(plaid_url)
    assert enter(plaid_url, token, **form).status_code == 400
    assert enter(plaid_url, token, user="user_good").status_code == 200


def test_a_public_token_is_exchanged_once_and_within_half_an_hour(plaid_url, plaid_books) -> None:
    used, old = sign_in(plaid_url), sign_in(plaid_url)
    exchange(plaid_url, used)
    grow_old(plaid_books, old)
    for token in (used, old, "public-sandbox-none"):
        refused = refusal(plaid_url, "/item/public_token/exchange", public_token=token)
        assert refused == (400, "INVALID_PUBLIC_TOKEN")


def test_whoever_was_given_access_asks_until_it_is_removed(plaid_url) -> None:
    access = exchange(plaid_url, sign_in(plaid_url))
    ask(plaid_url, "/auth/get", access_token=access)
    ask(plaid_url, "/item/remove", access_token=access)
    for path in ("/auth/get", "/identity/match", "/item/remove"):
        assert refusal(plaid_url, path, access_token=access) == (400, "INVALID_ACCESS_TOKEN")


@pytest.mark.parametrize(("user", "score"), [("user_good", 100), ("user_other_name", 12), ("user_no_name", None)])
def test_a_bank_says_how_well_a_name_is_its_holders(plaid_url, user, score) -> None:
    access = exchange(plaid_url, sign_in(plaid_url, user))
    answer = ask(plaid_url, "/identity/match", access_token=access, user={"legal_name": "Ada Investor"})
    assert [each["legal_name"]["score"] for each in answer["accounts"]] == [score]


def test_a_bank_that_issues_tokens_gives_another_number_at_each_sign_in(plaid_url) -> None:
    told = [
        ask(plaid_url, "/auth/get", access_token=exchange(plaid_url, sign_in(plaid_url, "user_tokenized")))
        for _ in range(2)
    ]
    numbers = [each["numbers"]["ach"][0] for each in told]
    assert numbers[0]["account"] != numbers[1]["account"]
    assert [each["is_tokenized_account_number"] for each in numbers] == [True, True]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/link/token/create", {"client_name": "x"}),
        ("/sandbox/public_token/create", {"institution_id": "ins_1"}),
        (
            "/sandbox/public_token/create",
            {"institution_id": "i", "initial_products": ["auth"], "options": {"override_password": "a b"}},
        ),
    ],
)
def test_what_is_not_whole_is_refused(plaid_url, path: str, asked: dict[str, Any]) -> None:
    assert refusal(plaid_url, path, **asked) == (400, "INVALID_FIELD")


def test_what_was_used_stays_used_over_a_restart(tmp_path) -> None:
    port = find_free_port()
    environment = {
        "SANDBOX_PLAID_PORT": str(port),
        "SANDBOX_PLAID_DATABASE": str(tmp_path / "books.sqlite"),
        "SANDBOX_PLAID_CLIENT_ID": CLIENT_ID,
        "SANDBOX_PLAID_SECRET": SECRET,
    }
    with run_stand_in("sandbox.plaid", port, environment) as url:
        used, kept, access = sign_in(url), sign_in(url), exchange(url, sign_in(url))
        exchange(url, used)
        ask(url, "/item/remove", access_token=access)
    with run_stand_in("sandbox.plaid", port, environment) as url:
        assert refusal(url, "/item/public_token/exchange", public_token=used) == (400, "INVALID_PUBLIC_TOKEN")
        assert refusal(url, "/auth/get", access_token=access) == (400, "INVALID_ACCESS_TOKEN")
        ask(url, "/auth/get", access_token=exchange(url, kept))
        assert read(tmp_path / "books.sqlite", access)["_is_removed"] is True
