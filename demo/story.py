"""The story of `make demo`, step by step: what the people of one organization do.

Each step does its part over REST, waits until every service has followed, and returns what happened, in words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from demo import cast, closing, money_in, money_out
from demo.cast import ANA, BEN, CLEO, DAN
from demo.harness.money import format_minor
from demo.run import DemoRun


@dataclass(frozen=True)
class Step:
    """One line of the story."""

    title: str
    play: Callable[[DemoRun], str]


STEPS = (
    Step("admin-1 writes the profiles of four investors and the sponsor", money_in.write_profiles),
    Step("admin-2, compliance officer, reviews them", money_in.clear_parties),
    Step("admin-1 opens the escrow account and the offering", money_in.open_offering),
    Step("everybody adds a bank account", money_in.add_bank_accounts),
    Step("admin-2 confirms that money may go to them", money_in.confirm_bank_accounts),
    Step("the investors commit", money_in.make_commitments),
    Step(f"{ANA.id} pays {format_minor(ANA.commitment_minor)} by ACH", money_in.pay_at_once),
    Step(f"{BEN.id} pays {format_minor(BEN.commitment_minor)} by ACH", money_in.pay_in_two_days),
    Step(f"{CLEO.id} pays {format_minor(CLEO.commitment_minor)} by ACH", money_in.pay_what_will_be_returned),
    Step(f"{DAN.id}, not accredited, tries {format_minor(DAN.commitment_minor)}", money_in.try_above_limit),
    Step(f"{DAN.id} withdraws the commitment", money_in.withdraw_commitment),
    Step(f"the bank returns {CLEO.id}'s debit", money_in.receive_return),
    Step(f"{BEN.id}'s debit settles", money_in.settle_after_two_days),
    Step(f"{CLEO.id}'s debit is presented again", money_in.present_again),
    Step(f"{CLEO.id}'s debit settles", money_in.settle_again),
    Step("five banking days later the return risk is over", money_in.end_return_risk),
    Step("admin-1 tries to close the offering", closing.try_to_close_early),
    Step("admin-1 closes the offering after its deadline", closing.close_offering),
    Step("the sponsor's proceeds are paid", closing.pay_proceeds),
    Step("a year passes", money_out.pass_a_year),
    Step(f"{format_minor(cast.DISTRIBUTION_MINOR)} of distributable cash arrives", money_out.receive_cash),
    Step("sponsor-1 drafts and calculates the distribution", money_out.calculate_distribution),
    Step("it is submitted and approved", money_out.approve_distribution),
    Step("admin-1 executes it", money_out.execute_distribution),
    Step(f"{BEN.id} names another bank account, admin-2 confirms it, and a day later it is paid", money_out.pay_again),
)
