"""A stateful stand-in for the part of Plaid's API that moves money by ACH: as its documentation says, with its SDK.

Run it with `python -m sandbox.plaid`; `docs/providers.md` is its manual.
"""
