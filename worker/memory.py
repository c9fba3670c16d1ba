"""RAM: what this process may use of it, and what a process tree holds, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

PROC = Path("/proc")
UNLIMITED = 1 << 60
"""cgroup v1 writes "no limit" as a number near 2**63."""
KB = 1024
COUNTED = (b"Pss:", b"SwapPss:", b"Private_Hugetlb:", b"Shared_Hugetlb:")
"""Lines of smaps_rollup that add up: huge pages are in no PSS, and swapped pages come back."""
PAGES = b"Pss_File:"
FILE_PAGES = frozenset((b"active_file", b"inactive_file"))


class Ram(NamedTuple):
    """Bytes that this process and its children can have, and could take now."""

    total: int
    available: int
    limit: Literal["machine", "cgroup"]
    """Who sets `total`."""


class Held(NamedTuple):
    """Bytes of a process or of several."""

    bytes: int
    exact: bool
    """PSS; False: RSS in at least one of them, because PSS may not be read there."""
    cached: int = 0
    """Of these, pages of files: what `Ram.available` counts as well."""


class Limit(NamedTuple):
    """One control group: its limit, and what it uses that cannot be dropped at once."""

    limit: int
    used: int


def ram(proc: Path = PROC) -> Ram:
    """The machine's memory or the tightest control group around this process, v1 or v2."""
    machine = {}
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        machine[name] = int(value.split()[0]) * KB
    total = machine["MemTotal"]
    # MemAvailable is in every kernel since 3.14.
    available = machine.get("MemAvailable", machine["MemFree"])
    limit: Literal["machine", "cgroup"] = "machine"
    for group in limits(proc):
        available = min(available, max(0, group.limit - group.used))
        if group.limit < total:
            total, limit = group.limit, "cgroup"
    return Ram(total, available, limit)


def limits(proc: Path = PROC) -> Iterator[Limit]:
    """Every limited memory control group from this process up to the highest it can see."""
    own = own_groups((proc / "self" / "cgroup").read_text())
    for line in (proc / "self" / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        root, mounted = before.split()[3:5]
        kind, _, options = after.split(maxsplit=2)
        if kind == "cgroup2" and "" in own:
            yield from climb(Path(mounted), root, own[""], unified)
        elif kind == "cgroup" and "memory" in options.split(",") and "memory" in own:
            yield from climb(Path(mounted), root, own["memory"], legacy)


def own_groups(text: str) -> dict[str, str]:
    """/proc/self/cgroup: our path in each hierarchy, by controller; v2's controller is ""."""
    groups = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def climb(
    mounted: Path, root: str, path: str, read: Callable[[Path], Limit | None]
) -> Iterator[Limit]:
    """From our group up to the mount point. A container's mount starts at its own group."""
    inside = os.path.relpath(path, root) if path.startswith(root) else "."
    folder = mounted / inside
    if not folder.is_dir():
        folder = mounted
    for group in (folder, *folder.parents):
        found = read(group)
        if found is not None:
            yield found
        if group == mounted:
            return


def unified(group: Path) -> Limit | None:
    """v2. Over memory.high a group is slowed down until it is useless, so it is a limit too."""
    bounds = [number(group / name) for name in ("memory.max", "memory.high")]
    set_bounds = [bound for bound in bounds if bound is not None]
    used = number(group / "memory.current")
    if not set_bounds or used is None:
        return None
    return Limit(min(set_bounds), used - page_cache(group, FILE_PAGES))


def legacy(group: Path) -> Limit | None:
    limit, used = (number(group / f"memory.{name}_in_bytes") for name in ("limit", "usage"))
    if limit is None or limit >= UNLIMITED or used is None:
        return None
    return Limit(limit, used - page_cache(group, {b"total_" + name for name in FILE_PAGES}))


def number(path: Path) -> int | None:
    """The number in a control file; None for "max" and where there is no such file."""
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return None
    return None if text == "max" else int(text)


def page_cache(group: Path, names: Collection[bytes]) -> int:
    """Bytes of files, mapped ones too: what MemAvailable counts as available on a machine."""
    lines = (line.split() for line in (group / "memory.stat").read_bytes().splitlines())
    return sum(int(line[1]) for line in lines if line[0] in names)


def trees(roots: Collection[int], proc: Path = PROC) -> dict[int, set[int]]:
    """The living processes under each root: children, theirs, and all of a session it leads.

    A session keeps those whose parent died. Nested roots share their processes.
    """
    children: dict[int, list[int]] = {}
    living = set()
    for folder in proc.iterdir():
        stat = read(folder / "stat") if folder.name.isdigit() else None
        if stat is None:
            continue
        pid = int(folder.name)
        state, parent, _, session = stat[stat.rindex(b")") + 2 :].split(maxsplit=4)[:4]
        if state in b"ZX":
            continue
        living.add(pid)
        for above in {int(parent), int(session)} - {pid}:
            children.setdefault(above, []).append(pid)
    return {root: under(root, children) & living for root in roots}


def under(root: int, children: dict[int, list[int]]) -> set[int]:
    found = {root}
    waiting = [root]
    while waiting:
        fresh = set(children.get(waiting.pop(), ())) - found
        found |= fresh
        waiting += fresh
    return found


def held(pids: Collection[int], proc: Path = PROC) -> Held:
    """What these processes hold together; those that are gone hold nothing."""
    each = [of_process(pid, proc) for pid in pids]
    cached = sum(one.cached for one in each)
    return Held(sum(one.bytes for one in each), all(one.exact for one in each), cached)


def of_process(pid: int, proc: Path = PROC) -> Held:
    """PSS, swapped and huge pages included; RSS before Linux 4.14 and where we may not look."""
    rollup = read(proc / str(pid) / "smaps_rollup")
    if rollup:
        lines = [line.split() for line in rollup.splitlines()[1:]]
        bytes = sum(int(line[1]) * KB for line in lines if line[0] in COUNTED)
        return Held(bytes, True, sum(int(line[1]) * KB for line in lines if line[0] == PAGES))
    rss = resident(pid, proc)
    # A process without memory is a zombie or gone, and that is exact.
    return Held(rss, rss == 0)


def resident(pid: int, proc: Path = PROC) -> int:
    """RSS in bytes; costs microseconds, where PSS costs a walk over every page."""
    statm = read(proc / str(pid) / "statm")
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm else 0


def read(path: Path) -> bytes | None:
    """None where the process is gone, or its kernel or owner does not let us look."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
