"""docs/providers.md names every provider with what it carries, and every test value of the stand-in for Stripe."""

from __future__ import annotations

import re
from pathlib import Path

from sandbox.stripe.behaviours import BEHAVIOURS, DESCRIPTOR_CODE, ROUTING_NUMBER
from services.transactions.domain.rails import PROVIDERS

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")


def test_the_page_says_of_each_provider_what_it_brings_in_and_pays_out() -> None:
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|", PAGE.partition("\n## ")[0], re.MULTILINE)
    said = {name: tuple(set(each.upper().split(", ")) - {""} for each in map(str.strip, ways)) for name, *ways in rows}
    carriers = {name: (set(each.brings_in), set(each.pays_out)) for name, each in PROVIDERS.items()}
    assert said == {name: ways for name, ways in carriers.items() if any(ways)}


def test_the_page_has_every_test_value_of_the_stand_in() -> None:
    assert {number for number in BEHAVIOURS if f"`{number}`" not in PAGE} == set()
    assert f"`{ROUTING_NUMBER}`" in PAGE
    assert f"`{DESCRIPTOR_CODE}`" in PAGE
