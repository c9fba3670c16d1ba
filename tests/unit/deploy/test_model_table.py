from __future__ import annotations

import io

import pytest

from deploy.main import arguments
from deploy.model_orders import Line, fitted, going
from deploy.model_table import bar, duration, render
from gateway.status import device_status, status
from shared.catalog import Catalog
from shared.line import Line as Queue
from shared.settings import Model
from shared.wire.node import DeviceReport, LoadProgress
from shared.wire.status import Status
from tests.unit.shared.test_placement import GIB, NOW, model, worker

MODEL = Model(engine="llamacpp", file="m.gguf", lane="gpu")
CATALOG = Catalog(dict.fromkeys(("m", "n", "o"), MODEL) | {"far": Model(engine="openai")})


def seen() -> Status:
    told = worker(
        "w",
        m=model("ready", measured=3 * GIB, serving=1, pinned=True, keep_alive=-1.0),
        n=model("loading", progress=LoadProgress("weights", GIB, 2 * GIB)),
        o=model("failed", why="no such file", retry_ms=NOW + 8000, keep_alive=300.0),
    )
    return status([told], {"m": Queue(7, 0)}, CATALOG, NOW, None)


def test_a_line_for_each_model_and_a_bar_for_the_device() -> None:
    lines = list(render(seen()))
    m, n, o = (next(one for one in lines if one.startswith(f"  {name} ")) for name in "mno")
    for words in ("3.00 GiB of 4.00 GiB", "1/2", " 7 ", "for ever", "pinned"):
        assert words in m
    assert "weights 1.00 GiB of 2.00 GiB" in n
    for words in ("(4.00 GiB)", "no such file, again in 8 s", "5 min"):
        assert words in o
    assert any(line.endswith("16.00 GiB for models: 16.00 GiB free") for line in lines)
    assert lines[-1] == "no worker serves far"


def test_the_bar_shows_whatever_there_is() -> None:
    def drawn(**parts: int) -> str:
        report = DeviceReport(name="cpu", kind="cpu", total=1000, budget=1000, **parts)
        return bar(device_status(report))

    assert drawn() == "." * 32
    assert drawn(reserved=500) == "#" * 16 + "." * 16
    assert drawn(reserved=1, quarantined=1, foreign=1) == "#qx" + "." * 29
    assert drawn(reserved=1000, foreign=500) == "#" * 32


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (90_000, "25 h")]
)
def test_durations_keep_two_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_moves_is_shown_before_what_waits() -> None:
    told = worker("w", m=model("absent", asked=True, held="the load of n comes first"))
    waits = status([told], {}, CATALOG, NOW, None)
    assert going(waits) == ("m absent, the load of n comes first", 0)
    assert going(seen()) == ("n loading, weights 1.00 GiB of 2.00 GiB", GIB)
    still = status([worker("w", m=model("ready"))], {}, CATALOG, NOW, None)
    assert going(still) == ("", 0)


def test_where_nobody_looks_a_line_is_written_when_the_words_change() -> None:
    out = io.StringIO()
    line = Line(out)
    for words in ("", "m loading", "m loading", "m draining"):
        line.show((words, 0))
    line.clear()
    assert out.getvalue() == "m loading\nm draining\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_is_written_over_and_gone_at_the_end() -> None:
    out = Terminal()
    line = Line(out)
    for words, read in (("m loading", 1 << 20), ("m loading", 8 << 20), ("", 0)):
        line.show((words, read))
    line.clear()
    first, second, third = out.getvalue().split("\r\x1b[K")[1:]
    assert (first, third) == ("m loading, 0 s", "")
    assert "MB/s" in second


def test_lines_are_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    assert list(fitted(["0123456789", "0123456789a"], Terminal())) == ["0123456789", "012345678…"]
    assert list(fitted(["0123456789a"], io.StringIO())) == ["0123456789a"]


def test_the_options_of_the_commands() -> None:
    asked = arguments().parse_args(["models", "load", "m", "--pin", "--worker", "w"])
    assert (asked.action, asked.name, asked.pin, asked.worker) == ("load", "m", True, "w")
    assert arguments().parse_args(["models", "status"]).name is None
    assert arguments().parse_args(["models"]).action is None
    with pytest.raises(SystemExit):
        arguments().parse_args(["models", "unload"])
