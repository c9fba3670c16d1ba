from __future__ import annotations

import pytest

from shared.wire.node import LoadProgress
from worker.engines.vllm_log import last_words, progress

CORE = "(EngineCore pid=7) ERROR 11-23 07:57:06 [core.py:1]"
SERVER = "(APIServer pid=3)"


def test_the_error_of_the_core_comes_before_that_of_its_server() -> None:
    lines = [
        "(APIServer pid=3) INFO 11-23 07:57:06 [api_utils.py:347] non-default args: {}",
        f"{CORE} EngineCore failed to start.",
        f"{CORE} Traceback (most recent call last):",
        f"{CORE} ValueError: Free memory on device cuda:0 (1.2/16.0 GiB) is less",
        f"{SERVER} ValueError: Free memory on device cuda:0 (1.2/16.0 GiB) is less",
        f"{SERVER} RuntimeError: Engine core initialization failed. See root cause above.",
    ]
    assert last_words(lines) == "ValueError: Free memory on device cuda:0 (1.2/16.0 GiB) is less"


def test_a_wrong_flag_is_named_without_the_usage() -> None:
    lines = ["usage: api_server.py [-h]", "api_server.py: error: unrecognized arguments: --x"]
    assert last_words(lines) == "api_server.py: error: unrecognized arguments: --x"


def test_logged_errors_where_none_was_raised() -> None:
    lines = ["(Worker pid=1) INFO 11-23 07:57:06 [x.py:1] fine", f"{CORE} out of luck in /a/b/c"]
    assert last_words(lines) == "out of luck in [path]"


def test_the_last_lines_where_nothing_is_marked() -> None:
    assert last_words(["a", "", "b", "c", "d"]) == "b | c | d"
    assert last_words([]) == ""


def test_a_wrong_setting_is_told_by_the_line_behind() -> None:
    lines = [
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "  Value error, Invalid repository ID or local directory specified: '/a/b/empty'.",
        "    For further information visit https://errors.pydantic.dev/2.14/v/value_error",
    ]
    told = "Value error, Invalid repository ID or local directory specified: '[path]'."
    assert last_words(lines) == told


BAR = "Loading safetensors checkpoint shards"
START = LoadProgress("starting", 0, 1000)
STARTED = [
    f"{SERVER} INFO 11-23 07:56:01 [api_utils.py:347] non-default args: {{'model': '/m'}}",
    "(EngineCore pid=7) INFO 11-23 07:56:09 [core.py:98] Initializing a V1 LLM engine (v0.33.0)"
    " with config: compilation_config={'backend': 'inductor', 'about': 'torch.compile'}",
]
READ = [
    *STARTED,
    "(EngineCore pid=7) INFO 11-23 07:56:10 [model_runner.py:401] Starting to load model /m...",
    f"\r{BAR}:   0% Completed | 0/4 [00:00<?, ?it/s]\r{BAR}:  50% Completed | 2/4 [00:01<00:01]",
]
LOADED = [
    *READ,
    "(EngineCore pid=7) INFO 11-23 07:56:14 [default_loader.py:308] Loading weights took 3.12 s",
]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], START),
        (STARTED, START),
        (READ[:3], LoadProgress("reading weights", 0, 1000)),
        (READ, LoadProgress("reading weights", 500, 1000)),
        (LOADED, LoadProgress("placing weights", 1000, 1000)),
        (
            [*LOADED, "INFO 11-23 07:56:15 [backends.py:1] Dynamo bytecode transform time: 4.2 s"],
            LoadProgress("compiling", 1000, 1000),
        ),
        (
            [*LOADED, "INFO 11-23 07:56:20 [kv_cache_utils.py:9] GPU KV cache size: 49,152 tokens"],
            LoadProgress("making the KV cache", 1000, 1000),
        ),
        (
            [*LOADED, "Capturing CUDA graphs (decode, FULL):  36%|###   | 4/11 [00:01<00:02]"],
            LoadProgress("capturing CUDA graphs", 1000, 1000),
        ),
        (
            [*LOADED, "INFO 11-23 07:56:29 [core.py:9] init engine (profile, ...) took 9.2 s"],
            LoadProgress("warming up", 1000, 1000),
        ),
    ],
)
def test_how_far_a_start_is(lines: list[str], expected: LoadProgress) -> None:
    assert progress(lines, START) == expected


def test_a_start_never_goes_back() -> None:
    """Its earlier lines leave the tail; its two outputs do not come in order."""
    compiling = LoadProgress("compiling", 1000, 1000)
    assert progress(READ, compiling) == compiling
    assert progress(READ[:3], LoadProgress("reading weights", 750, 1000)).read == 750


def test_without_a_known_size_only_the_phase_is_told() -> None:
    assert progress(READ, LoadProgress("starting")) == LoadProgress("reading weights")
