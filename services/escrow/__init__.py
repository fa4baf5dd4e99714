"""The book: escrow accounts, their double-entry ledger, and holds."""
