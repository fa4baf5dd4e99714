"""The notes that let a later start leave out migrations."""

from __future__ import annotations

from pathlib import Path

from deploy.local.migration_notes import MigrationNotes, fingerprint
from deploy.topology import SERVICE_NAMES


def test_a_database_is_current_once_its_migrations_ran_and_another_one_is_not(tmp_path: Path) -> None:
    notes = MigrationNotes(tmp_path)
    assert not notes.is_current("escrow")
    notes.remember("escrow")
    assert notes.is_current("escrow")
    assert not notes.is_current("compliance")


def test_a_new_cluster_has_had_no_migrations(tmp_path: Path) -> None:
    for cluster in ("old", "new"):
        (tmp_path / cluster).mkdir()
    MigrationNotes(tmp_path / "old").remember("escrow")
    assert not MigrationNotes(tmp_path / "new").is_current("escrow")


def test_a_changed_file_makes_the_migrations_run_again(tmp_path: Path) -> None:
    notes = MigrationNotes(tmp_path)
    notes.remember("escrow")
    (tmp_path / "realco-migrated-escrow").write_text(fingerprint("compliance"))  # as if other files were in its place
    assert not notes.is_current("escrow")


def test_every_service_has_a_fingerprint_of_its_own() -> None:
    assert len({fingerprint(service) for service in SERVICE_NAMES}) == len(SERVICE_NAMES)
