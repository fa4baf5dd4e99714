"""The story, step by step, as people of one organization would live it: the script of `make demo`.

Each step does its part through REST, waits until the system has followed, and returns what happened in words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from demo import cast, closing, money_in, money_out
from demo.cast import ANA, BEN, CLEO, DAN
from demo.money import spelled
from demo.stage import Stage


@dataclass(frozen=True)
class Step:
    """One line of the play."""

    title: str
    play: Callable[[Stage], str]


STEPS = (
    Step("admin-1 writes the profiles of four investors and the sponsor", money_in.profiles),
    Step("admin-2, compliance officer, reviews them", money_in.clearance),
    Step("admin-1 opens the escrow account and the offering", money_in.offering),
    Step("everybody adds a bank account", money_in.bank_accounts),
    Step("the investors commit", money_in.commitments),
    Step(f"{ANA.id} pays {spelled(ANA.commitment_minor)} by ACH", money_in.payment_at_once),
    Step(f"{BEN.id} pays {spelled(BEN.commitment_minor)} by ACH", money_in.payment_later),
    Step(f"{CLEO.id} pays {spelled(CLEO.commitment_minor)} by ACH", money_in.payment_that_will_bounce),
    Step(f"{DAN.id}, not accredited, tries {spelled(DAN.commitment_minor)}", money_in.payment_above_a_limit),
    Step(f"{DAN.id} withdraws the commitment", money_in.withdrawal),
    Step(f"the bank returns {CLEO.id}'s debit", money_in.bounced),
    Step(f"{BEN.id}'s debit settles", money_in.settled_later),
    Step(f"{CLEO.id}'s debit is presented again", money_in.presented_again),
    Step(f"{CLEO.id}'s debit settles", money_in.settled_at_last),
    Step("five banking days later the return risk is over", money_in.risk_over),
    Step("admin-1 tries to close the offering", closing.too_early),
    Step("admin-1 closes the offering after its deadline", closing.closing),
    Step("the sponsor's proceeds are paid", closing.proceeds),
    Step("a year passes", money_out.a_year_later),
    Step(f"{spelled(cast.DISTRIBUTION_MINOR)} of distributable cash arrives", money_out.cash_arrives),
    Step("sponsor-1 drafts and calculates the distribution", money_out.calculation),
    Step("it is submitted and approved", money_out.approval),
    Step("admin-1 executes it", money_out.execution),
    Step(f"{BEN.id} names another bank account, and is paid again", money_out.second_try),
)
