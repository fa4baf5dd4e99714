"""Where the tests' PostgreSQL and NATS come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

from deploy.local.nats import Nats
from deploy.local.postgres import Postgres


class TestPostgres(Protocol):
    """A cluster in which tests make databases."""

    __test__ = False

    @property
    def admin_dsn(self) -> str: ...

    def create_database(self, name: str) -> SimpleNamespace: ...


@contextmanager
def postgres(folder: Path) -> Iterator[TestPostgres]:
    with Postgres(folder) as cluster:
        yield cluster


@contextmanager
def nats(folder: Path) -> Iterator[str]:
    with Nats(folder) as server:
        yield server.url("provisioner")
