"""What moves a model, when it breaks in a way that nobody foresaw."""

from __future__ import annotations

from pathlib import Path

from tests.loops import around
from tests.unit.worker.scripted import NoQueue, Scripted, says
from tests.unit.worker.test_parking import eventually
from worker.loop import Loop
from worker.occasion import LoadAsked, UnloadAsked


class Stubborn(Scripted):
    """Its first stop breaks."""

    stops = 0

    async def stop(self) -> None:
        await super().stop()
        self.stops += 1
        if self.stops == 1:
            raise RuntimeError("no such thing")


def opened(engine: Scripted, folder: Path) -> Loop:
    loop = around({"m": engine}, folder)
    loop.open(NoQueue(loop), [])
    loop.post(LoadAsked(loop.now, "m"))
    return loop


async def test_a_start_that_breaks_is_a_failed_one_and_the_device_is_free(tmp_path: Path) -> None:
    engine = Scripted(says("a"), starts=(RuntimeError("a surprise"), None))
    loop = opened(engine, tmp_path)
    await eventually(lambda: loop.slot("m").state == "ready")
    assert loop.state.work is None
    assert loop.slot("m").failures == 1
    assert "RuntimeError: a surprise" in loop.slot("m").why
    assert engine.started == 2
    await loop.close()


async def test_a_stop_that_breaks_ends(tmp_path: Path) -> None:
    loop = opened(Stubborn(says("a")), tmp_path)
    await eventually(lambda: loop.slot("m").state == "ready")
    loop.post(UnloadAsked(loop.now, "m"))
    await eventually(lambda: loop.slot("m").state == "absent")
    assert loop.state.work is None
    await loop.close()
