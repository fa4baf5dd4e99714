"""Bank accounts by Link: a person signs in to the bank, which tells the number, and whether the name is the party's.

Only who acts for the party does that. The bank is asked before the transaction, and once: whatever comes of it, our
access to it has ended by then.
"""

from __future__ import annotations

from datetime import datetime

from realco.compliance.v1.parties_pb2 import Party
from realco.transactions.v1 import bank_accounts_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_enum, to_timestamp
from services.chassis.data.approval_policy import decide_terms_of
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import PermissionDenied, Unavailable
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import PartyNotFound
from services.transactions.actions import answer_bank_account
from services.transactions.commands.added_accounts import add_bank_account, build_bank_account
from services.transactions.commands.approvals import BANK_ACCOUNT_APPROVALS, ask_for_confirmation
from services.transactions.dependencies import Dependencies
from services.transactions.domain.linked_accounts import (
    LinkedAccount,
    Owner,
    choose_holder_type,
    confirm_by_bank,
    is_confirmed_by_bank,
)
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.store import bank_accounts as store
from services.transactions.vault import SealedFor, Vault


async def create_link_token(dependencies: Dependencies, request: pb.CreateLinkTokenRequest) -> pb.LinkToken:
    """Raises: InvalidField, PartyNotFound, PermissionDenied, BankLinksNotSetUp, Unavailable."""
    party_id = await _require_own_party(dependencies, request.party_id)
    try:
        token = await dependencies.providers.links.create_link_token(party_id)
    except OutcomeUnknown:
        raise Unavailable("Nobody can sign in to a bank now.") from None
    return pb.LinkToken(link_token=token.text, expire_time=to_timestamp(token.expires_at))


async def read_linked_account(
    dependencies: Dependencies, request: pb.LinkBankAccountRequest
) -> tuple[Owner, LinkedAccount]:
    """The party as compliance knows it, and the account as its bank does. Not to be called inside a transaction.

    Raises:
        InvalidField, PartyNotFound, PermissionDenied, BankLinksNotSetUp, PublicTokenNotUsable, LinkedAccountNotUsable
        Unavailable: nobody knows; the public token may be used up.
    """
    owner = await _read_owner(dependencies, await _require_own_party(dependencies, request.party_id))
    try:
        linked = await dependencies.providers.links.read_account(
            request.public_token, request.provider_account_id, owner.legal_name
        )
    except OutcomeUnknown:
        message = "The bank does not answer. Nothing was added; where this is refused next, sign in at the bank anew."
        raise Unavailable(message) from None
    await _check_still_acts(dependencies, owner.party_id)
    return owner, linked


async def link_bank_account(
    tx: Tx, request: pb.LinkBankAccountRequest, facts: tuple[Owner, LinkedAccount], vault: Vault, now: datetime
) -> pb.BankAccount:
    """Adds the account. Either its bank's word is enough, or it waits for a second person as one that was typed.

    Args:
        facts: What `read_linked_account` said before the transaction.

    Raises: BankAccountBlocked, TooManyBankAccounts.
    """
    owner, linked = facts
    principal = current_principal()
    where = linked.routing_number, linked.account_type
    described = build_bank_account(
        vault,
        SealedFor(principal.org_id, new_id("ba"), owner.party_id, owner.legal_name, *where),
        linked.account_number,
        holder_type=choose_holder_type(linked, owner),
        default_for_payouts=request.default_for_payouts,
        name_match=linked.name_match,
        has_token_number=linked.is_token,
        external_id=request.external_id or None,
        metadata=dict(request.metadata),
        created_by=principal.person,
        makers=(principal.person,),
        created_at=now,
        updated_at=now,
    )
    account, same, others = await add_bank_account(tx, described, field="public_token")
    terms = decide_terms_of(tx, BANK_ACCOUNT_APPROVALS.kind)
    if is_confirmed_by_bank(account, linked, owner, same=same, others=others, terms=terms):
        account = await store.save_bank_account(tx, account, confirm_by_bank(account, now), now)
    else:
        await ask_for_confirmation(tx, account, now)
    return answer_bank_account(account)


async def _require_own_party(dependencies: Dependencies, named: str) -> str:
    """The party that the caller names or means, and acts for just now. Nobody else signs in to its bank.

    Raises: InvalidField, PartyNotFound, PermissionDenied, Unavailable.
    """
    principal = current_principal()
    party_id = principal.choose_party(named)
    if principal.confined:  # an investor reaches its own parties alone
        return party_id
    standing = await dependencies.peers.compliance.list_parties_of_person(principal.person)
    if party_id not in standing.parties:
        raise PermissionDenied("Only who acts for the party signs in to its bank.")
    return party_id


async def _check_still_acts(dependencies: Dependencies, party_id: str) -> None:
    """A bank may take seconds to answer: meanwhile the caller's sessions may have ended, or acting for the party.

    Raises: PermissionDenied, Unavailable.
    """
    principal = current_principal()
    standing = await dependencies.peers.compliance.list_parties_of_person(principal.person)
    if party_id not in standing.parties or standing.has_ended(principal.session.signed_in_at):
        raise PermissionDenied("You do not act for the party any more, or your sessions were ended: nothing was added.")


async def _read_owner(dependencies: Dependencies, party_id: str) -> Owner:
    """Raises: PartyNotFound, Unavailable."""
    found = await dependencies.peers.compliance.get_party_name(party_id)
    if found is None:
        raise PartyNotFound("party_id")
    return Owner(party_id, found.legal_name, from_enum(Party.Kind, found.kind), found.cleared)
