"""Plaid: draws and pays by ACH as Plaid Transfer, answers questions, tells of events (docs/providers.md)."""

NAME = "plaid"
