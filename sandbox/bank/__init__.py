"""A stateful bank with an ACH desk: accepts payments, moves them by business time, and tells us by signed webhooks.

Run it with `python -m sandbox.bank`; `docs/sandbox.md` is its manual.
"""
