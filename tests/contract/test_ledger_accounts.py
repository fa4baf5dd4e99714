"""The chart of accounts is stated once: whatever else speaks of it says the same."""

from __future__ import annotations

from realco.escrow.v1 import journal_pb2 as pb

from gateway import contracts
from services.distributions.commands.raises.contributions import OF_INVESTORS
from services.escrow.domain.chart import CHART, ChartLine, Direction, LedgerAccountKind
from services.escrow.domain.investments import COUNTED_KINDS


def words_of(line: ChartLine) -> str:
    """How a comment in the contract says what the chart says."""
    traits = {
        "Debit" if line.normal_balance is Direction.DEBIT else "Credit": True,
        "of a party": line.of_party,
        "may be overdrawn": line.may_be_overdrawn,
        "not available": not line.counts_as_available,
    }
    return f"{', '.join(trait for trait, holds in traits.items() if holds)}: {line.holds}."


def test_the_contract_has_the_kinds_of_the_chart_and_says_of_each_what_the_chart_says():
    kinds = {value.name: value for value in pb.LedgerAccount.Kind.DESCRIPTOR.values if value.number}
    assert list(kinds) == [kind.value for kind in LedgerAccountKind] == [line.kind.value for line in CHART]
    comments = contracts.comments()
    said = {name: " ".join(comments[f"realco.escrow.v1.LedgerAccount.Kind.{name}"].split()) for name in kinds}
    assert said == {line.kind.value: words_of(line) for line in CHART}


def test_what_counts_for_an_investment_is_the_same_for_who_posts_it_and_for_who_counts_it():
    assert {kind.value for kind in COUNTED_KINDS} == {pb.LedgerAccount.Kind.Name(kind) for kind in OF_INVESTORS}
