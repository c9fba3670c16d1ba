from __future__ import annotations

import asyncio

from tests.fakes.nvml.card import GIB, FakeNvml
from worker.cuda import open_cuda
from worker.device import DeviceFault
from worker.gpu import Sample
from worker.sampler import Sampler


async def test_one_device_in_trouble_does_not_hide_the_other(nvml_here: FakeNvml) -> None:
    devices = [await open_cuda(index) for index in (0, 1)]
    sampler = Sampler(devices, period=0.01)
    running = asyncio.create_task(sampler.run())
    await sampler.turn()
    assert [type(seen) for seen in sampler.latest.values()] == [Sample, Sample]
    nvml_here.card(0).fail("nvmlDeviceGetMemoryInfo_v2", 15)
    nvml_here.card(1).set(base=GIB)
    await sampler.turn()
    await sampler.turn()
    lost, well = sampler.latest["cuda:0"], sampler.latest["cuda:1"]
    assert isinstance(lost, DeviceFault)
    assert lost.trouble == "lost"
    assert isinstance(well, Sample)
    assert well.memory.used == GIB
    nvml_here.mend()
    await sampler.turn()
    await sampler.turn()
    assert isinstance(sampler.latest["cuda:0"], Sample)
    running.cancel()
    await asyncio.wait({running})
    for device in devices:
        device.close()
