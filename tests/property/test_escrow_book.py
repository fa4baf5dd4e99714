"""The database against a model of a hundred lines: the same questions, the same answers, whatever is asked in a row."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb

from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from tests.support.escrow import Escrow, key, ledger_account, new_entry
from tests.support.escrow_payments import Payment
from tests.support.peers.orders import payout, release

ACCOUNTS = (
    "cash", "in_transit", "subscription:a", "subscription:b", "fees", "returns_receivable:a", "distributable"
)  # fmt: skip
DEBIT_NORMAL = ("cash", "in_transit", "returns_receivable:a")


@dataclass
class Model:
    """One escrow account, its entries one after another, in Python."""

    posted: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    held: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    holds: list[list] = field(default_factory=list)  # [account, amount, status, id]
    keys: dict[str, tuple] = field(default_factory=dict)
    entries: list[tuple] = field(default_factory=list)
    reversed: set[int] = field(default_factory=set)
    frozen: bool = False

    def post(self, name: str, legs: tuple, reverses: int | None = None) -> str:
        body = (legs, reverses)
        touched = {code for code, _ in (legs if reverses is None else self.entries[reverses])}
        if "in_transit" in touched and not touched <= {"cash", "in_transit"}:
            return "IN_TRANSIT_NOT_BY_HAND"
        if name in self.keys:
            first, verdict = self.keys[name]
            return verdict if first == body else "IDEMPOTENCY_KEY_REUSED"
        verdict = self.judge(legs, reverses)
        self.keys[name] = body, verdict
        return verdict

    def judge(self, legs: tuple, reverses: int | None) -> str:
        if self.frozen:
            return "ESCROW_ACCOUNT_FROZEN"
        if reverses is not None:
            if reverses in self.reversed:
                return "ALREADY_REVERSED"
            legs = tuple((code, -minor) for code, minor in self.entries[reverses])
        refusal = self.move(legs)
        if not refusal:
            self.entries.append(legs)
            if reverses is not None:
                self.reversed.add(reverses)
        return refusal

    def move(self, legs: tuple) -> str:
        if sum(minor for _, minor in legs):
            return "JOURNAL_ENTRY_UNBALANCED"
        after = dict(self.posted)
        for code, minor in legs:
            after[code] = after.get(code, 0) + (minor if code in DEBIT_NORMAL else -minor)
        if any(code not in ("cash", "in_transit") and after[code] < self.held[code] for code, _ in legs):
            return "INSUFFICIENT_AVAILABLE_BALANCE"
        if after["cash"] < min(0, self.posted["cash"]):  # only banks take what is not there
            return "INSUFFICIENT_AVAILABLE_BALANCE"
        if after.get("in_transit", 0) > max(0, self.posted["in_transit"]):
            return "INSUFFICIENT_AVAILABLE_BALANCE"  # what is not on its way out is not taken back
        self.posted = defaultdict(int, after)
        return ""

    def pay(self, party: str, minor: int) -> str:
        legs = ((f"subscription:{party}", minor), ("in_transit", -minor))
        before = self.posted
        refusal = "ESCROW_ACCOUNT_FROZEN" if self.frozen else self.move(legs)
        if not refusal:
            if self.posted[f"returns_receivable:{party}"] > 0:
                refusal = "PARTY_OWES"
            elif self.posted["cash"] + self.posted["in_transit"] < sum(self.held.values()):
                refusal = "INSUFFICIENT_AVAILABLE_BALANCE"
        if refusal:
            self.posted = before
        else:
            self.entries.append(legs)
        return refusal

    def close(self, parts: dict[str, int]) -> str:
        legs = [(f"subscription:{party}", minor) for party, minor in sorted(parts.items())]
        legs = (*legs, ("issuer_proceeds", -sum(parts.values())))
        before = self.posted
        refusal = "ESCROW_ACCOUNT_FROZEN" if self.frozen else self.move(legs)
        if not refusal and any(minor for code, minor in self.posted.items() if code.startswith("returns_receivable")):
            refusal, self.posted = "PARTY_OWES", before
        if not refusal:
            self.entries.append(legs)
        return refusal

    def bring(self, minor: int) -> None:
        self._follow((("in_transit", minor), ("distributable", -minor), ("cash", minor), ("in_transit", -minor)))

    def take_back(self, minor: int) -> None:
        """The bank has it, whatever is left."""
        there = min(minor, self.posted["distributable"])
        legs = (("distributable", there), ("returns_receivable:a", minor - there), ("cash", -minor))
        self._follow(tuple(leg for leg in legs if leg[1]))

    def _follow(self, legs: tuple) -> None:
        for code, minor in legs:
            self.posted[code] += minor if code in DEBIT_NORMAL else -minor
        self.entries.append(legs)

    def hold(self, code: str, minor: int) -> str:
        if self.posted[code] - self.held[code] < minor:
            return "INSUFFICIENT_AVAILABLE_BALANCE"
        self.held[code] += minor
        self.holds.append([code, minor, "PLACED", ""])
        return ""

    def end(self, number: int, captured: int | None, to: str) -> str:
        code, minor, status, _ = self.holds[number]
        if status != "PLACED":
            return "ILLEGAL_STATUS_CHANGE"
        if self.frozen:
            return "ESCROW_ACCOUNT_FROZEN"
        if captured is not None:
            if captured > minor:
                return "CAPTURE_EXCEEDS_HOLD"
            self.held[code] -= minor
            legs = ((code, captured), (to, -captured))
            refusal = self.move(legs)
            if refusal:
                self.held[code] += minor
                return refusal
            self.entries.append(legs)
        else:
            self.held[code] -= minor
        self.holds[number][2] = "ENDED"
        return ""


def moves_something(legs) -> bool:
    """What gives back to each ledger account what it takes from it is no entry."""
    moved = defaultdict(int)
    for code, minor in legs:
        moved[code] += minor
    return any(minor > 0 for minor in moved.values())


amounts = st.integers(1, 12)
codes = st.sampled_from(ACCOUNTS)
names = st.sampled_from(["k1", "k2", "k3", "k4", "k5", "new", "new", "new", "new"])
pairs = st.builds(lambda dr, cr, minor: ((dr, minor), (cr, -minor)), codes, codes, amounts)
triples = st.builds(lambda a, b, c, m, n: ((a, m + n), (b, -m), (c, -n)), codes, codes, codes, amounts, amounts)
# Mostly what happens in life, so that it mostly goes through: money comes in, and goes out again.
money_in = st.builds(lambda code, minor: (("cash", minor), (code, -minor)), st.sampled_from(ACCOUNTS[2:]), amounts)
money_out = st.builds(lambda code, minor: ((code, minor), ("cash", -minor)), st.sampled_from(ACCOUNTS[2:]), amounts)
taken_back = st.builds(lambda code, minor: (("returns_receivable:a", minor), (code, -minor)), codes, amounts)
unbalanced = st.builds(lambda a, b, m, n: ((a, m), (b, -n)), codes, codes, amounts, amounts)
legs = st.one_of(money_in, money_out, money_out, taken_back, pairs, triples, unbalanced).filter(moves_something)
entries = st.tuples(names, legs)
batches = st.tuples(st.just("batch"), st.lists(entries, min_size=1, max_size=12))
reversals = st.tuples(st.just("reverse"), st.lists(st.integers(0, 3), min_size=1, max_size=4))
payouts = st.lists(st.tuples(st.sampled_from(["a", "b", "b"]), st.integers(1, 6)), min_size=1, max_size=4)
holds = st.tuples(st.just("hold"), st.sampled_from(["subscription:a", "subscription:b", "fees"]), amounts)
endings = st.tuples(st.just("end"), st.integers(0, 3), st.none() | amounts, st.sampled_from(["fees", "subscription:b"]))
closings = st.tuples(st.just("close"), st.dictionaries(st.sampled_from(["a", "b"]), st.integers(1, 6), min_size=1))
pays = st.tuples(st.just("pay"), payouts)
brought = st.tuples(st.just("bring"), amounts)
taken = st.tuples(st.just("take_back"), st.integers(0, 3))
operations = st.one_of(
    batches, batches, reversals, pays, pays, brought, taken, closings, holds, holds, endings, endings,
    st.tuples(st.just("freeze")),
    st.tuples(st.just("unfreeze")), st.tuples(st.just("unfreeze")),
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(operations, min_size=5, max_size=15))
async def test_the_book_answers_as_if_everything_came_one_after_another(escrow, program):
    book = Run(escrow, await escrow.open())
    await book.batch([("new", (("cash", 30), ("subscription:a", -10), ("subscription:b", -10), ("fees", -10)))])
    for step in program:
        await getattr(book, step[0])(*step[1:])
        posted = await escrow.posted(book.account)
        assert posted == {code: minor for code, minor in book.model.posted.items() if minor}
        assert await escrow.held(book.account) == {code: minor for code, minor in book.model.held.items() if minor}
    assert (await escrow.trial_balance(book.account)).balanced
    assert book.booked == len(book.model.entries)


class Run:
    """Asks the book and the model the same."""

    def __init__(self, escrow: Escrow, account: str) -> None:
        self.escrow, self.account, self.model = escrow, account, Model()
        self.ids: list[str] = []  # of the model's entries
        self.deposits: list[tuple[Payment, int]] = []  # of cash that a bank may take back, with the number of its entry
        self._prefix = key()

    @property
    def booked(self) -> int:
        return len(self.ids)

    async def batch(self, asked) -> None:
        named = [(f"{self._prefix}-{name}" if name != "new" else key(), legs) for name, legs in asked]
        wanted = [(name, new_entry(*legs)) for name, legs in named]
        before = {name for name, _ in named if name in self.model.keys}
        self._compare(
            await self.escrow.post_together(self.account, wanted),
            [(name, self.model.post(name, legs)) for name, legs in named],
            before,
        )

    async def pay(self, asked) -> None:
        wanted = [payout(self.account, "REFUND", minor, party_id=party) for party, minor in asked]
        request = postings_pb.BatchBookPayoutsRequest(items=wanted)
        answer = await self.escrow.call("BatchBookPayouts", request, self.escrow.transactions)
        self._compare(answer.results, [(key(), self.model.pay(party, minor)) for party, minor in asked], set())

    async def close(self, parts) -> None:
        request = release(self.account, *parts.items())
        answer = await answer_or_reason(self.escrow.call("ReleaseSubscriptions", request, self.escrow.transactions))
        assert (answer if isinstance(answer, str) else "") == self.model.close(parts)
        if not isinstance(answer, str):
            self.ids.append(answer.journal_entry_id)

    async def reverse(self, numbers) -> None:
        wanted, verdicts = [], []
        known = len(self.ids)
        for number in (number % known for number in numbers):
            name = key()
            back = new_entry(type_=journal_pb.JournalEntry.REVERSAL, reverses_journal_entry_id=self.ids[number])
            wanted.append((name, back))
            verdicts.append((name, self.model.post(name, (), number)))
        self._compare(await self.escrow.post_together(self.account, wanted), verdicts, set())

    def _compare(self, results, verdicts, repeated) -> None:
        assert [result.failure.code for result in results] == [verdict for _, verdict in verdicts]
        for result, (name, verdict) in zip(results, verdicts, strict=True):
            if not verdict and name not in repeated:
                repeated.add(name)
                self.ids.append(result.journal_entry.journal_entry_id)

    async def bring(self, minor) -> None:
        if self.model.frozen:
            return  # it would be applied to nothing
        payment = Payment(self.account, "DEPOSIT", minor, party=ledger_account("returns_receivable:a").party_id)
        await payment.happens(self.escrow, "SETTLED", "COMPLETED")
        self.model.bring(minor)
        self.ids.append((await self.escrow.journal())[-1].journal_entry_id)
        self.deposits.append((payment, len(self.ids) - 1))

    async def take_back(self, number) -> None:
        if not self.deposits:
            return
        payment, brought = self.deposits.pop(number % len(self.deposits))
        await payment.happens(self.escrow, "RETURNED")
        self.model.take_back(payment.transaction.amount.amount_minor)
        self.model.reversed.add(brought)
        self.ids.append((await self.escrow.journal())[-1].journal_entry_id)

    async def hold(self, code, minor) -> None:
        verdict = self.model.hold(code, minor)
        answer = await answer_or_reason(self.escrow.hold(self.account, code, minor))
        assert (answer if isinstance(answer, str) else "") == verdict
        if isinstance(answer, holds_pb.Hold):
            self.model.holds[-1][3] = answer.hold_id

    async def end(self, number, captured, to) -> None:
        if not self.model.holds:
            return
        number %= len(self.model.holds)
        code, _, _, hold_id = self.model.holds[number]
        to = "suspense" if to == code else to
        verdict = self.model.end(number, captured, to)
        if captured is None:
            request = holds_pb.ReleaseHoldRequest(
                idempotency_key=key(), escrow_account_id=self.account, hold_id=hold_id
            )
            answer = await answer_or_reason(self.escrow.call("ReleaseHold", request))
        else:
            request = holds_pb.CaptureHoldRequest(
                idempotency_key=key(),
                escrow_account_id=self.account,
                hold_id=hold_id,
                to_ledger_account=ledger_account(to),
            )
            request.amount.currency_code, request.amount.amount_minor = "USD", captured
            answer = await answer_or_reason(self.escrow.call("CaptureHold", request))
        assert (answer if isinstance(answer, str) else "") == verdict
        if captured is not None and not verdict:
            self.ids.append((await self.escrow.journal())[-1].journal_entry_id)

    async def freeze(self) -> None:
        self.model.frozen = True
        # One person freezes the same account three times an hour, and no more.
        await self.escrow.freeze(self.account, by=Principal(new_id("adm"), "admin", self.escrow.org_id))

    async def unfreeze(self) -> None:
        self.model.frozen = False
        await self.escrow.unfreeze(self.account)


async def answer_or_reason(work):
    """The answer, or the reason of its refusal."""
    try:
        return await work
    except DomainError as refusal:
        return refusal.reason
