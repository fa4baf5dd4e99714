"""The commands behind `make run` and `make stop`: `python -m deploy.local run|stop`."""

from __future__ import annotations

import argparse
import asyncio
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path
from shlex import quote

from deploy.local.configuration import Configuration
from deploy.local.identity import SUBJECTS
from deploy.local.places import default_data_dir, resolve_folder
from deploy.local.ports import LOOPBACK
from deploy.local.programs import ROOT, CannotStart, ProgramFailed, wrap_command
from deploy.local.progress import make_progress, replace_unencodable, tell
from deploy.local.state import State, end_leftovers, find_process
from deploy.local.supervisor import Supervisor
from deploy.topology import METRICS_PORTS, SERVICE_NAMES, SUBSCRIBER

_STOP_SECONDS_MAX = 20.0
_WHAT_TO_DO = "Correct what the log names and start again, or remove all local data with `make clean`."


def run(data_dir: Path, port: int, *, demo_data: bool = False) -> int:
    """Returns when the instance was told to stop: 0, or 1 if it could not start."""

    seeds: list[subprocess.Popen[bytes]] = []

    def ready(configuration: Configuration, seconds: float) -> None:
        announce(configuration, seconds)
        if demo_data:  # prints its own lines, and leaves an instance that has data as it is
            seed = wrap_command([sys.executable, "-m", "demo.seed", "--data-dir", str(data_dir)])
            seeds.append(subprocess.Popen(seed, cwd=ROOT, start_new_session=True))  # a Ctrl-C is for us alone

    try:
        supervisor = Supervisor(data_dir, port)
        progress = make_progress(sys.stdout, supervisor.steps)
        asyncio.run(supervisor.run(progress, ready))
    except ProgramFailed as error:
        print(f"\n{error}\n\nNothing was left running, and the data stays. {_WHAT_TO_DO}", file=sys.stderr)
        return 1
    except CannotStart as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    finally:
        for seed in seeds:  # the next start does what is left to do
            seed.kill()
            seed.wait()
    tell(sys.stdout, "stopped")
    return 0


def announce(configuration: Configuration, seconds: float) -> None:
    """Prints where everything is, and how to sign in."""
    base, ports = configuration.base_url, configuration.ports
    default = configuration.data_dir == (ROOT / ".run").resolve()
    where = "" if default else f" DATA_DIR={quote(str(configuration.data_dir))}"
    metrics = (f"{name.removesuffix('_metrics')} {ports[name]}" for name in METRICS_PORTS)
    nats = configuration.nats_urls[SUBSCRIBER].rsplit("@", 1)[-1].removeprefix("nats://")
    password = configuration.data_dir / "secrets" / "nats_subscriber"
    listen_to = f"nats://subscriber:$(cat {quote(str(password))})@{nats}" if password.exists() else "nats://…"
    event_keys = configuration.identity.event_jwks_file
    lines = [
        "",
        f"ready in {seconds:.1f} s",
        "",
        f"  REST        {base}/api/v1",
        f"  reference   {base}/docs and {base}/openapi.json",
        f"  gRPC        {', '.join(f'{service} {LOOPBACK}:{ports[service]}' for service in SERVICE_NAMES)}",
        f"              with the certificate in {configuration.data_dir}/certificates/client",
        f"  events      nats://{nats}" + (f", user subscriber, password in {password}" if password.exists() else ""),
        f"              .venv/bin/python docs/subscriber.py {listen_to} {quote(str(event_keys))}",
        f"  metrics     http://{LOOPBACK}:PORT/metrics with PORT {', '.join(metrics)}",
        f"  logs        {configuration.data_dir}/logs",
        "",
        "  sign in as  with the bearer token printed by",
        *(f"  {sub:<11} make token ROLE={role}{where}" for role, sub in SUBJECTS.items()),
        "",
        "Ctrl-C stops everything; the data stays.",
    ]
    tell(sys.stdout, "\n".join(lines))


def stop(data_dir: Path) -> int:
    """Stops the instance of this folder, or what a killed one left running."""
    if not data_dir.is_dir():
        print(f"No instance was ever started in {data_dir}.")
        return 0
    state = State(data_dir)
    if state.is_locked_by_another():
        supervisor = state.find_holder() or find_process(state.read().get("supervisor", {}))
        if supervisor is None:
            print(f"An instance runs in {data_dir}, but it cannot be seen from here: stop it where it was started.")
            return 1
        supervisor.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS_MAX
        while state.is_locked_by_another():
            if time.monotonic() > deadline:
                supervisor.kill()  # its processes end with it
                break
            time.sleep(0.1)
        print(f"The instance in {data_dir} has stopped.")
    left = end_leftovers(state.read())
    print(f"Ended what was still running: {', '.join(left)}." if left else "Nothing is running.")
    return 0


def _explain_access(data_dir: Path) -> str:
    """The usual reason: another user, such as root, started an instance here before."""
    if not os.path.exists(data_dir):
        return f"{data_dir} cannot be made."
    owner, you = os.stat(data_dir).st_uid, os.geteuid()
    known = {entry.pw_uid: entry.pw_name for entry in pwd.getpwall()}
    return f"{data_dir} belongs to {known.get(owner, owner)}, and you are {known.get(you, you)}."


def port_number(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}; set it with PORT=")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="start everything, watch it, stop it on Ctrl-C")
    port = os.environ.get("PORT") or "8080"
    running.add_argument("--port", type=port_number, default=port, help="of the gateway; 0: any (default: %(default)s)")
    running.add_argument(
        "--demo-data",
        action="store_true",
        help="fill a new instance with demo data: an offering, investors, money in escrow",
    )
    stopping = commands.add_parser("stop", help="stop what runs there")
    for command in (running, stopping):
        command.add_argument("--data-dir", type=resolve_folder, default=default_data_dir(), help="default: %(default)s")
    given = parser.parse_args()
    replace_unencodable(sys.stdout, sys.stderr)
    try:
        if given.command == "stop":
            return stop(given.data_dir)
        return run(given.data_dir, given.port, demo_data=given.demo_data)
    except OSError as error:
        print(f"\n{error}\n{_explain_access(given.data_dir)} Name another folder with DATA_DIR=.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
