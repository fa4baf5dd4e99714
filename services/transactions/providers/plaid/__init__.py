"""Plaid: draws and pays by ACH as Plaid Transfer, answers questions, tells of events, links bank accounts
(docs/providers.md)."""

NAME = "plaid"
# Without which none of it is done.
SETTING = "PLAID_SECRET"
