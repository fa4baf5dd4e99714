"""Demo data for a new local instance: the first scenes of the story, played today, so that a newcomer finds people, an
offering that takes investments, and money in escrow. An instance that has an offering is left as it is.

A seed that was ended in the middle is completed by the next: `demo.json` says what was begun, and every request is the
same again, so it has one effect.

`python -m demo.seed --data-dir .run`
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import timedelta
from pathlib import Path

from demo import cast, money_in
from demo.client import Refusal, Unanswered, Unexpected
from demo.stage import EndedOtherwise, Stage
from demo.waiting import WaitedInVain
from deploy.local.clock import business_time
from deploy.local.instance import Instance
from deploy.local.secrets import write_private

_OPEN_FOR = timedelta(days=60)
_STUCK = (ConnectionError, EndedOtherwise, Refusal, Unanswered, Unexpected, WaitedInVain)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.seed", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    instance = Instance(parser.parse_args().data_dir)
    stage = Stage(instance)
    try:
        if not begin(stage, instance.data_dir / "demo.json"):
            return 0
        play(stage)
    except _STUCK as error:
        print(f"The demo data is not complete; the next start tries again. {error}", file=sys.stderr)
        return 1
    finally:
        stage.close()
    _note(instance.data_dir / "demo.json", stage, complete=True)
    print(
        "\nDemo data: the offering Oak Street Apartments with an escrow account, four investors and a sponsor;\n"
        "inv-001 has paid, inv-002's money is on its way. Try: GET /api/v1/offerings, /api/v1/transactions",
        flush=True,
    )
    return 0


def begin(stage: Stage, note: Path) -> bool:
    """Whether there is something to do: the instance is new, or a seed before this one was not completed."""
    if note.exists():
        known = json.loads(note.read_text())
        stage.deadline = known["deadline"]
        return not known["complete"]
    if stage.auditor.get("/offerings", pageSize="1")["offerings"]:
        return False
    deadline = business_time(stage.instance.data_dir) + _OPEN_FOR
    stage.deadline = deadline.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    _note(note, stage, complete=False)
    return True


def play(stage: Stage) -> None:
    money_in.profiles(stage)
    money_in.review_all(stage, "Identity document and sanctions lists seen.")
    money_in.offering(stage)
    money_in.bank_accounts(stage)
    money_in.commitments(stage)
    money_in.pay(stage, cast.ANA, "SETTLED", "COMPLETED")
    # By the time a seed is completed the money may have arrived.
    money_in.pay(stage, cast.BEN, "PENDING_SETTLEMENT", "SETTLED", "COMPLETED")


def _note(file: Path, stage: Stage, *, complete: bool) -> None:
    write_private(file, json.dumps({"deadline": stage.deadline, "complete": complete}))


if __name__ == "__main__":
    sys.exit(main())
