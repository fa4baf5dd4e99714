"""What other internal services of the company may call beside those of this system: granted where it is deployed.

The file SERVICE_GRANTS_FILE is JSON, and one file may serve all processes: the name of a service -> the full names of
the RPCs it may call. The service proves its name by a key of its own, whose public part stands in SERVICE_JWKS under
the `kid` `service:<name>`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.chassis.calls.access import Rule
from services.chassis.process.settings import ConfigurationError

_SETTING = "SERVICE_GRANTS_FILE"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_RPC = re.compile(r"[A-Za-z][A-Za-z0-9_.]*/[A-Za-z][A-Za-z0-9]*")

# The path of an RPC (`/realco.escrow.v1.HoldsService/GetHold`) -> the services that may call it, too.
Grants = Mapping[str, frozenset[str]]


def read_grants(path: Path | None) -> Grants:
    """The grants of a file; none where there is no file.

    Raises:
        ConfigurationError: it cannot be read, or says something else than which service may call which RPC.
    """
    if path is None:
        return {}
    try:
        document: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{_SETTING}: {path.name}: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError(f"{_SETTING}: {path.name} is not JSON") from None
    granted: dict[str, set[str]] = defaultdict(set)
    for name, rpcs in _pairs_of(document):
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{_SETTING}: {name!r} is no name of a service")
        for rpc in rpcs:
            if not isinstance(rpc, str) or not _RPC.fullmatch(rpc):
                raise ConfigurationError(f"{_SETTING}: {name}: {rpc!r} is no full name of an RPC")
            granted[f"/{rpc}"].add(name)
    return {rpc: frozenset(names) for rpc, names in granted.items()}


def _pairs_of(document: Any) -> Iterable[tuple[str, list[Any]]]:
    if not isinstance(document, dict) or not all(isinstance(rpcs, list) for rpcs in document.values()):
        raise ConfigurationError(f"{_SETTING}: must be an object of lists: service -> full names of RPCs")
    return document.items()


def merge_grants(rules: Mapping[str, Rule], grants: Grants) -> dict[str, Rule]:
    """The rules with the services that were granted something. Grants of RPCs that are served elsewhere are theirs.

    Raises:
        ConfigurationError: a service of this process has no such RPC, or anybody may call it anyway.
    """
    here = {path.rpartition("/")[0] for path in rules}
    merged = dict(rules)
    for path, names in grants.items():
        if path.rpartition("/")[0] not in here:
            continue
        rule = rules.get(path)
        if rule is None or rule.public:
            raise ConfigurationError(f"{_SETTING}: {path.removeprefix('/')} is no RPC that can be granted")
        merged[path] = replace(rule, services=rule.services | names)
    return merged
