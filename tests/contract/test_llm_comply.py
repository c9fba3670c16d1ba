"""The public compliance suite for chat completions, as its users run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.hub import Hub


def test_llm_comply_passes_whole(hub: Hub) -> None:
    command = [
        Path(sys.executable).with_name("llm-comply"),
        *("--base-url", hub.base_url, "--api-key", hub.key, "--model", hub.chat_model),
        *("--format", "openai-chat", "--json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(json.dumps(json.loads(done.stdout))[:500])
