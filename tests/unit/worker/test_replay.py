from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import explain
from deploy.main import arguments
from shared.clock import SystemClock
from shared.settings import Settings
from tests.bench.card import Card
from tests.bench.figures import percentile
from tests.bench.ours import Ours
from tests.bench.swaps import play
from tests.bench.traffic import CARD, plans, trace
from tests.unit.worker.stage import Stage, plan
from worker.decision import again, decode, encode, record
from worker.journal import Journal
from worker.occasion import Arrived, Ended, Loaded, Occasion, Tick
from worker.residency import GIB, LIMIT, device
from worker.scheduler import Outcome, decide

ROOT = Path(__file__).parents[3]


class Recorded(Ours):
    """Keeps the line of each decision."""

    def __init__(self) -> None:
        super().__init__(device(plans(), CARD))
        self.lines: list[bytes] = []

    def decide(self, event: Occasion) -> Outcome:
        before = self.device
        outcome = super().decide(event)
        self.lines.append(encode(record(len(self.lines) + 1, 0, before, event, outcome)))
        return outcome


def test_a_trace_leaves_no_violation_and_beats_fifo() -> None:
    asked = trace(7, 1200, 60)
    fifo, loads_only, offline, ours = (
        play(name, asked) for name in ("FIFO", "FIFO for loads only", "Belady, in time", "ours")
    )
    assert ours.violations == []
    assert len(ours.waits) == len(asked), "every request was answered"
    assert ours.refused == 0
    assert ours.loads <= min(fifo.loads, loads_only.loads)
    assert ours.loads <= 1.2 * offline.loads
    p95, others = (percentile(sorted(card.waits), 95) for card in (ours, fifo))
    assert p95 <= 0.6 * others


class Counted(Ours):
    """Counts the events it decides on."""

    def __init__(self) -> None:
        super().__init__(device(plans(), CARD))
        self.events = 0

    def decide(self, event: Occasion) -> Outcome:
        self.events += 1
        return super().decide(event)


def test_ten_thousand_events_break_no_rule() -> None:
    """Twelve models on 16 GB: nothing over-committed, nobody evicted who serves or is awaited or
    need not go, and each is answered within the limit of its class.
    """
    policy, card, asked = Counted(), Card(plans(), CARD), trace(7, 4300, 60)
    card.run(asked, policy)
    assert policy.events > 10_000
    assert len(plans()) == 12
    assert card.violations == []
    assert (len(card.waits), card.refused) == (len(asked), 0)
    assert max(card.waits) <= LIMIT["interactive"]


def test_with_sleep_swaps_become_wakes_and_nothing_is_violated() -> None:
    card = play("ours, with sleep", trace(8, 600, 60))
    assert card.violations == []
    assert card.wakes > card.loads


def test_every_decision_of_a_trace_comes_out_again_byte_for_byte() -> None:
    first, second = Recorded(), Recorded()
    for policy in (first, second):
        play_with(policy)
    assert first.lines == second.lines
    assert len(first.lines) > 400
    for line in first.lines:
        assert again(line) == line


def play_with(policy: Recorded) -> None:
    Card(plans(), CARD).run(trace(9, 200, 60), policy)


def test_whole_numbers_come_back_as_they_were() -> None:
    stage = Stage({"a": plan(6)}, 10)
    for event in (Arrived(1, "a", "interactive"), Loaded(2, "a", GIB, 3), Ended(4, "a", 1, 5)):
        outcome = decide(stage.device, event)
        line = encode(record(1, 0, stage.device, event, outcome))
        assert again(line) == line
        stage.device = outcome.after


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A home in which one model was evicted for another."""
    stage = Stage({n: plan(6) for n in "ab"}, 10)
    journal = Journal(tmp_path, "cpu", SystemClock())
    for event in (
        Arrived(0, "a", "interactive"),
        Loaded(4, "a", 6 * GIB, 4),
        Ended(5, "a"),
        Tick(6),
        Arrived(20, "b", "interactive"),
    ):
        outcome = decide(stage.device, event)
        journal.note(stage.device, event, outcome)
        stage.device = outcome.after
    assert [decision.number for decision in journal.last] == [1, 3]
    journal.close()
    return tmp_path


def run(home: Path, *options: str) -> int:
    return explain.main(Settings(home=str(home)), arguments().parse_args(["explain", *options]))


def test_explain_lists_what_moved_models(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(journal) == 0
    loads, evicts = capsys.readouterr().out.splitlines()
    assert "a loads (1 waiting): it takes 6.00 GiB of 10.00 GiB free" in loads
    assert "a evicted for b, which takes 6.00 GiB where 4.00 GiB is free" in evicts
    assert "with 2.00 GiB more nothing would have been evicted" in evicts
    assert run(journal, "--model", "b", "--last", "5") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert run(journal, "--admissions") == 0
    assert "admit 1 to a" in capsys.readouterr().out


def test_explain_makes_one_decision_again(
    journal: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert run(journal, "3") == 0
    shown = capfd.readouterr().out
    assert "replay    equal, byte for byte" in shown
    assert "there was no alternative" in shown
    assert run(journal, "99") == 1
    assert "no decision 99" in capfd.readouterr().err


def test_a_line_that_was_tampered_with_differs(journal: Path) -> None:
    path = journal / "decisions" / "cpu.jsonl"
    raw = path.read_bytes()
    assert raw.count(b'"load_seconds":4.0') > 2
    path.write_bytes(raw.replace(b'"seconds":4.0', b'"seconds":5.0'))
    command = [sys.executable, "-m", "worker.decision", str(path), "3"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 1
    assert "replay    DIFFERS" in shown.stdout


def test_the_journal_counts_on_after_a_restart_and_mends_a_torn_line(journal: Path) -> None:
    path = journal / "decisions" / "cpu.jsonl"
    with path.open("ab") as file:
        file.write(b'{"number":4,"wall')
    again_open = Journal(journal, "cpu", SystemClock())
    stage = Stage({"a": plan(6)}, 10)
    event = Arrived(0, "a", "interactive")
    again_open.note(stage.device, event, decide(stage.device, event))
    again_open.close()
    assert [line.number for line in explain.lines(path)] == [1, 3, 4]
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_journal_is_bounded(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "cpu", SystemClock(), cap=20_000)
    stage = Stage({"a": plan(6)}, 10)
    event = Arrived(0, "a", "interactive")
    outcome = decide(stage.device, event)
    for _ in range(600):
        journal.note(stage.device, event, outcome)
    assert len(journal.last) == 256
    journal.close()
    files = sorted((tmp_path / "decisions").glob("cpu.jsonl*"))
    assert [path.name for path in files] == ["cpu.jsonl", "cpu.jsonl.1"]
    assert all(0 < path.stat().st_size <= 20_000 for path in files)
    newest = decode(files[0].read_bytes().splitlines()[-1])
    assert newest.number == 600
    assert json.loads(files[1].read_bytes().splitlines()[-1])["number"] < 600
