"""The books as tables for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from demo.books import Books
from demo.checks import Check
from demo.harness.ledger import name_of_account
from demo.harness.money import format_minor, minor_of
from demo.money_out import read_shares, read_tiers


def build_tables(books: Books) -> Iterator[Table]:
    yield build_trial_balance(books)
    yield build_escrow_ledger(books)
    yield build_waterfall_by_tier(books)
    yield build_waterfall_by_payee(books)
    yield build_payouts(books)
    yield build_events(books)


def build_trial_balance(books: Books) -> Table:
    trial = books.trial_balance
    table = Table(title="Trial balance", show_footer=True)
    table.add_column("ledger account", "total")
    table.add_column("debit", format_minor(minor_of(trial["totalDebit"])), justify="right")
    table.add_column("credit", format_minor(minor_of(trial["totalCredit"])), justify="right")
    turnover = _turnover(books)
    debits, credits_ = (sum(side) for side in zip(*turnover.values(), strict=True))
    table.add_column("debited in all", format_minor(debits), justify="right")
    table.add_column("credited in all", format_minor(credits_), justify="right")
    for line in trial["lines"]:
        kind = line["kind"]
        sides = (minor_of(line.get("debit")), minor_of(line.get("credit")), *turnover.get(kind, (0, 0)))
        table.add_row(kind.lower(), *map(format_minor, sides))
    table.caption = f"difference {format_minor(minor_of(trial['difference']))}"
    return table


def _turnover(books: Books) -> dict[str, tuple[int, int]]:
    """Posted debits and credits of each kind of ledger account: a book that ends empty has seen a lot."""
    turnover: dict[str, tuple[int, int]] = {}
    for leg in books.legs:
        if leg.layer == "POSTED":
            debit, credit = turnover.get(leg.kind, (0, 0))
            amount = leg.amount_minor
            is_debit = leg.direction == "DEBIT"
            turnover[leg.kind] = (debit + amount, credit) if is_debit else (debit, credit + amount)
    return turnover or {"": (0, 0)}


def build_escrow_ledger(books: Books) -> Table:
    table = Table(title="Escrow ledger, oldest first")
    for heading in ("booked", "fact", "ledger account"):
        table.add_column(heading)
    for heading in ("debit", "credit", "balance after"):
        table.add_column(heading, justify="right")
    table.add_column("layer")
    last = ""
    for entry in books.ledger_entries:
        new = entry["journalSequence"] != last
        if new and last:
            table.add_section()
        last = entry["journalSequence"]
        fact = books.journal_entries[last]
        amount = format_minor(minor_of(entry["amount"]))
        debit = entry["direction"] == "DEBIT"
        table.add_row(
            fact["createTime"][:10] if new else "",
            fact["type"].lower() if new else "",
            name_of_account(entry["ledgerAccount"]),
            amount if debit else "",
            "" if debit else amount,
            format_minor(minor_of(entry["balanceAfter"])),
            entry["layer"].lower(),
        )
    return table


def build_waterfall_by_tier(books: Books) -> Table:
    table = Table(title="Waterfall by tier", show_footer=True)
    found = read_tiers(books.distribution)
    reasons = {total["kind"]: total["explanation"]["statement"] for total in books.distribution["tierTotals"]}
    investors, sponsor = (sum(side) for side in zip(*found.values(), strict=True))
    table.add_column("tier", "total")
    table.add_column("to investors", format_minor(investors), justify="right")
    table.add_column("to sponsor", format_minor(sponsor), justify="right")
    table.add_column("why")
    for tier, sides in found.items():
        table.add_row(tier.lower(), *map(format_minor, sides), escape(reasons[tier]))
    return table


def build_waterfall_by_payee(books: Books) -> Table:
    table = Table(title="Waterfall by payee", show_footer=True)
    found = read_shares(books.allocations)
    table.add_column("payee", "total")
    totals = [sum(side) for side in zip(*found.values(), strict=True)]
    for heading, total in zip(("capital", "preferred return", "catch-up", "split"), totals, strict=True):
        table.add_column(heading, format_minor(total), justify="right")
    table.add_column("paid", format_minor(sum(totals)), justify="right")
    for payee, parts in found.items():
        table.add_row(payee, *map(format_minor, parts), format_minor(sum(parts)))
    return table


def build_payouts(books: Books) -> Table:
    table = Table(title="Payouts")
    for heading in ("made", "type", "payee"):
        table.add_column(heading)
    table.add_column("amount", justify="right")
    table.add_column("status")
    table.add_column("why")
    for one in books.transactions:
        if one["type"] in ("DISTRIBUTION", "ESCROW_WITHDRAWAL", "REFUND"):
            failure = one.get("failure")
            code = failure and failure["metadata"].get("networkCode", failure["code"])
            why = f"{code}: {failure['message']}" if failure else ""
            made = one["createTime"][:10]
            table.add_row(
                made,
                one["type"].lower(),
                one["partyId"],
                format_minor(minor_of(one["amount"])),
                one["status"],
                escape(why),
            )
    return table


def build_events(books: Books) -> Table:
    table = Table(title="Events seen by the NATS subscriber", show_footer=True)
    table.add_column(
        "subject", f"ledger entries told: {len(books.published_legs)}, booked: {len(books.ledger_entries)}"
    )
    table.add_column("events", str(sum(books.events.values())), justify="right")
    for name, count in sorted(books.events.items()):
        table.add_row(name, str(count))
    return table


def build_verdicts(checks: list[Check]) -> Table:
    table = Table(title="Does it tie out?")
    table.add_column("")
    table.add_column("check")
    for check in checks:
        faults = "".join(f"\n  {escape(fault)}" for fault in check.faults[:10])
        table.add_row("[green]✓[/green]" if check.passed else "[red]✗[/red]", f"{check.sentence}{faults}")
    return table
