"""What a database itself refuses, whoever writes: edits of history, wrong moves.

A migration says which of its tables keep what; `guard_rows` is what every table has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from services.chassis.data.leases import PAUSE_MAX_MS
from services.chassis.data.rights import Rights
from services.chassis.data.seals import is_covered
from services.chassis.values.clock import CLOCK_ERROR_SECONDS_MAX

# `alembic.op`: a module with the methods of alembic.operations.Operations, which no type says.
Op = Any

# Every function of ours finds tables by this, so that a temporary table of the caller's stands in for none.
SEARCH_PATH = "search_path = public, pg_temp"

_REFUSE = f"""
CREATE OR REPLACE FUNCTION realco_refuse() RETURNS trigger LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
BEGIN
  RAISE EXCEPTION '% keeps its rows as they are: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = '42501';
END $$
"""
_REFUSE_MOVE = f"""
CREATE OR REPLACE FUNCTION realco_refuse_move() RETURNS trigger LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
DECLARE
  before text := CASE TG_OP WHEN 'INSERT' THEN '' ELSE OLD.status END;
BEGIN
  IF before || '>' || NEW.status = ANY (TG_ARGV) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION '% does not move from % to %', TG_TABLE_NAME, before, NEW.status USING ERRCODE = '23514';
END $$
"""
_REFUSE_EARLY = f"""
CREATE OR REPLACE FUNCTION realco_refuse_early() RETURNS trigger LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
BEGIN
  IF (to_jsonb(OLD) ->> TG_ARGV[0])::timestamptz < now() - make_interval(days => TG_ARGV[1]::integer) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION '% is kept % days: % refused', TG_TABLE_NAME, TG_ARGV[1], TG_OP USING ERRCODE = '42501';
END $$
"""
# Whatever takes the time from who calls it asks this first: a time that is written once may never be taken back. Its
# code says that nothing is wrong with the work: it may go through when the clocks agree again.
_CHECK_TIME = f"""
CREATE OR REPLACE FUNCTION realco_check_time(p_now timestamptz) RETURNS void LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
DECLARE
  error_max CONSTANT interval := '{CLOCK_ERROR_SECONDS_MAX} seconds';
BEGIN
  IF p_now BETWEEN clock_timestamp() - error_max AND clock_timestamp() + error_max THEN
    RETURN;
  END IF;
  IF isfinite(p_now) AND (SELECT allowed FROM test_clock) THEN
    RETURN;
  END IF;
  RAISE EXCEPTION 'the time of the caller is not that of the database' USING ERRCODE = '58000';
END $$
"""  # noqa: S608  # of these constants

# The state that a row had before has a seal, too, and a lower version. What a seal covers changes with the version, or
# only goes on: so nobody alters a row for the moment in which it is looked at, and puts it back.
_REFUSE_OLD_STATE = """
CREATE OR REPLACE TRIGGER refuse_old_state BEFORE UPDATE OF version, {columns} ON {table} FOR EACH ROW
WHEN (NEW.version < OLD.version OR NEW.version = OLD.version AND ({changes})) EXECUTE FUNCTION realco_refuse()
"""
_GOES_BACK = "NEW.{column} IS DISTINCT FROM OLD.{column} AND (NEW.{column} > OLD.{column}) IS NOT TRUE"

# Work that is put off for longer than any pause of ours is work that somebody hides.
_REFUSE_FAR = f"""
CREATE OR REPLACE TRIGGER refuse_far BEFORE INSERT OR UPDATE OF due_at ON {{table}} FOR EACH ROW
WHEN (NEW.due_at > clock_timestamp() + interval '{PAUSE_MAX_MS} milliseconds') EXECUTE FUNCTION realco_refuse()
"""

# A lease is taken one at a time. A count at the end of its type would stop the statement that takes many rows at once.
_REFUSE_LEAP = """
CREATE OR REPLACE TRIGGER refuse_leap BEFORE UPDATE OF epoch, tries ON {table} FOR EACH ROW
WHEN (NEW.epoch NOT BETWEEN OLD.epoch AND OLD.epoch + 1 OR NEW.tries NOT BETWEEN 0 AND OLD.tries + 1)
EXECUTE FUNCTION realco_refuse()
"""
_REFUSE_BEGUN = """
CREATE OR REPLACE TRIGGER refuse_begun BEFORE INSERT ON {table} FOR EACH ROW
WHEN (NEW.epoch <> 0 OR NEW.tries <> 0) EXECUTE FUNCTION realco_refuse()
"""


def create_functions(op: Op) -> None:
    """Makes, or brings up to date, the functions that refuse what none of a service's tables may take."""
    for statement in (_REFUSE, _REFUSE_MOVE, _REFUSE_EARLY, _CHECK_TIME):
        op.execute(statement)


def keep(op: Op, name: str, column: str, days: int) -> None:
    """Refuses to forget a row before so many days have passed since the time in that column, whoever asks."""
    op.execute(
        f"CREATE TRIGGER refuse_early BEFORE DELETE ON {quote(op, name)}"
        f" FOR EACH ROW EXECUTE FUNCTION realco_refuse_early('{column}', '{days}')"
    )


def append_only(op: Op, *names: str) -> None:
    """Refuses UPDATE, DELETE and TRUNCATE on the tables, whoever asks (reliability rule c3)."""
    for name in names:
        table = quote(op, name)
        op.execute(
            f"CREATE TRIGGER refuse_edits BEFORE UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION realco_refuse()"
        )
        op.execute(
            f"CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION realco_refuse()"
        )


def guard_moves(op: Op, moves: Mapping[str, str]) -> None:
    """Refuses a status that no listed move leads to, whoever writes it (reliability rule c7).

    Args:
        moves: By table, `FROM>TO` and, for the statuses a row may begin with, `>TO`. The list stands in the trigger
            itself, where no table can stand in for it.
    """
    for name, listed in moves.items():
        table, edges = quote(op, name), ", ".join(f"'{edge}'" for edge in sorted(listed.split()))
        function = f"FOR EACH ROW {{}}EXECUTE FUNCTION realco_refuse_move({edges})"
        changed = "WHEN (OLD.status IS DISTINCT FROM NEW.status) "
        op.execute(f"CREATE TRIGGER refuse_beginning BEFORE INSERT ON {table} {function.format('')}")
        op.execute(f"CREATE TRIGGER refuse_move BEFORE UPDATE OF status ON {table} {function.format(changed)}")


# Each move of a row has its line already, in the same transaction, and goes on from the one before it: so a line that
# is right is of a move of just now, which whoever writes it makes, too, and for which they have no seal.
_REFUSE_MADE_UP_LINE = """
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SET {search_path} AS $$
DECLARE
  last text := (
    SELECT to_status FROM {table} WHERE org_id = NEW.org_id AND {key} = NEW.{key} ORDER BY version DESC LIMIT 1
  );
BEGIN
  IF NEW.from_status IS DISTINCT FROM NEW.to_status
     AND NEW.from_status IS NOT DISTINCT FROM coalesce(last, NEW.from_status)
     AND ({rows}) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION '% says what its rows say', TG_TABLE_NAME USING ERRCODE = '42501';
END $$
"""
_IS_ITS_ROW = """EXISTS (
    SELECT FROM {table} WHERE org_id = NEW.org_id AND {key} = NEW.{subject}
    AND version = NEW.version AND status = NEW.to_status
  ) AND (last IS NOT NULL OR NEW.from_status IS NOT DISTINCT FROM {beginning})
  AND starts_with(NEW.{subject}, '{ids}')"""


def fix_once(op: Op, learned: Mapping[str, Sequence[str]]) -> None:
    """Refuses another value for what is learned once, whoever writes it: a row is found by it, or goes by it.

    Args:
        learned: By table, columns that are learned together: once the first one of them has a value, none changes.
    """
    for name, groups in learned.items():
        for columns in map(str.split, groups):
            olds, news = (", ".join(f"{which}.{column}" for column in columns) for which in ("OLD", "NEW"))
            op.execute(
                f"CREATE TRIGGER fix_{columns[0]} BEFORE UPDATE OF {', '.join(columns)} ON {quote(op, name)}"
                f" FOR EACH ROW WHEN (OLD.{columns[0]} IS NOT NULL AND ROW({olds}) IS DISTINCT FROM ROW({news}))"
                " EXECUTE FUNCTION realco_refuse()"
            )


def hold_history(
    op: Op,
    name: str,
    subject: str,
    of: Mapping[str, str],
    *,
    ids: Mapping[str, str] | None = None,
    untold: Mapping[str, str] | None = None,
) -> None:
    """Refuses a line of history that no row bears out, whoever writes it: a forged one, or one ahead of its time.

    Args:
        subject: The column that says whose line it is.
        of: The tables whose moves it has, and the key of each.
        ids: How the ids of each of them begin, where it has those of several: a row of one is none of another's.
        untold: The status in which rows of a table begin, where the history does not tell that they did.
    """
    beginnings = {table: f"'{status}'" for table, status in (untold or {}).items()}
    rows = " OR ".join(
        _IS_ITS_ROW.format(
            table=table,
            key=key,
            subject=subject,
            beginning=beginnings.get(table, "NULL"),
            ids=(ids or {}).get(table, ""),
        )
        for table, key in of.items()
    )
    function = f"refuse_made_up_{name}"
    values = {"function": function, "table": quote(op, name), "key": subject, "rows": rows}
    op.execute(_REFUSE_MADE_UP_LINE.format(search_path=SEARCH_PATH, **values))
    op.execute(
        f"CREATE TRIGGER refuse_made_up BEFORE INSERT ON {quote(op, name)} FOR EACH ROW EXECUTE FUNCTION {function}()"
    )


def guard_rows(op: Op, name: str, columns: Collection[str], stated: Rights | None) -> None:
    """Refuses what no table takes, by the columns that it has.

    Args:
        stated: Who may change which of them.
    """
    if stated is not None and {"version", "seal"} <= set(columns):
        _refuse_old_state(op, name, stated)
    if "due_at" in columns:
        for statement in (_REFUSE_FAR, _REFUSE_LEAP, _REFUSE_BEGUN):
            op.execute(statement.format(table=quote(op, name)))


def _refuse_old_state(op: Op, name: str, of: Rights) -> None:
    table: sa.Table = op.get_context().opts["target_metadata"].tables[name]
    covered = [column for column in of.list_changing() if column != "version" and is_covered(table, column)]
    only_with_version = [column for column in covered if column not in of.onward]
    changes = [_GOES_BACK.format(column=quote(op, column)) for column in of.onward]
    changes.append(_change(op, only_with_version))
    lone_seal = f"OLD.seal IS NOT NULL AND NEW.seal IS DISTINCT FROM OLD.seal AND NOT ({_change(op, of.onward)})"
    changes.append(lone_seal)
    columns = ", ".join(quote(op, column) for column in (*covered, "seal"))
    op.execute(_REFUSE_OLD_STATE.format(table=quote(op, name), columns=columns, changes=" OR ".join(changes)))


def _change(op: Op, columns: Sequence[str]) -> str:
    """Whether one of the columns changes."""
    news, olds = (", ".join(f"{which}.{quote(op, column)}" for column in columns) for which in ("NEW", "OLD"))
    return f"ROW({news}) IS DISTINCT FROM ROW({olds})" if columns else "false"


def quote(op: Op, name: str) -> str:
    """A name as SQL takes it."""
    return str(op.get_bind().dialect.identifier_preparer.quote(name))
