"""What other internal services of the company may call beside those of this system: granted where it is deployed.

The file SERVICE_GRANTS_FILE is JSON, and one file may serve all processes: the name of a service -> the full names of
the RPCs it may call. The service proves its name by a key of its own, whose public part stands in SERVICE_JWKS under
the `kid` `service:<name>`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter

from services.chassis.calls.access import Rule
from services.chassis.process.settings import ConfigurationError, read_json_file

_SETTING = "SERVICE_GRANTS_FILE"
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
_Rpc = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.]*/[A-Za-z][A-Za-z0-9]*$")]
_DOCUMENT = TypeAdapter(dict[_Name, list[_Rpc]])

# The path of an RPC (`/realco.escrow.v1.HoldsService/GetHold`) -> the services that may call it, too.
Grants = Mapping[str, frozenset[str]]


def read_grants(path: Path | None) -> Grants:
    """The grants of a file; none where there is no file.

    Raises:
        ConfigurationError: it cannot be read, or says something else than which service may call which RPC.
    """
    if path is None:
        return {}
    granted: dict[str, set[str]] = defaultdict(set)
    for name, rpcs in read_json_file(path, _SETTING, _DOCUMENT).items():
        for rpc in rpcs:
            granted[f"/{rpc}"].add(name)
    return {rpc: frozenset(names) for rpc, names in granted.items()}


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
