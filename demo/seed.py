"""Demo data for a new local instance: the first steps of the story, played today, so that a newcomer finds people, an
offering that takes investments, and money in escrow. An instance that has an offering is left as it is.

What was interrupted is completed at the next start: `demo.json` says what was begun, and every request is the same
again, so it has one effect.

`python -m demo.seed --data-dir .run`
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import timedelta
from pathlib import Path

from demo import cast, money_in
from demo.harness import HarnessError
from demo.run import DemoRun
from deploy.local.clock import business_time
from deploy.local.instance import Instance
from deploy.secrets import write_private

_OPEN_FOR = timedelta(days=60)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.seed", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    instance = Instance(parser.parse_args().data_dir)
    run = DemoRun(instance)
    try:
        if not prepare_seed(run, instance.data_dir / "demo.json"):
            return 0
        play_first_steps(run)
    except (ConnectionError, HarnessError) as error:
        print(f"The demo data is not complete; the next start tries again. {error}", file=sys.stderr)
        return 1
    finally:
        run.close()
    _write_note(instance.data_dir / "demo.json", run, complete=True)
    print(
        "\nDemo data: the offering Oak Street Apartments with an escrow account, four investors and a sponsor;\n"
        "inv-001 has paid, inv-002's money is on its way. Try: GET /api/v1/offerings, /api/v1/transactions",
        flush=True,
    )
    return 0


def prepare_seed(run: DemoRun, note: Path) -> bool:
    """Whether there is something to do: the instance is new, or an earlier seed was not completed."""
    if note.exists():
        known = json.loads(note.read_text())
        run.deadline = known["deadline"]
        return not known["complete"]
    if run.auditor.get("/offerings", pageSize="1")["offerings"]:
        return False
    deadline = business_time(run.instance.data_dir) + _OPEN_FOR
    run.deadline = deadline.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    _write_note(note, run, complete=False)
    return True


def play_first_steps(run: DemoRun) -> None:
    money_in.write_profiles(run)
    money_in.review_all_checks(run)
    money_in.open_offering(run)
    money_in.add_bank_accounts(run)
    money_in.confirm_bank_accounts(run)
    money_in.make_commitments(run)
    money_in.pay_contribution(run, cast.ANA, "SETTLED", "COMPLETED")
    # By the time a seed is completed the money may have arrived.
    money_in.pay_contribution(run, cast.BEN, "PENDING_SETTLEMENT", "SETTLED", "COMPLETED")


def _write_note(file: Path, run: DemoRun, *, complete: bool) -> None:
    write_private(file, json.dumps({"deadline": run.deadline, "complete": complete}))


if __name__ == "__main__":
    sys.exit(main())
