"""A stateful stand-in for the part of Plaid's API that moves money by ACH, and for Link: as its documentation says.

Run it with `python -m sandbox.plaid`; `docs/providers.md` is its manual.
"""
