"""Wires and checks: a person at the bank carries them out, and finance confirms what arrived."""

NAME = "manual"
