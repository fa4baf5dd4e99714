"""docs/providers.md names every provider with what it carries, and every test value of the stand-ins."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sandbox.bank import settings as bank_settings
from sandbox.plaid import behaviours as plaid
from sandbox.plaid import settings as plaid_settings
from sandbox.plaid.holders import ACCOUNT_NUMBER, HOLDERS
from sandbox.stripe import behaviours as stripe
from sandbox.stripe import settings as stripe_settings
from sandbox.stripe.cards import CARDS
from services.transactions.domain.rails import PROVIDERS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "providers.md").read_text(encoding="utf-8")


def spell(ways: str) -> set[str]:
    """The payment methods of a cell, as the contract spells them."""
    return set(ways.upper().replace(" ", "_").split(",_")) - {""}


def test_the_page_says_of_each_provider_what_it_brings_in_and_pays_out() -> None:
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|", PAGE.partition("\n## ")[0], re.MULTILINE)
    said = {name: tuple(spell(each) for each in map(str.strip, ways)) for name, *ways in rows}
    carriers = {name: (set(each.brings_in), set(each.pays_out)) for name, each in PROVIDERS.items()}
    assert said == {name: ways for name, ways in carriers.items() if any(ways)}


@pytest.mark.parametrize(("stand_in", "title"), [(stripe, "Stripe"), (plaid, "Plaid")])
def test_the_page_has_every_test_value_of_a_stand_in(stand_in: Any, title: str) -> None:
    section = PAGE.partition(f"\n## Without an account at {title}\n")[2].partition("\n## ")[0]
    assert {number for number in stand_in.BEHAVIOURS if f"`{number}`" not in section} == set()
    assert f"`{stand_in.ROUTING_NUMBER}`" in section
    assert f"`{stripe.DESCRIPTOR_CODE}`" in PAGE


def test_the_page_has_every_test_card() -> None:
    assert {card for card in CARDS if f"`{card}`" not in PAGE} == set()


def test_the_page_has_everybody_who_signs_in_to_a_bank_at_the_stand_in() -> None:
    section = PAGE.partition("\n### Link at the stand-in\n")[2]
    assert set(re.findall("`(user_[a-z_]+)`", section)) == set(HOLDERS)
    assert f"`{ACCOUNT_NUMBER}`" in section


@pytest.mark.parametrize(
    ("settings", "page", "title"),
    [
        (bank_settings, "sandbox.md", "Settings"),
        (stripe_settings, "providers.md", "Without an account at Stripe"),
        (plaid_settings, "providers.md", "Without an account at Plaid"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_each_stand_in_has_every_setting_of_its_own_in_a_table(settings: Any, page: str, title: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    cells = " ".join(row.split("|")[1] for row in section.splitlines() if row.startswith("| `SANDBOX_"))
    own = {name.upper() for name in settings.Settings.model_fields if name.startswith("sandbox_")}
    assert set(re.findall(r"`(\w+)`", cells)) == own
