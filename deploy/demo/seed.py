"""Demo data for a new local instance: the first scenes of the story, played today, so that a newcomer finds people, an
offering that takes investments, and money in escrow. An instance that has an offering is left as it is.

`python -m deploy.demo.seed --data-dir .run`
"""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta
from pathlib import Path

from deploy.demo import money_in
from deploy.demo.client import Refusal, Unanswered, Unexpected
from deploy.demo.stage import EndedOtherwise, Stage
from deploy.demo.waiting import WaitedInVain
from deploy.local.clock import business_time
from deploy.local.instance import Instance

_OPEN_FOR = timedelta(days=60)
_SCENES = (
    money_in.profiles,
    money_in.clearance,
    money_in.offering,
    money_in.bank_accounts,
    money_in.commitments,
    money_in.payment_at_once,
    money_in.payment_later,
)
_STUCK = (ConnectionError, EndedOtherwise, Refusal, Unanswered, Unexpected, WaitedInVain)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.seed", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    instance = Instance(parser.parse_args().data_dir)
    stage = Stage(instance)
    try:
        if stage.auditor.get("/offerings", pageSize="1")["offerings"]:
            return 0
        deadline = business_time(instance.data_dir) + _OPEN_FOR
        stage.deadline = deadline.replace(microsecond=0).isoformat().replace("+00:00", "Z")
        for scene in _SCENES:
            scene(stage)
    except _STUCK as error:
        print(f"The demo data is not complete: {error}", file=sys.stderr)
        return 1
    finally:
        stage.close()
    print(
        "\nDemo data: the offering Oak Street Apartments with an escrow account, four investors and a sponsor;\n"
        "inv-001 has paid, inv-002's money is on its way. Try: GET /api/v1/offerings, /api/v1/transactions",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
