"""One running instance, shared by the stories of a worker: all processes, real PostgreSQL and NATS, loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local.instance import Instance


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with Instance(tmp_path_factory.mktemp("instance")) as running:
        yield running
