"""The waterfall terms between the contract, the row and the domain."""

from __future__ import annotations

from datetime import timedelta

from realco.distributions.v1 import offerings_pb2 as pb

from services.distributions.domain.terms import CAPITAL_FIRST, Terms, TermsInvalid, Tier
from services.distributions.store.rows import Row

# A date further away than this is a slip of the pen.
PLANS_END = timedelta(days=3653)

DEFAULT = Terms(preferred_rate_bps=800, catch_up_sponsor_share_bps=10_000, sponsor_carry_bps=3_000)


def read(message: pb.WaterfallTerms) -> Terms:
    """The agreed terms. Raises: TermsInvalid."""
    order = tuple(Tier(pb.WaterfallTerms.Tier.Name(tier)) for tier in message.tiers) or CAPITAL_FIRST
    try:
        return Terms(
            preferred_rate_bps=message.preferred_rate_bps,
            catch_up_sponsor_share_bps=message.catch_up_sponsor_share_bps,
            sponsor_carry_bps=message.sponsor_carry_bps,
            order=order,
        )
    except TermsInvalid as refusal:
        paths = {"order": "terms.tiers"}
        fields = {paths.get(field, f"terms.{field}"): why for field, why in refusal.fields.items()}
        raise TermsInvalid(refusal.message, fields=fields, field=next(iter(fields))) from None


def kept_in(row: Row) -> Terms:
    """The terms an offering's row keeps."""
    return Terms(
        preferred_rate_bps=row.preferred_rate_bps,
        catch_up_sponsor_share_bps=row.catch_up_sponsor_share_bps,
        sponsor_carry_bps=row.sponsor_carry_bps,
        order=tuple(Tier(tier) for tier in row.tiers),
    )


def columns(terms: Terms) -> dict[str, object]:
    """The row's columns that keep the terms."""
    return {
        "tiers": [tier.value for tier in terms.order],
        "preferred_rate_bps": int(terms.preferred_rate_bps),
        "catch_up_sponsor_share_bps": terms.catch_up_sponsor_share_bps,
        "sponsor_carry_bps": terms.sponsor_carry_bps,
    }
