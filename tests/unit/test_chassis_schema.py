"""What a service knows of its own migrations when it starts, and on which schemas it serves."""

from __future__ import annotations

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from deploy.topology import SERVICE_NAMES
from services.chassis.data.schema import FoundSchema, KnownSchema, known_schema, migrations_folder

CODE = KnownSchema("escrow", ("0001", "0002", "0003"), "0002")


def scripts_of(service: str) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder(service)))
    return ScriptDirectory.from_config(config)


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_the_files_are_in_the_order_in_which_alembic_runs_them(service: str) -> None:
    scripts = scripts_of(service)
    walked = [script.revision for script in scripts.walk_revisions()][::-1]
    assert (list(known_schema(service).revisions), known_schema(service).head) == (walked, scripts.get_current_head())


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_a_migration_is_compatible_with_its_own_code_or_earlier_code_and_never_with_earlier_than_the_one_before(
    service: str,
) -> None:
    revisions = known_schema(service).revisions
    migrations = [scripts_of(service).get_revision(revision).module for revision in revisions]
    oldest = [revisions.index(migration.compatible_with) for migration in migrations]
    assert all(index <= place for place, index in enumerate(oldest))
    assert oldest == sorted(oldest)


def test_a_service_without_migrations_works_on_any_schema() -> None:
    assert known_schema("nobody") == KnownSchema("nobody", ())
    assert known_schema("nobody").fault_of(FoundSchema()) == ""


@pytest.mark.parametrize(
    ("revision", "compatible_with", "fault"),
    [
        ("0003", "0002", ""),
        ("0003", "", ""),  # our own needs no note
        ("", "", "no schema yet; run: python -m services.chassis.data.migrate escrow"),
        ("0002", "0001", "at 0002, behind this code, which wants 0003; run: "),
        ("0001", "0001", "at 0001, behind this code, which wants 0003; run: "),
        ("0004", "0003", ""),  # this release was taken back, and the newer one's migrations stay
        ("0007", "0001", ""),
        ("0004", "0004", "at 0004, ahead of this code, which is of 0003: it needs code of 0004 or later"),
        ("0007", "0005", "at 0007, ahead of this code, which is of 0003: it needs code of 0005 or later"),
        ("0004", "", "at 0004, ahead of this code, which is of 0003: it needs newer code"),
    ],
)
def test_a_service_serves_on_its_own_schema_and_on_newer_ones_that_are_compatible(
    revision: str, compatible_with: str, fault: str
) -> None:
    told = CODE.fault_of(FoundSchema(revision, compatible_with))
    assert fault in told
    assert bool(told) is bool(fault)
