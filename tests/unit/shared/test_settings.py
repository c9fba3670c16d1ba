from __future__ import annotations

from pathlib import Path

import pytest

from shared.catalog import Catalog
from shared.redact import redact
from shared.settings import LONGEST_SOCKET_FOLDER, PLAIN, Model, Settings, SettingsError, load

LLAMA = '[models.m]\nengine = "llamacpp"\nfile = "m.gguf"\n'
OPENAI = '[models.m]\nengine = "openai"\n'


def why(folder: Path, toml: str = "", **environ: str) -> str:
    """What is said of wrong settings."""
    (folder / "aihub.toml").write_text(toml)
    with pytest.raises(SettingsError) as refused:
        load({"AIHUB_HOME": str(folder), **environ}, folder)
    return str(refused.value)


@pytest.mark.parametrize("odd", [" ", "%", "&", "#", "?", "=", "'", '"', "\\", ",", "+", "é", "~"])
def test_sockets_of_an_odd_home_are_elsewhere(odd: str) -> None:
    settings = Settings(home=f"/srv/a{odd}b")
    assert settings.folder == Path(f"/srv/a{odd}b")
    assert PLAIN.fullmatch(str(settings.sockets).encode())
    assert settings.sockets != Settings(home="/srv/a-b").sockets


def test_sockets_of_a_plain_short_home_are_inside() -> None:
    assert Settings(home="/srv/a.b_c-D1").sockets == Path("/srv/a.b_c-D1/run")
    long = Settings(home="/srv/" + "x" * LONGEST_SOCKET_FOLDER)
    assert len(str(long.sockets)) <= LONGEST_SOCKET_FOLDER


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:pw@h/d", "postgresql://me:[redacted]@h/d"),
        ("postgresql:///d?host=/run&password=pw", "postgresql:///d?host=/run&password=[redacted]"),
        ("postgresql://h/d?sslpassword=pw&a=b", "postgresql://h/d?sslpassword=[redacted]&a=b"),
        ("postgresql://h/d?PASS%57ORD=pw", "postgresql://h/d?PASS%57ORD=[redacted]"),
        ("unix:///run/v.sock?password=pw&db=2", "unix:///run/v.sock?password=[redacted]&db=2"),
        ("https://h/v1?api_key=pw", "https://h/v1?api_key=[redacted]"),
        ("postgresql://h/d?passfile=/f&sslmode=require", None),
        ("http://[broken:pw@h", "[redacted]"),
        ("redis://:@h/0", "redis://:[redacted]@h/0"),
    ],
)
def test_passwords_are_cut_out_of_urls(url: str, shown: str | None) -> None:
    assert redact("database_url", url) == (shown or url)


def test_a_wrong_model_key_is_named_with_the_known_ones(tmp_path: Path) -> None:
    said = why(tmp_path, LLAMA + "contxt = 4096\n")
    assert said.startswith("models.m.contxt:") and "Did you mean context?" in said
    assert "token_input" in said and "AIHUB_MODELS" not in said


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (
            LLAMA + 'context = "many"',
            "models.m.context: Expected `int`, got `str`. Allowed: a",
        ),
        (
            LLAMA + 'kind = "speech"',
            "models.m.kind: Invalid enum value 'speech'. Allowed: chat",
        ),
        ('[models."a b"]\nfile = "m"', "models.a b: Object missing required field `engine`. Known"),
        (LLAMA + "defaults = { top_p = [1] }", "models.m.defaults: "),
        (LLAMA + "aliases = 3", "models.m.aliases: Expected `array`, got `int`. Allowed: a list"),
        (LLAMA + "threads = 0", "models.m.threads: 0 is out of range. Allowed: 1 to 1024."),
        (LLAMA + "context = 10000001", "models.m.context: 10000001 is out of range."),
        (LLAMA + "context = 15", "models.m.context: 15 is out of range."),
        (LLAMA + "parallel = 1025", "models.m.parallel: 1025 is out of range."),
        (LLAMA.replace("models.m", 'models." "'), "models: a model's name is empty"),
        (LLAMA + 'aliases = [""]', "models.m.aliases: an alias is empty"),
        (LLAMA + 'aliases = ["m"]', "models.m.aliases: 'm' is taken"),
        (LLAMA + 'aliases = ["x", "x"]', "models.m.aliases: 'x' is taken"),
        (LLAMA + f'aliases = ["o"]\n{OPENAI}url = "http://h"'.replace(".m]", ".o]"), "models.m.al"),
        (OPENAI, "models.m.url: engine 'openai' needs it"),
        (OPENAI + 'url = "http://h:99999/v1"', "models.m.url: the port in"),
        (OPENAI + 'url = "http:///v1"', "models.m.url: allowed are"),
        (OPENAI + 'url = "ftp://h"', "models.m.url: unknown scheme"),
        ('redis_url = "redis://h:0"', "redis_url, or AIHUB_REDIS_URL: the port"),
        ('database_url = "postgresql://h:1,g:70000/d"', "database_url, or AIHUB_DATABASE_URL: the"),
        ('database_url = "postgresql://[::1"', "database_url, or AIHUB_DATABASE_URL: "),
        ("prot = 1\n", "Object contains unknown field `prot`. Did you mean port? Known: host"),
        ("models = 3", "models: must be tables"),
    ],
)
def test_what_is_wrong_in_the_file(tmp_path: Path, toml: str, said: str) -> None:
    assert why(tmp_path, toml).startswith(said)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AIHUB_PROT", "8001", "AIHUB_PROT is not a setting. Did you mean AIHUB_PORT?"),
        ("AIHUB_MODELS", "x", "AIHUB_MODELS is not a setting."),
        ("AIHUB_HOME", "~nosuch/x", "home, or AIHUB_HOME: '~nosuch/x' names no account"),
        ("AIHUB_CONFIG", "/proc/self/mem", "/proc/self/mem cannot be read: "),
        ("AIHUB_CONFIG", "/no/such", "AIHUB_CONFIG names /no/such, which is not a file"),
        ("AIHUB_ADMIN_KEY", "with a space 0123456", "admin_key, or AIHUB_ADMIN_KEY: must be pri"),
        ("AIHUB_ADMIN_KEY", "schlüssel-0123456789", "admin_key, or AIHUB_ADMIN_KEY: must be pri"),
        ("AIHUB_ADMIN_KEY", "short", "admin_key, or AIHUB_ADMIN_KEY: must have at least 16"),
    ],
)
def test_what_is_wrong_in_the_environment(tmp_path: Path, name: str, value: str, said: str) -> None:
    assert why(tmp_path, **{name: value}).startswith(said)


def test_an_empty_variable_is_none_at_all(tmp_path: Path) -> None:
    assert load({"AIHUB_HOME": str(tmp_path), "AIHUB_PROT": "", "AIHUB_PORT": ""}, tmp_path)


@pytest.mark.parametrize(
    "url",
    ["https://h/v1", "http://[::1]:8000/v1", "unix:/run/a.sock", "http://h:65535"],
)
def test_urls_of_upstreams(tmp_path: Path, url: str) -> None:
    (tmp_path / "aihub.toml").write_text(f'{OPENAI}url = "{url}"')
    assert load({"AIHUB_HOME": str(tmp_path)}, tmp_path).models["m"].url == url


def test_a_lane_without_models_is_an_error() -> None:
    catalog = Catalog({"m": Model(engine="llamacpp", file="m.gguf", lane="gpu")})
    assert [entry.name for entry in catalog.served("gpu")] == ["m"]
    with pytest.raises(SettingsError, match=r"AIHUB_LANE: no model is in lane 'cpu'.*: gpu\."):
        catalog.served("cpu")


@pytest.mark.parametrize(
    ("device", "memory", "devices"),
    [
        ("", "", ("cpu",)),
        ("cuda:0,cuda:11", "", ("cuda:0", "cuda:11")),
        (" cpu , cuda:0 ", "", ("cpu", "cuda:0")),
        ("cpu:0,cpu:1", "1GiB", ("cpu:0", "cpu:1")),
    ],
)
def test_one_worker_for_each_device(
    tmp_path: Path, device: str, memory: str, devices: tuple[str, ...]
) -> None:
    environ = {"AIHUB_HOME": str(tmp_path), "AIHUB_DEVICE": device, "AIHUB_MEMORY": memory}
    assert load(environ, tmp_path).devices == devices


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda", "device, or AIHUB_DEVICE: 'cuda' is unknown. Allowed: cpu, cuda:0"),
        ("cpu,", "device, or AIHUB_DEVICE: '' is unknown"),
        ("cuda:0,cuda:0", "device, or AIHUB_DEVICE: 'cuda:0' is listed twice"),
        ("cpu,cpu:1", "memory, or AIHUB_MEMORY: it says how large each share of the RAM is"),
    ],
)
def test_devices_that_make_no_sense(tmp_path: Path, device: str, said: str) -> None:
    assert why(tmp_path, AIHUB_DEVICE=device).startswith(said)
