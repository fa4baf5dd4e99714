"""The sandbox bank (docs/sandbox.md): takes orders, answers questions, sends webhooks."""

NAME = "sandbox"
