from __future__ import annotations

import sys
from pathlib import Path

from deploy import doctor
from deploy.check import Finding, State, machine, parts, places
from shared.settings import DEFAULT_MODELS, Model, Settings

UPSTREAM = {"up": Model(engine="openai", url="http://up.example/v1")}


def test_python() -> None:
    assert machine.interpreter((3, 11, 0)).state is State.OK
    assert machine.interpreter((3, 10, 13)).state is State.FAIL


def test_one_core_is_few() -> None:
    assert machine.cores(1).state is State.WARN
    assert machine.cores(2).state is State.OK


def test_avx2_is_needed_by_llamacpp_only() -> None:
    old, new = "flags\t\t: fpu sse4_2\n", "flags\t\t: fpu avx2\n"
    ours, theirs = Settings(models=DEFAULT_MODELS), Settings(models=UPSTREAM)
    assert machine.instructions("x86_64", new, ours).state is State.OK
    assert machine.instructions("x86_64", old, ours).state is State.FAIL
    assert machine.instructions("x86_64", old, theirs).state is State.WARN
    assert machine.instructions("aarch64", "", ours).state is State.OK


def test_memory_counts_what_is_available() -> None:
    few = "MemTotal: 16000000 kB\nMemFree: 1 kB\nMemAvailable:   900000 kB\n"
    assert machine.memory(few).state is State.WARN
    assert machine.memory(few.replace("900000", "9000000")).state is State.OK


def test_weights(tmp_path: Path) -> None:
    own = Model(engine="llamacpp", file=str(tmp_path / "own.gguf"))
    settings = Settings(home=str(tmp_path), models={**DEFAULT_MODELS, **UPSTREAM, "own": own})
    states = {f.found.split()[0].strip(":"): f.state for f in parts.findings(settings)}
    assert states["smollm2-135m-instruct"] is State.WARN
    assert states["up"] is State.OK
    assert states["own"] is State.FAIL
    (tmp_path / "own.gguf").write_bytes(b"GGUF")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "smollm2-135m-instruct.q8_0.gguf").write_bytes(b"GGUF")
    states = {f.found.split()[0].strip(":"): f.state for f in parts.findings(settings)}
    assert states["smollm2-135m-instruct"] is State.OK
    assert states["own"] is State.OK


def test_a_missing_package_says_what_instead() -> None:
    finding = parts.package("no-such-distribution", "postgres", "set AIHUB_DATABASE_URL")
    assert finding.state is State.FAIL
    assert finding.mend == "make install, or set AIHUB_DATABASE_URL"


def test_sockets_folder_has_a_longest_path() -> None:
    assert places.sockets(Settings(home="/tmp/h")).state is State.OK
    assert places.sockets(Settings(home="/tmp/" + "h" * 90)).state is State.OK


def test_a_key_others_can_read(tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path))
    assert places.secret(settings).state is State.OK
    (tmp_path / "admin.key").write_text("sk-aihub-0123456789abcdef")
    (tmp_path / "admin.key").chmod(0o640)
    assert places.secret(settings).state is State.WARN


def test_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert places.home(Settings(home=str(tmp_path / "file"))).state is State.FAIL
    assert places.home(Settings(home=str(tmp_path / "a" / "b"))).state is State.OK


def test_lines() -> None:
    line = doctor.show(Finding(State.WARN, "cores", "1", "more"), coloured=False)
    assert line.splitlines()[0].split() == ["warn", "cores", "1"]
    assert line.splitlines()[1].strip() == "mend: more"


def test_an_interpreter_that_cannot_fine_tune_is_told_what_it_lacks() -> None:
    assert "does not start" in parts.trainer("/no/such/python").found
    finding = parts.trainer(sys.executable)
    assert finding.state is State.FAIL
    assert "pip install torch" in finding.mend
