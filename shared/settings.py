"""The only reader of the environment: aihub.toml, then AIHUB_* variables over it.

The file is the one named by AIHUB_CONFIG, else ./aihub.toml, else <home>/aihub.toml, else none.
Every key of Settings is `AIHUB_<KEY>` in the environment; models are set in the file only.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec

from shared.size import parse_size
from shared.vllm import OURS, RANKS

PREFIX = "AIHUB_"
SECRETS = frozenset({"admin_key", "api_key"})
LONGEST_SOCKET_FOLDER = 70
"""Unix socket paths end at 107 bytes; PostgreSQL and ours need 37 of them for the file name."""


class SettingsError(Exception):
    """A setting is wrong; the message names the key and what is allowed."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[models.NAME]` table: a model the hub serves and the engine that runs it."""

    engine: Literal["llamacpp", "openai", "ollama", "vllm"]
    kind: Literal["chat", "embedding"] = "chat"
    file: str | None = None
    """llamacpp: a GGUF file, absolute or a name in <home>/models."""
    url: str | None = None
    """openai: http://host:port/v1, or unix:/path of a server that speaks the OpenAI wire.
    ollama: where `ollama serve` listens, host:port or http://host:port; default:
    127.0.0.1:11434."""
    upstream_model: str | None = None
    """openai, ollama: the name the upstream knows the model by; default: ours."""
    api_key: str | None = None
    """openai: the upstream's own key."""
    weights: str | None = None
    """vllm: a Hugging Face id, or a folder, absolute or a name in <home>/models."""
    python: str | None = None
    """vllm: the interpreter of the virtual environment that has vLLM."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """vllm: of weights and activations; auto: as published, and float32 on a CPU."""
    quantization: str | None = None
    """vllm: `--quantization`; default: what the weights themselves say."""
    tensor_parallel: int = 1
    """vllm: GPUs the model is spread over."""
    max_lora_rank: int | None = None
    """vllm: the largest rank an adapter may have; 16 where adapters are listed, else none fit."""
    max_loras: int = 4
    """vllm: adapters that one batch may use; each takes device memory from the start."""
    tool_parser: str | None = None
    """vllm: `--tool-call-parser`; without it a model is not told of tools it may but need not
    call."""
    arguments: tuple[str, ...] = ()
    """vllm: more of its command line."""
    context: int = 4096
    """Tokens one request may use, prompt and answer together."""
    parallel: int = 4
    """Requests the engine works on at once; the others wait in the queue."""
    threads: int | None = None
    """llamacpp, vllm: CPU threads; default: half the cores, at least one."""
    lane: str = "cpu"
    """The worker that serves it."""
    keep_alive: float = 300.0
    """Seconds it stays loaded after its last request; 0: not at all, negative: for ever."""
    pin: bool = False
    """Loaded at the start and never evicted."""
    preload: bool = True
    """Loaded at the start, as far as the models before it leave room."""
    token_input: Literal["own", "cl100k"] = "own"
    """embedding: whose token ids an array of integers holds."""
    adapters: dict[str, str] = {}
    """LoRA adapters by the name they are asked for: a peft folder, or for llamacpp a GGUF file,
    absolute or relative to <home>/models. A new version has a new name."""
    aliases: tuple[str, ...] = ()
    """Other names callers may use for it."""
    fallbacks: tuple[str, ...] = ()
    """Models that answer, in this order, while this one cannot."""
    capabilities: tuple[Literal["images", "audio", "tools", "code"], ...] = ()
    """What `model: "auto"` may send here; text goes anywhere."""
    languages: tuple[str, ...] = ()
    """Languages it is good at, e.g. "en", "zh"; empty: no preference."""
    quality: int = 5
    """1 to 10, how good its answers are beside the other models'; for `model: "auto"`."""
    auto: bool = True
    """Whether `model: "auto"` may choose it."""
    defaults: dict[str, float | int] = {}
    """Request parameters used where the caller gives none."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    host: str = "127.0.0.1"
    """Address the gateway listens on."""
    port: int = 8000
    """Port the gateway listens on."""
    home: str = "~/.aihub"
    """State folder: databases, models, key, sockets."""
    admin_key: str | None = None
    """Bootstrap API key; default: generated once into <home>/admin.key."""
    database_url: str | None = None
    """PostgreSQL URL; default: the embedded server."""
    redis_url: str | None = None
    """Redis or Valkey URL (7.0 or newer); default: the embedded server."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    gateways: int = 1
    """Gateway processes."""
    lane: str = "cpu"
    """The name of this machine's worker; models name the lane that serves them."""
    device: str = "cpu"
    """What this machine's worker loads models on: cpu, or cuda:0 and so on."""
    memory: str | None = None
    """How much of the device's memory models may take together, e.g. 12GiB; default: all."""
    queue_limit: int = 64
    """Requests that may wait for one model before callers get 429."""
    max_body: int = 16 * 1024 * 1024
    """Bytes of the largest request body."""
    request_timeout: float = 600.0
    """Seconds a request may take, waiting included."""
    drain_timeout: float = 30.0
    """Seconds a stopping gateway lets open replies finish."""
    models: dict[str, Model] = {}

    @property
    def folder(self) -> Path:
        return Path(self.home).expanduser().absolute()

    @property
    def sockets(self) -> Path:
        """The 0700 folder of unix sockets; a short one elsewhere when home's path is long."""
        inside = self.folder / "run"
        if len(os.fsencode(inside)) <= LONGEST_SOCKET_FOLDER:
            return inside
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"aihub-{os.getuid()}-{digest}"

    @property
    def postgres(self) -> str:
        """The URL in force."""
        return self.database_url or f"postgresql://aihub@/aihub?host={self.sockets}"

    @property
    def redis(self) -> str:
        """The URL in force."""
        return self.redis_url or f"unix://{self.sockets}/valkey.sock"


DEVICE = re.compile(r"cpu|cuda:\d+")
NEEDED = {"llamacpp": ("file",), "openai": ("url",), "vllm": ("weights", "python")}
LOWEST = {"context": 16, "parallel": 1, "tensor_parallel": 1, "max_loras": 1}

DEFAULT_MODELS: dict[str, Model] = {
    "smollm2-135m-instruct": Model(
        engine="llamacpp",
        file="smollm2-135m-instruct.q8_0.gguf",
        aliases=("smollm2",),
        defaults={"temperature": 0.2, "top_p": 0.9, "repeat_penalty": 1.1},
    ),
    "all-minilm-l6-v2": Model(
        engine="llamacpp",
        kind="embedding",
        file="all-minilm-l6-v2.f16.gguf",
        context=512,
        token_input="cl100k",
        aliases=("text-embedding-3-small", "text-embedding-ada-002"),
    ),
}


def load(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Settings:
    """Read the settings in force; raises SettingsError."""
    environ = os.environ if environ is None else environ
    path = find_file(environ, folder or Path.cwd())
    values = read_file(path) if path else {}
    for field in msgspec.structs.fields(Settings):
        name = PREFIX + field.name.upper()
        if field.name != "models" and environ.get(name, "") != "":
            values[field.name] = environ[name]
    values.setdefault("models", {})
    if not values["models"]:
        values["models"] = msgspec.to_builtins(DEFAULT_MODELS)
    return check(convert(values))


def find_file(environ: Mapping[str, str], folder: Path) -> Path | None:
    named = environ.get(PREFIX + "CONFIG")
    if named:
        if not Path(named).is_file():
            raise SettingsError(f"{PREFIX}CONFIG names {named}, which is not a file")
        return Path(named)
    home = Path(environ.get(PREFIX + "HOME") or Settings().home).expanduser()
    candidates = (folder / "aihub.toml", home / "aihub.toml")
    return next((path for path in candidates if path.is_file()), None)


def read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error


def convert(values: dict[str, Any]) -> Settings:
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(explain(str(error), values)) from error


def explain(message: str, values: dict[str, Any]) -> str:
    """Turn msgspec's `…- at `$.port`` into a sentence that names the key and what it allows."""
    reason, _, where = message.partition(" - at ")
    path = where.strip("`").removeprefix("$").removeprefix(".")
    if not path:
        known = ", ".join(field.name for field in msgspec.structs.fields(Settings))
        return f"{reason}. Known keys: {known}"
    first = path.split(".")[0].split("[")[0]
    given = "" if "." in path or first in SECRETS else f" (given: {values.get(first)!r})"
    allowed = next(
        (f.type for f in msgspec.structs.fields(Settings) if f.name == first and first != "models"),
        None,
    )
    choices = f" Allowed: {describe(allowed)}." if allowed is not None else ""
    return f"{path}, or {PREFIX}{first.upper()}: {reason}{given}.{choices}"


def describe(kind: Any) -> str:
    """A type in a reader's words."""
    if getattr(kind, "__origin__", None) is Literal:
        return ", ".join(kind.__args__)
    return {int: "a whole number", float: "a number", str: "text"}.get(kind, "text")


def check(settings: Settings) -> Settings:
    """What types cannot say."""
    bounds = {
        "port": (0, 65535),
        "gateways": (1, 64),
        "queue_limit": (1, 100_000),
        "max_body": (1024, 1 << 30),
        "request_timeout": (1, 86_400),
        "drain_timeout": (0, 3_600),
    }
    for key, (low, high) in bounds.items():
        value = getattr(settings, key)
        if not low <= value <= high:
            raise SettingsError(
                f"{key}, or {PREFIX}{key.upper()}: {value} is out of range."
                f" Allowed: {low} to {high}."
            )
    if not DEVICE.fullmatch(settings.device):
        raise SettingsError(
            f"device, or {PREFIX}DEVICE: {settings.device!r} is unknown. Allowed: cpu, cuda:0, …"
        )
    if settings.memory is not None:
        try:
            parse_size(settings.memory)
        except ValueError as error:
            raise SettingsError(f"memory, or {PREFIX}MEMORY: {error}") from error
    schemes = {"database_url": ("postgresql", "postgres"), "redis_url": ("redis", "rediss", "unix")}
    for key, allowed in schemes.items():
        value = getattr(settings, key)
        if value is not None and urlsplit(value).scheme not in allowed:
            raise SettingsError(
                f"{key}, or {PREFIX}{key.upper()}: unknown scheme in {redact(key, value)!r}."
                f" Allowed: {', '.join(f'{s}://' for s in allowed)}."
            )
    if settings.admin_key is not None and len(settings.admin_key) < 16:
        raise SettingsError(f"admin_key, or {PREFIX}ADMIN_KEY: must have at least 16 characters")
    for name, model in settings.models.items():
        check_model(name, model)
    return settings


def check_model(name: str, model: Model) -> None:
    for needed in NEEDED.get(model.engine, ()):
        if getattr(model, needed) is None:
            raise SettingsError(f"models.{name}.{needed}: engine {model.engine!r} needs it")
    if model.url is not None:
        check_url(name, model.engine, model.url)
    if model.adapters and (model.engine in ("openai", "ollama") or model.kind != "chat"):
        raise SettingsError(
            f"models.{name}.adapters: engine {model.engine!r} takes none for {model.kind} models"
        )
    if not 1 <= model.quality <= 10:
        raise SettingsError(f"models.{name}.quality: must be 1 to 10")
    for key, low in LOWEST.items():
        if getattr(model, key) < low:
            raise SettingsError(f"models.{name}.{key}: must be at least {low}")
    if model.engine == "vllm":
        check_vllm(name, model)


def check_vllm(name: str, model: Model) -> None:
    if model.kind != "chat":
        raise SettingsError(f"models.{name}.kind: engine 'vllm' serves chat models only")
    if model.max_lora_rank not in (None, *RANKS):
        allowed = ", ".join(map(str, RANKS))
        raise SettingsError(f"models.{name}.max_lora_rank: allowed: {allowed}")
    for argument in model.arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        if flag in OURS:
            raise SettingsError(f"models.{name}.arguments: {flag} is set by the hub")


def check_url(name: str, engine: str, url: str) -> None:
    if engine == "ollama":
        right = url.startswith("http://") or "/" not in url
        allowed = "host:port and http://host:port"
    else:
        right = urlsplit(url).scheme in ("http", "unix")
        allowed = "http://host:port/v1 and unix:/path"
    if not right:
        raise SettingsError(f"models.{name}.url: allowed are {allowed}")


def redact(key: str, value: Any) -> Any:
    """The value as it may be printed: keys hidden, passwords cut out of URLs."""
    if value is None:
        return None
    if key in SECRETS:
        return "[redacted]"
    if key.endswith("_url") or key == "url":
        parts = urlsplit(str(value))
        if parts.password:
            host = parts.netloc.rpartition("@")[2]
            return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:[redacted]@{host}"))
    if isinstance(value, dict):
        return {k: redact(k, v) for k, v in value.items()}
    return value
