"""A stateful stand-in for the part of Stripe's API that draws ACH debits: as its documentation says, with its SDK.

Run it with `python -m sandbox.stripe`; `docs/providers.md` is its manual.
"""
