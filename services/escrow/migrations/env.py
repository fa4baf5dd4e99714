"""Alembic's entry: see services/chassis/data/migrations.py."""

from services.chassis.data.migrations import run_env
from services.escrow.tables import metadata

run_env(metadata)
