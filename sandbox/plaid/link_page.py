"""The page in which a person signs in: plain HTML in place of Plaid's own Link, and no script.

Plaid's gives the public token to the page that opened it; this one shows it, to be copied.
"""

from __future__ import annotations

import html
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse

from sandbox.plaid.answers import PlaidRefusal
from sandbox.plaid.holders import ACCOUNT_NUMBER, HOLDERS
from sandbox.plaid.links import Links

_BYTES_MAX = 4096


class LinkPage:
    def __init__(self, links: Links) -> None:
        self._links = links

    async def answer(self, request: Request) -> HTMLResponse:
        token = request.query_params.get("token", "")
        if request.method == "POST":
            body = (await request.body())[:_BYTES_MAX].decode("utf-8", "replace")
            form = {name: values[0].strip() for name, values in parse_qs(body).items()}
            try:
                public_token, accounts = self._links.sign_in(token, form.get("user", ""), form.get("number", ""))
            except PlaidRefusal as refusal:
                return _build_page(f"<p>{html.escape(refusal.error['error_message'] or '')}", status=refusal.status)
            rows = "".join(f"<li>{html.escape(name)}: <code>{account_id}</code>" for account_id, name in accounts)
            told = f"<p>The public token, good once and for half an hour: <code id=public-token>{public_token}</code>"
            return _build_page(f"{told}<p>The accounts, by their ids:<ul>{rows}</ul>")
        if not self._links.is_open(token):
            return _build_page("<p>This link token opens nothing: it is none, was used, or has expired.", status=400)
        choices = "".join(f"<option value={name}>{name}: {each.says}" for name, each in HOLDERS.items())
        return _build_page(
            "<form method=post><p>Who signs in?"
            f"<p><select name=user>{choices}</select>"
            f"<p><label>Account number <input name=number placeholder={ACCOUNT_NUMBER}></label>"
            "<p><button>Sign in</button></form>"
        )


def _build_page(body: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(f"<!doctype html><title>Sign in to your bank</title>{body}", status)
