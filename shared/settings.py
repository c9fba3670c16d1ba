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

import msgspec

from shared.settings_check import PREFIX as PREFIX
from shared.settings_check import SettingsError as SettingsError
from shared.settings_check import adapting, check, expand
from shared.settings_check import check_admin_key as check_admin_key
from shared.settings_check import check_names as check_names
from shared.settings_words import explain, explain_model, names, nearest

CONFIG = PREFIX + "CONFIG"
LONGEST_SOCKET_FOLDER = 70
"""Unix socket paths end at 107 bytes; PostgreSQL and ours need 37 of them for the file name."""
PLAIN = re.compile(rb"[A-Za-z0-9._/-]+")
"""Paths that mean themselves inside a URL and in the configuration of any server."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[models.NAME]` table: a model the hub serves and the engine that runs it."""

    engine: Literal["llamacpp", "openai", "ollama", "vllm", "transformers"]
    kind: Literal["chat", "embedding"] = "chat"
    file: str | None = None
    """llamacpp: a GGUF file, absolute or a name in <home>/models."""
    url: str | None = None
    """openai: http(s)://host:port/v1, or unix:/path of a server that speaks the OpenAI wire.
    ollama: where `ollama serve` listens, host:port or http://host:port; default:
    127.0.0.1:11434."""
    upstream_model: str | None = None
    """openai, ollama: the name the upstream knows the model by; default: ours."""
    api_key: str | None = None
    """openai: the upstream's own key."""
    weights: str | None = None
    """vllm, transformers: a Hugging Face id, or a folder, absolute or a name in <home>/models."""
    python: str | None = None
    """vllm, transformers: the interpreter of the virtual environment that has the engine."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """vllm, transformers: of weights and activations; auto: as published, float32 on a CPU."""
    quantization: str | None = None
    """vllm: `--quantization`; default: what the weights themselves say."""
    tensor_parallel: int = 1
    """vllm: GPUs the model is spread over."""
    max_lora_rank: int | None = None
    """vllm: the largest rank an adapter may have; 0: it takes none. 16 where adapters are listed or
    the hub fine-tunes, else 0."""
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
    """llamacpp, vllm, transformers: CPU threads; default: half the cores, at least one."""
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
    absolute or relative to <home>/models. A new version has a new path."""
    train_weights: str | None = None
    """A Hugging Face folder of the same model, absolute or a name in <home>/models: adapters are
    trained on it. By default their own weights for vllm and transformers, and for llamacpp a folder
    that the trainer makes of the file."""
    loaded_adapters: int = 16
    """Adapters its engine has loaded at once; others are loaded when they are asked for."""
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
    """What this machine loads models on: cpu, cuda:0 and so on, or several of them with commas
    between, a worker each. cpu:0, cpu:1, … are shares of the RAM."""
    memory: str | None = None
    """How much of a device's memory models may take together, e.g. 12GiB; default: all."""
    queue_limit: int = 64
    """Requests that may wait for one model before callers get 429."""
    max_body: int = 16 * 1024 * 1024
    """Bytes of the largest request body."""
    request_timeout: float = 600.0
    """Seconds a request may take, waiting included."""
    drain_timeout: float = 30.0
    """Seconds a stopping gateway lets open replies finish."""
    cache_bytes: int = 64 * 1024 * 1024
    """Bytes of Redis that kept answers may take in all; 0: none is kept."""
    cache_entry_bytes: int = 1024 * 1024
    """Bytes of the largest answer that is kept."""
    cache_seconds: float = 3600.0
    """Age at which a kept answer goes."""
    train_python: str | None = None
    """The interpreter of the virtual environment that fine-tunes; without it nothing does."""
    train_device: str = "cpu"
    """What models are fine-tuned on: cpu or cuda:0 and so on."""
    train_jobs: int = 50
    """Fine-tuning jobs that a project may have that have not ended."""
    usage_months: int | None = None
    """Months of single requests that the ledger keeps besides the running one; default: all. Sums
    by the hour stay."""
    file_store_url: str | None = None
    """S3-compatible store of files, s3+https://KEY:SECRET@HOST/BUCKET; default: <home>/files."""
    file_limit: str = "512MiB"
    """Size of the largest file that can be uploaded at once; parts may make larger ones."""
    file_quota: str = "20GiB"
    """What the files of a project may take together, unless it has a quota of its own."""
    models: dict[str, Model] = {}

    @property
    def folder(self) -> Path:
        return expand(self.home).absolute()

    @property
    def devices(self) -> tuple[str, ...]:
        """One worker each."""
        return tuple(name.strip() for name in self.device.split(","))

    @property
    def sockets(self) -> Path:
        """The 0700 folder of unix sockets; one elsewhere when home's path is long or not plain."""
        inside = os.fsencode(self.folder / "run")
        if len(inside) <= LONGEST_SOCKET_FOLDER and PLAIN.fullmatch(inside):
            return Path(os.fsdecode(inside))
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        temporary = tempfile.gettempdir()
        if not PLAIN.fullmatch(os.fsencode(temporary)):
            temporary = "/tmp"
        return Path(temporary) / f"aihub-{os.getuid()}-{digest}"

    @property
    def postgres(self) -> str:
        """The URL in force."""
        return self.database_url or f"postgresql://aihub@/aihub?host={self.sockets}"

    @property
    def redis(self) -> str:
        """The URL in force."""
        return self.redis_url or f"unix://{self.sockets}/valkey.sock"


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


KEYS = names(Settings)


def load(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Settings:
    """Read the settings in force; raises SettingsError."""
    environ = os.environ if environ is None else environ
    check_variables(environ)
    path = find_file(environ, folder or Path.cwd())
    values = read_file(path) if path else {}
    for key in KEYS:
        name = PREFIX + key.upper()
        if key != "models" and environ.get(name, "") != "":
            values[key] = environ[name]
    values.setdefault("models", {})
    if not values["models"]:
        values["models"] = msgspec.to_builtins(DEFAULT_MODELS)
    return adapting(check(convert(values)))


def check_variables(environ: Mapping[str, str]) -> None:
    """A variable that nobody reads is most likely misspelt."""
    known = [CONFIG, *(PREFIX + key.upper() for key in KEYS if key != "models")]
    for name, value in environ.items():
        if name.startswith(PREFIX) and value != "" and name not in known:
            raise SettingsError(f"{name} is not a setting.{nearest(name, known)}")


def find_file(environ: Mapping[str, str], folder: Path) -> Path | None:
    """The file in force; raises SettingsError for a named one that is none."""
    named = environ.get(CONFIG)
    home = expand(environ.get(PREFIX + "HOME") or Settings().home)
    candidates = [folder / "aihub.toml", home / "aihub.toml"]
    for path in [Path(named)] if named else candidates:
        try:
            if path.is_file():
                return path
        except (OSError, ValueError) as error:
            raise SettingsError(f"{path} cannot be looked up: {error}") from error
    if named:
        raise SettingsError(f"{CONFIG} names {named}, which is not a file")
    return None


def read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error


def convert(values: dict[str, Any]) -> Settings:
    models = values["models"]
    if not isinstance(models, dict):
        raise SettingsError("models: must be tables, [models.NAME]")
    for name, table in models.items():
        try:
            msgspec.convert(table, Model, strict=False)
        except msgspec.ValidationError as error:
            raise SettingsError(explain_model(str(error), Model, name)) from error
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(explain(str(error), Settings, values)) from error
