"""The books as tables for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from demo.books import Books
from demo.checks import Check
from demo.money import minor, spelled
from demo.money_out import divisions, tiers


def all_tables(books: Books) -> Iterator[Table]:
    yield trial_balance(books)
    yield escrow_ledger(books)
    yield waterfall_by_tier(books)
    yield waterfall_by_payee(books)
    yield payouts(books)
    yield events(books)


def trial_balance(books: Books) -> Table:
    trial = books.trial_balance
    table = Table(title="Trial balance", show_footer=True)
    table.add_column("ledger account", "total")
    table.add_column("debit", spelled(minor(trial["totalDebit"])), justify="right")
    table.add_column("credit", spelled(minor(trial["totalCredit"])), justify="right")
    turnover = _turnover(books)
    debits, credits_ = (sum(side) for side in zip(*turnover.values(), strict=True))
    table.add_column("debited in all", spelled(debits), justify="right")
    table.add_column("credited in all", spelled(credits_), justify="right")
    for line in trial["lines"]:
        code = line["ledgerAccount"]
        sides = (minor(line.get("debit")), minor(line.get("credit")), *turnover.get(code, (0, 0)))
        table.add_row(code, *map(spelled, sides))
    table.caption = f"difference {spelled(minor(trial['difference']))}"
    return table


def _turnover(books: Books) -> dict[str, tuple[int, int]]:
    """Posted debits and credits of each kind of ledger account: a book that ends empty has seen a lot."""
    turnover: dict[str, tuple[int, int]] = {}
    for leg in books.legs:
        if leg.layer == "POSTED":
            kind = leg.ledger_account.partition(":")[0]
            debit, credit = turnover.get(kind, (0, 0))
            amount = leg.amount_minor
            is_debit = leg.direction == "DEBIT"
            turnover[kind] = (debit + amount, credit) if is_debit else (debit, credit + amount)
    return turnover or {"": (0, 0)}


def escrow_ledger(books: Books) -> Table:
    table = Table(title="Escrow ledger, oldest first")
    for heading in ("booked", "fact", "ledger account"):
        table.add_column(heading)
    for heading in ("debit", "credit", "balance after"):
        table.add_column(heading, justify="right")
    table.add_column("layer")
    last = ""
    for entry in books.ledger_entries:
        new = entry["journalEntryId"] != last
        if new and last:
            table.add_section()
        last = entry["journalEntryId"]
        amount = spelled(minor(entry["amount"]))
        debit = entry["direction"] == "DEBIT"
        table.add_row(
            entry["createTime"][:10] if new else "",
            entry["type"].lower() if new else "",
            entry["ledgerAccount"],
            amount if debit else "",
            "" if debit else amount,
            spelled(minor(entry["balanceAfter"])),
            entry["layer"].lower(),
        )
    return table


def waterfall_by_tier(books: Books) -> Table:
    table = Table(title="Waterfall by tier", show_footer=True)
    found = tiers(books.distribution)
    workings = {total["tier"]: total.get("working", "") for total in books.distribution["tierTotals"]}
    investors, sponsor = (sum(side) for side in zip(*found.values(), strict=True))
    table.add_column("tier", "total")
    table.add_column("to investors", spelled(investors), justify="right")
    table.add_column("to sponsor", spelled(sponsor), justify="right")
    table.add_column("working")
    for tier, sides in found.items():
        table.add_row(tier.lower(), *map(spelled, sides), escape(workings[tier]))
    return table


def waterfall_by_payee(books: Books) -> Table:
    table = Table(title="Waterfall by payee", show_footer=True)
    found = divisions(books.allocations)
    table.add_column("payee", "total")
    totals = [sum(side) for side in zip(*found.values(), strict=True)]
    for heading, total in zip(("capital", "preferred return", "catch-up", "split"), totals, strict=True):
        table.add_column(heading, spelled(total), justify="right")
    table.add_column("paid", spelled(sum(totals)), justify="right")
    for payee, parts in found.items():
        table.add_row(payee, *map(spelled, parts), spelled(sum(parts)))
    return table


def payouts(books: Books) -> Table:
    table = Table(title="Payouts")
    for heading in ("made", "type", "payee"):
        table.add_column(heading)
    table.add_column("amount", justify="right")
    table.add_column("status")
    table.add_column("why")
    for one in books.transactions:
        if one["type"] in ("DISTRIBUTION", "ESCROW_WITHDRAWAL", "REFUND"):
            failure = one.get("failure")
            why = f"{failure['code']}: {failure['message']}" if failure else ""
            made = one["createTime"][:10]
            table.add_row(
                made, one["type"].lower(), one["partyId"], spelled(minor(one["amount"])), one["status"], escape(why)
            )
    return table


def events(books: Books) -> Table:
    table = Table(title="Events seen by the NATS subscriber", show_footer=True)
    table.add_column("subject", f"ledger entries told: {len(books.told_legs)}, booked: {len(books.ledger_entries)}")
    table.add_column("events", str(sum(books.events.values())), justify="right")
    for name, count in sorted(books.events.items()):
        table.add_row(name, str(count))
    return table


def verdicts(checks: list[Check]) -> Table:
    table = Table(title="Does it tie out?")
    table.add_column("")
    table.add_column("check")
    for check in checks:
        faults = "".join(f"\n  {escape(fault)}" for fault in check.faults[:10])
        table.add_row("[green]✓[/green]" if check.passed else "[red]✗[/red]", f"{check.sentence}{faults}")
    return table
