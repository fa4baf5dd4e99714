"""The databases and roles of the services, made inside a running PostgreSQL by its superuser.

- A service's owner role owns its database and runs its migrations; its app and worker roles may connect there and
  nothing else, until a migration grants them more. None is a superuser, passes row level security, makes temporary
  tables or large objects, ends a session of another process of its, enters another database, or opens all connections
  that there are.
- PostgreSQL is given a verifier of each password, never the password: statements end up in its statistics and logs.

`python -m deploy.databases` makes those of all services (docs/operations.md, Install and start).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from deploy.secrets import Secrets
from deploy.topology import SERVICES, Database
from services.chassis.data.roles import (
    APP_CONNECTION_LIMIT,
    NOBODY_CALLS,
    PROCEDURES,
    ROLE_SETTINGS,
    WORKER_CALLS,
    WORKER_CONNECTION_LIMIT,
)

_ITERATIONS = 4096  # PostgreSQL's own; our passwords are random, and more would slow down each sign-in


def scram_verifier(password: str, salt: bytes | None = None) -> str:
    """What PostgreSQL keeps of a password of ASCII letters and signs. Source: RFC 5803."""
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    as_text = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{as_text[0]}${as_text[1]}:{as_text[2]}"


def passwords_of(known: Database, secrets: Secrets) -> dict[str, str]:
    """Of each of the database's roles, made where there is none yet."""
    return {role: secrets.get(f"postgres_{role}") for role in known.roles}


async def create_database(admin_dsn: str, known: Database, passwords: Mapping[str, str]) -> None:
    """Makes the database and its roles, if they are not there yet, and gives the roles their passwords.

    Args:
        admin_dsn: The superuser's, of the database `postgres`.
        passwords: Of each role.
    """
    limits = {known.app_role: APP_CONNECTION_LIMIT, known.worker_role: WORKER_CONNECTION_LIMIT}
    served = (known.app_role, known.worker_role)
    server = await asyncpg.connect(admin_dsn)
    try:
        for role, password in passwords.items():
            limit = await server.fetchval("SELECT rolconnlimit FROM pg_roles WHERE rolname = $1", role)
            verb = "CREATE" if limit is None else "ALTER"
            if limit is None or limit < 0:  # else somebody gave it another, which stays
                limit = limits.get(role, -1)
            await server.execute(
                f"{verb} ROLE {role} LOGIN PASSWORD '{scram_verifier(password)}' CONNECTION LIMIT {limit} "
                "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
            )
        await _give_settings(server, *served)
        if await server.fetchval("SELECT true FROM pg_database WHERE datname = $1", known.name):
            return
        await server.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        await server.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
        draft = f"{known.name}_new"  # renamed when its grants are right, so that what exists is whole
        await server.execute(f"DROP DATABASE IF EXISTS {draft}")
        await server.execute(f"CREATE DATABASE {draft} OWNER {known.owner_role}")
        await server.execute(f"REVOKE ALL ON DATABASE {draft} FROM PUBLIC")
        await server.execute(f"GRANT CONNECT ON DATABASE {draft} TO {', '.join(served)}")
        inside = await asyncpg.connect(admin_dsn, database=draft)
        try:
            await inside.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            await inside.execute(f"GRANT USAGE ON SCHEMA public TO {', '.join(served)}")
            await inside.execute(f"REVOKE EXECUTE ON FUNCTION {', '.join(NOBODY_CALLS)} FROM PUBLIC")
            await inside.execute(f"GRANT EXECUTE ON FUNCTION {', '.join(WORKER_CALLS)} TO {known.worker_role}")
            await inside.execute(f"REVOKE USAGE ON LANGUAGE {PROCEDURES} FROM PUBLIC")
            await inside.execute(f"GRANT USAGE ON LANGUAGE {PROCEDURES} TO {known.owner_role}")
        finally:
            await inside.close()
        await server.execute(f"ALTER DATABASE {draft} RENAME TO {known.name}")
    finally:
        await server.close()


async def shut_out(admin_dsn: str, role: str) -> None:
    """Nobody signs in as the role any more, until `create_database` gives it a password again."""
    server = await asyncpg.connect(admin_dsn)
    try:
        await server.execute(f"ALTER ROLE {role} NOLOGIN PASSWORD NULL")
    finally:
        await server.close()


async def _give_settings(server: asyncpg.Connection, *roles: str) -> None:
    for role in roles:
        for name, value in ROLE_SETTINGS.items():
            await server.execute(f"ALTER ROLE {role} SET {name} = '{value}'")


async def _main(admin_dsn: str, secrets: Secrets) -> None:
    for service in SERVICES:
        await create_database(admin_dsn, service.database, passwords_of(service.database, secrets))
        print(f"{service.database.name}: {', '.join(service.database.roles)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m deploy.databases", description="Makes the databases and roles of all services that are missing."
    )
    parser.add_argument("--secrets", type=Path, required=True, help="folder of the passwords; made if missing")
    given = parser.parse_args()
    if not (admin_dsn := os.environ.get("ADMIN_DATABASE_URL")):
        sys.exit("missing: ADMIN_DATABASE_URL, the superuser's, of the database postgres")
    try:
        asyncio.run(_main(admin_dsn, Secrets(given.secrets)))
    except (asyncpg.PostgresError, OSError) as error:
        sys.exit(f"ADMIN_DATABASE_URL: {error}")
