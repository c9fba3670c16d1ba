"""`aihub doctor`: what works on this machine, what is missing, and the mend of each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from deploy.check import Finding, State, machine, parts, places
from shared.settings import Settings

COLOURS = {State.OK: "32", State.WARN: "33", State.FAIL: "31"}


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Exit status 1 when something fails."""
    findings = []
    for finding in examine(settings):
        findings.append(finding)
        print(show(finding, sys.stdout.isatty()), flush=True)
    return 1 if any(finding.state is State.FAIL for finding in findings) else 0


def examine(settings: Settings) -> Iterator[Finding]:
    yield from machine.findings(settings)
    yield from parts.findings(settings)
    yield from places.findings(settings)


def show(finding: Finding, coloured: bool) -> str:
    state = f"{finding.state.value:<4}"
    if coloured:
        state = f"\033[{COLOURS[finding.state]}m{state}\033[0m"
    mend = f"\n{'':<16} mend: {finding.mend}" if finding.mend else ""
    return f"{state} {finding.what:<11} {finding.found}{mend}"
