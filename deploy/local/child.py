"""Becomes another program: one that ends with its parent and, on request, does not run as root.

Run by path with the standard library alone: `python -I -S child.py --parent PID --signal N [--as MODE] -- command…`.

- On Linux the kernel sends signal N to the program when its parent ends, for whatever reason. Other systems lack this.
- `--as namespace`: the program sees itself as `nobody` in a user namespace of its own; outside, its files are root's.
- `--as nobody`: the program is `nobody`, with the one capability of opening files under root's folders.
  PostgreSQL refuses to run as root, and a container may forbid namespaces: so there are two ways.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pwd
import sys
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CLONE_NEWUSER = 0x10000000
_CAPABILITY_VERSION_3, _CAP_DAC_OVERRIDE = 0x20080522, 1


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")


def enter_namespace() -> None:
    """Root outside is `nobody` inside: one identity mapped, so files keep their owner."""
    nobody = pwd.getpwnam("nobody")
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    _checked(_libc().unshare(_CLONE_NEWUSER), "unshare")
    Path("/proc/self/setgroups").write_text("deny")  # the kernel asks for this before it takes a group mapping
    Path("/proc/self/gid_map").write_text(f"{nobody.pw_gid} {outer_gid} 1")
    Path("/proc/self/uid_map").write_text(f"{nobody.pw_uid} {outer_uid} 1")


def drop_to_nobody() -> None:
    nobody = pwd.getpwnam("nobody")
    linux = sys.platform == "linux"
    if linux:
        _libc().prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)
    if linux:
        _keep_file_access()


def _keep_file_access() -> None:
    """Keeps CAP_DAC_OVERRIDE over the exec, where we have it, so that data under /root stays where it is."""
    libc = _libc()
    wanted = 1 << _CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable; then the high halves of the same.
    sets = (ctypes.c_uint32 * 6)(wanted, wanted, wanted, 0, 0, 0)
    if libc.capset(header, sets) == 0:
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def die_with_parent(parent: int, signal: int) -> None:
    """Call it after any change of identity, which would clear the setting."""
    if sys.platform != "linux":
        return
    _checked(_libc().prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl")
    if os.getppid() != parent:  # it ended while we were starting
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int)
    parser.add_argument("--signal", type=int)
    parser.add_argument("--as", dest="identity", choices=("namespace", "nobody"))
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    if arguments.identity == "namespace":
        enter_namespace()
    elif arguments.identity == "nobody":
        drop_to_nobody()
    if arguments.parent:
        die_with_parent(arguments.parent, arguments.signal)
    os.execv(arguments.command[0], arguments.command)  # noqa: S606  # becoming it is the purpose


if __name__ == "__main__":
    main()
