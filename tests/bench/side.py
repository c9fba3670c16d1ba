"""One checkout's hub, put under loads as lines of standard input say, for tests.bench.trees.

Run as a file with the checkout's folder as PYTHONPATH: its own bench is what is imported here. An
older one may have no limits to hold a key to; then only the free key can be asked for.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path

from tests import native
from tests.bench.bench import PARTS, Bench, Target, hub_target
from tests.hub import Hub, running_hub

PACE_MS = 20


def targets(hub: Hub) -> dict[str, Target]:
    """By the name of a key and a model."""
    ours = hub_target(hub)
    found = {f"free {model}": ours._replace(model=model) for model in ("paced", "instant")}
    if importlib.util.find_spec("tests.bench.limits") is not None:
        from tests.bench.limits import limited_key

        key = limited_key(hub, ("paced", "instant"))
        for model in ("paced", "instant"):
            found[f"limited {model}"] = ours._replace(model=model, key=key)
    return found


def main() -> None:
    """Prints a line when it is ready, then for each load milliseconds and CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        programs = native.build(Path(folder))
        paced = native.upstream(programs, Path(folder) / "p", "--pace-ms", str(PACE_MS))
        instant = native.upstream(programs, Path(folder) / "i", "--pace-ms", "0")
        with paced as slow, instant as fast:
            toml = 'queue_limit = 4096\nlog_level = "warning"\n'
            for model, upstream in (("paced", slow), ("instant", fast)):
                toml += f'[models.{model}]\nengine = "openai"\nurl = "unix:{upstream.path}"\n'
                toml += "parallel = 256\n"
            with running_hub(toml) as hub:
                bench, known = Bench(programs, quick=True), targets(hub)
                print("ready", flush=True)
                for line in sys.stdin:
                    target, which, *flags = json.loads(line)
                    result, cpu = bench.run(known[target], *flags)
                    seconds = sum(cpu[part] for part in PARTS)
                    print(json.dumps([result[which]["p50"], seconds]), flush=True)


if __name__ == "__main__":
    main()
