"""What a service knows of its own migrations when it starts."""

from __future__ import annotations

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from deploy.topology import SERVICE_NAMES
from services.chassis.data.schema import head_revision, migrations_folder


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_the_last_file_is_the_head_that_alembic_finds(service):
    config = Config()
    config.set_main_option("script_location", str(migrations_folder(service)))
    assert head_revision(service) == ScriptDirectory.from_config(config).get_current_head()


def test_a_service_without_migrations_has_no_head():
    assert head_revision("nobody") is None
