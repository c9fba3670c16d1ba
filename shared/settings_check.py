"""What the types of the settings cannot say. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec.structs import fields, replace

from shared.files import address
from shared.redact import redact
from shared.size import parse_size
from shared.vllm import OURS, RANK, RANKS

if TYPE_CHECKING:
    from shared.settings import Model, Settings

PREFIX = "AIHUB_"
ANY = "*"
"""In the name of a table: it stands for every model of a server."""
DEVICE = re.compile(r"cpu|cpu:\d+|cuda:\d+")
NEEDED = {
    "llamacpp": ("file",),
    "openai": ("url",),
    "vllm": ("weights", "python"),
    "transformers": ("weights", "python"),
}
PER_MODEL = ("kind", "upstream_model", "aliases", "pin", "adapters")
"""What every model of a server has of its own."""
RANGES = (
    ("context", 16, 10_000_000),
    ("parallel", 1, 1024),
    ("threads", 1, 1024),
    ("tensor_parallel", 1, 64),
    ("max_loras", 1, 256),
    ("loaded_adapters", 1, 1024),
    ("quality", 1, 10),
)


class SettingsError(Exception):
    """A setting is wrong; the message names the key and what is allowed."""


def check(settings: Settings) -> Settings:
    """What types cannot say."""
    bounds = {
        "port": (0, 65535),
        "gateways": (1, 64),
        "queue_limit": (1, 100_000),
        "max_body": (1024, 1 << 30),
        "request_timeout": (1, 86_400),
        "drain_timeout": (0, 3_600),
        "train_jobs": (1, 10_000),
        "usage_months": (0, 1_200),
        "cache_bytes": (0, 1 << 40),
        "cache_entry_bytes": (1, 256 * 1024 * 1024),
        "cache_seconds": (1, 30 * 86_400),
    }
    for key, (low, high) in bounds.items():
        value = getattr(settings, key)
        if value is not None and not low <= value <= high:
            raise SettingsError(
                f"{key}, or {PREFIX}{key.upper()}: {value} is out of range."
                f" Allowed: {low} to {high}."
            )
    check_devices(settings.devices, settings.memory)
    if not re.fullmatch(r"cpu|cuda:\d+", settings.train_device):
        raise SettingsError(
            f"train_device, or {PREFIX}TRAIN_DEVICE: {settings.train_device!r} is unknown."
            " Allowed: cpu, cuda:0, …"
        )
    for key in ("file_limit", "file_quota"):
        check_size(key, getattr(settings, key))
    if settings.file_store_url is not None:
        try:
            address.parse(settings.file_store_url)
        except ValueError as error:
            raise SettingsError(f"file_store_url, or {PREFIX}FILE_STORE_URL: {error}") from error
    schemes = {"database_url": ("postgresql", "postgres"), "redis_url": ("redis", "rediss", "unix")}
    for key, names in schemes.items():
        if (url := getattr(settings, key)) is not None:
            check_url(f"{key}, or {PREFIX}{key.upper()}", url, names)
    expand(settings.home)
    check_admin_key(settings.admin_key)
    for name, model in settings.models.items():
        check_model(name, model)
    check_names(settings.models)
    return settings


def adapting(settings: Settings) -> Settings:
    """What is left open where the hub fine-tunes: vLLM takes adapters only if it is told at its
    start, and its tuned models are adapters."""
    if settings.train_python is None:
        return settings
    models = {
        name: replace(model, max_lora_rank=RANK)
        if model.engine == "vllm" and model.max_lora_rank is None
        else model
        for name, model in settings.models.items()
    }
    return replace(settings, models=models)


def check_devices(devices: tuple[str, ...], memory: str | None) -> None:
    where = f"device, or {PREFIX}DEVICE"
    for name in devices:
        if not DEVICE.fullmatch(name):
            raise SettingsError(
                f"{where}: {name!r} is unknown. Allowed: cpu, cuda:0, …, several of them with"
                " commas between; cpu:0, cpu:1, … for shares of the RAM."
            )
        if devices.count(name) > 1:
            raise SettingsError(f"{where}: {name!r} is listed twice")
    if memory is not None:
        try:
            parse_size(memory)
        except ValueError as error:
            raise SettingsError(f"memory, or {PREFIX}MEMORY: {error}") from error
    elif sum(name.startswith("cpu") for name in devices) > 1:
        raise SettingsError(
            f"memory, or {PREFIX}MEMORY: it says how large each share of the RAM is, which"
            " several workers on the CPU need."
        )


def check_size(key: str, text: str) -> None:
    where = f"{key}, or {PREFIX}{key.upper()}"
    try:
        size = parse_size(text)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error
    if not 1024 <= size < 1 << 50:
        raise SettingsError(f"{where}: {text} is out of range. Allowed: 1KiB to 1023TiB.")


def check_url(where: str, url: str, schemes: tuple[str, ...]) -> None:
    shown = redact("url", url)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SettingsError(f"{where}: {shown!r} is no URL: {error}") from error
    if parts.scheme not in schemes:
        raise SettingsError(
            f"{where}: unknown scheme in {shown!r}."
            f" Allowed: {', '.join(f'{scheme}://' for scheme in schemes)}."
        )
    # A URL of PostgreSQL may name several hosts.
    for host in parts.netloc.rpartition("@")[2].split(","):
        port = re.search(r":([^\]:]*)$", host)
        if port and port[1] and not (port[1].isdecimal() and 1 <= int(port[1]) <= 65535):
            raise SettingsError(f"{where}: the port in {shown!r} must be 1 to 65535")


def check_admin_key(key: str | None) -> None:
    if key is None:
        return
    where = f"admin_key, or {PREFIX}ADMIN_KEY"
    if len(key) < 16:
        raise SettingsError(f"{where}: must have at least 16 characters")
    if any(not "!" <= character <= "~" for character in key):
        raise SettingsError(f"{where}: must be printable ASCII without spaces, to fit in a header")


def check_model(name: str, model: Model) -> None:
    if not name.strip():
        raise SettingsError("models: a model's name is empty")
    if ANY in name:
        check_server(name, model)
    for needed in NEEDED.get(model.engine, ()):
        if not getattr(model, needed):
            raise SettingsError(f"models.{name}.{needed}: engine {model.engine!r} needs it")
    if model.url is not None:
        check_upstream(name, model.engine, model.url)
    if model.adapters and (model.engine in ("openai", "ollama") or model.kind != "chat"):
        raise SettingsError(
            f"models.{name}.adapters: engine {model.engine!r} takes none for {model.kind} models"
        )
    for key, low, high in RANGES:
        value = getattr(model, key)
        if value is not None and not low <= value <= high:
            raise SettingsError(
                f"models.{name}.{key}: {value} is out of range. Allowed: {low} to {high}."
            )
    if model.engine == "vllm":
        check_vllm(name, model)


def check_server(name: str, model: Model) -> None:
    if model.engine != "ollama":
        raise SettingsError(
            f"models.{name}.engine: {ANY!r} stands for the models of a server, which engine"
            " 'ollama' can list. Give other models a table each, without it."
        )
    if name.count(ANY) > 1:
        raise SettingsError(f"models.{name}: one {ANY!r} stands for the server's own name")
    defaults = {field.name: field.default for field in fields(model)}
    for key in PER_MODEL:
        if getattr(model, key) not in (defaults[key], {}):
            raise SettingsError(
                f"models.{name}.{key}: each model of the server has its own. One that is to have"
                " another gets a table without a '*'."
            )


def check_vllm(name: str, model: Model) -> None:
    if model.kind != "chat":
        raise SettingsError(f"models.{name}.kind: engine 'vllm' serves chat models only")
    if model.max_lora_rank not in (None, 0, *RANKS):
        allowed = ", ".join(map(str, RANKS))
        raise SettingsError(f"models.{name}.max_lora_rank: allowed: {allowed}; 0: no adapters")
    if model.max_lora_rank == 0 and model.adapters:
        raise SettingsError(f"models.{name}.max_lora_rank: 0 takes none of its adapters")
    for argument in model.arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        if flag in OURS:
            raise SettingsError(f"models.{name}.arguments: {flag} is set by the hub")


def check_upstream(name: str, engine: str, url: str) -> None:
    if engine == "ollama":
        if "/" in url and not url.startswith("http://"):
            raise SettingsError(f"models.{name}.url: allowed are host:port and http://host:port")
        return
    check_url(f"models.{name}.url", url, ("http", "https", "unix"))
    parts = urlsplit(url)
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise SettingsError(
            f"models.{name}.url: allowed are http://host:port/v1, https:// and unix:/path"
        )


def check_names(models: Mapping[str, Model]) -> None:
    """A name belongs to one model, as its own, as an alias or as one of its adapters."""
    taken = set(models)
    for name, model in models.items():
        for key, what, others in (
            ("aliases", "an alias", model.aliases),
            ("adapters", "an adapter's name", model.adapters),
        ):
            for other in others:
                if not other.strip():
                    raise SettingsError(f"models.{name}.{key}: {what} is empty")
                if other in taken:
                    raise SettingsError(f"models.{name}.{key}: {other!r} is taken")
                taken.add(other)
        for adapter, path in model.adapters.items():
            if not path.strip():
                raise SettingsError(f"models.{name}.adapters: {adapter!r} has no path")


def expand(home: str) -> Path:
    try:
        return Path(home).expanduser()
    except RuntimeError as error:
        raise SettingsError(
            f"home, or {PREFIX}HOME: {home!r} names no account of this machine, or one without a"
            " home folder. Allowed: the path of a folder."
        ) from error
