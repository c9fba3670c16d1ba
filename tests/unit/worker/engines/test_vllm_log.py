from __future__ import annotations

from worker.engines.vllm_log import last_words

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
