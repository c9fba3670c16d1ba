"""What `aihub up` prints when the hub answers: where it is, the key, and lines to paste."""

from __future__ import annotations

import shlex

from deploy import models
from deploy.key import Key
from shared.catalog import Catalog
from shared.settings import Settings

VARIABLE = "AIHUB_ADMIN_KEY"


def address(settings: Settings) -> str:
    """host:port of the gateway as a client on this machine reaches it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"


def base_url(settings: Settings) -> str:
    return f"http://{address(settings)}/v1"


def compose(settings: Settings, key: Key) -> str:
    url = base_url(settings)
    model = next((e.name for e in Catalog(settings.models) if e.model.kind == "chat"), None)
    parts = [f"base_url   {url}", f"key        {describe(key)}"]
    parts.append(f"models     {', '.join(settings.models)}")
    parts += [f"missing    {name}: {path}" for name, path in models.absent(settings)]
    if model is not None:
        parts += ["", "From the shell:", "", curl(url, key, model)]
        parts += ["", "From Python (pip install openai):", "", python(url, key, model)]
    parts += ["", "`aihub chat` talks to it here. Ctrl-C stops everything.", ""]
    return "\n".join(parts)


def describe(key: Key) -> str:
    if key.path is None:
        return f"the admin_key of your settings (put it into {VARIABLE} for the lines below)"
    if key.fresh:
        return f"{key.value}   shown this once, kept in {key.path}"
    return f"in {key.path}"


def curl(url: str, key: Key, model: str) -> str:
    if key.path is None:
        secret = f"${VARIABLE}"
    elif key.fresh:
        secret = key.value
    else:
        secret = f"$(cat {shlex.quote(str(key.path))})"
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Say hello."}}]}}'
    return (
        f"curl {url}/chat/completions \\\n"
        f'  -H "Authorization: Bearer {secret}" \\\n'
        f'  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(body)}"
    )


def python(url: str, key: Key, model: str) -> str:
    imports = ""
    if key.path is None:
        imports, secret = "import os\n", f'os.environ["{VARIABLE}"]'
    elif key.fresh:
        secret = repr(key.value)
    else:
        imports = "from pathlib import Path\n"
        secret = f"Path({str(key.path)!r}).read_text().strip()"
    return (
        f"{imports}from openai import OpenAI\n"
        f"client = OpenAI(base_url={url!r}, api_key={secret})\n"
        f"stream = client.chat.completions.create(\n"
        f"    model={model!r},\n"
        f'    messages=[{{"role": "user", "content": "Say hello."}}],\n'
        f"    stream=True,\n)\n"
        f'print("".join(chunk.choices[0].delta.content or "" for chunk in stream))'
    )
