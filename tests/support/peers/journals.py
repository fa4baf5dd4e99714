"""The journals of escrow in memory: what is listed and told of them, in which life of its database."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from uuid import uuid4

from google.protobuf.message import Message
from realco.escrow.v1 import journal_pb2 as pb
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.escrow.v1.events_pb2 import JournalEntriesPosted
from realco.type.v1.event_pb2 import EventMeta

from services.chassis.values.refusals import EscrowAccountNotFound
from services.escrow.domain.journal import Leg
from tests.support.ledger_accounts import name_of


class MemoryJournals:
    def __init__(self) -> None:
        self.incarnation = str(uuid4())
        self.accounts: dict[str, EscrowAccount] = {}
        self.book: Counter[tuple[str, str]] = Counter()  # (escrow account, ledger account) -> credit less debit
        self._entries: dict[str, list[tuple[pb.JournalEntry, list[Leg]]]] = defaultdict(list)

    def list_entries(self, escrow_account_id: str) -> list[pb.JournalEntry]:
        return [entry for entry, _ in self._entries[escrow_account_id]]

    def tell(self, escrow_account_id: str, *entries: pb.JournalEntry) -> JournalEntriesPosted:
        """The event that tells of entries of the account."""
        meta = EventMeta(incarnation=self.incarnation)
        return JournalEntriesPosted(meta=meta, escrow_account_id=escrow_account_id, journal_entries=entries)

    def restore(self, escrow_account_id: str, journal_sequence: int) -> None:
        """Escrow's database is put back to where the account had so many entries, and lives another life."""
        self.incarnation = str(uuid4())
        for entry in self.list_entries(escrow_account_id)[journal_sequence:]:
            for leg in entry.ledger_entries:
                minor = leg.amount.amount_minor
                is_credit = leg.direction == pb.LedgerEntry.CREDIT
                self.book[escrow_account_id, name_of(leg.ledger_account)] -= minor if is_credit else -minor
        del self._entries[escrow_account_id][journal_sequence:]

    async def ListJournalEntries(self, request: pb.ListJournalEntriesRequest, _: None) -> pb.ListJournalEntriesResponse:
        """From the first one on."""
        if request.escrow_account_id not in self.accounts:
            raise EscrowAccountNotFound
        entries, after = self.list_entries(request.escrow_account_id), int(request.page_token or 0)
        end = after + request.page_size
        token = str(end) if end < len(entries) else ""
        page = entries[after:end]
        return pb.ListJournalEntriesResponse(journal_entries=page, next_page_token=token, incarnation=self.incarnation)


class InOrder:
    """Escrow tells in the order of its journals: what a test has booked is told before what it delivers."""

    def __init__(self, journals: MemoryJournals) -> None:
        self._journals = journals
        self._told: Counter[tuple[str, str]] = Counter()

    def list_with_earlier(self, *events: Message) -> Iterator[Message]:
        for event in events:
            yield from self._list_earlier(event)
            yield event

    def lose(self, event: JournalEntriesPosted) -> None:
        """It is never delivered."""
        key = event.escrow_account_id, event.meta.incarnation
        self._told[key] = event.journal_entries[-1].journal_sequence

    def _list_earlier(self, event: Message) -> Iterator[Message]:
        if isinstance(event, JournalEntriesPosted) and event.meta.incarnation == self._journals.incarnation:
            account = event.escrow_account_id
            told = self._told[account, self._journals.incarnation]
            if earlier := self._journals.list_entries(account)[told : event.journal_entries[0].journal_sequence - 1]:
                yield self._journals.tell(account, *earlier)
            self._told[account, self._journals.incarnation] = max(told, event.journal_entries[-1].journal_sequence)
