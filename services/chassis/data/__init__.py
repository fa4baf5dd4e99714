"""A service's PostgreSQL: transactions, requests and events handled once, the outbox, pages, migrations."""
