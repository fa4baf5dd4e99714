"""What a whole instance uses: CPU and memory of all its processes, by the names they have in the topology."""

from __future__ import annotations

from collections import Counter

import psutil

from deploy.local.instance import Instance
from deploy.topology import PROCESS_NAMES

SUPERVISOR = "supervisor"
NAMES = (*PROCESS_NAMES, SUPERVISOR)


def _list_processes(instance: Instance) -> dict[str, list[psutil.Process]]:
    """Each with the processes below it: PostgreSQL has one a connection."""
    found = {}
    for name in PROCESS_NAMES:
        root = psutil.Process(instance.read_pid(name))
        found[name] = [root, *root.children(recursive=True)]
    known = {process.pid for processes in found.values() for process in processes}
    supervisor = psutil.Process(instance.read_supervisor_pid())
    others = [each for each in supervisor.children(recursive=True) if each.pid not in known]
    return found | {SUPERVISOR: [supervisor, *others]}


def read_cpu(instance: Instance) -> Counter[str]:
    """Seconds of CPU that each has used so far. What a process used that has ended meanwhile, its parent has taken."""
    used: Counter[str] = Counter()
    for name, processes in _list_processes(instance).items():
        for process in processes:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used[name] += times.user + times.system + times.children_user + times.children_system
    return used


def read_memory(instance: Instance) -> float:
    """Megabytes: what several processes share counts once, where the system can tell."""
    total = 0
    for processes in _list_processes(instance).values():
        for process in processes:
            try:
                told = process.memory_full_info()
                total += getattr(told, "pss", told.uss)
            except psutil.AccessDenied:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    return total / 1e6
