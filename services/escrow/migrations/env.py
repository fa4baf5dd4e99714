"""Alembic's entry: see services/chassis/migrations.py."""

from services.chassis.migrations import run_env
from services.escrow.tables import metadata

run_env(metadata)
