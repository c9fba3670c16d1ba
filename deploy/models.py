"""`aihub models`: the catalog of the settings, what of it is on this machine, and how it stands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy import model_store
from shared.catalog import Catalog, Entry
from shared.redact import redact
from shared.settings import Model, Settings


def main(settings: Settings, options: argparse.Namespace) -> int:
    if options.action == "estimate":
        from deploy import estimate

        return estimate.main(settings, options)
    if options.action is not None:
        from deploy import model_orders

        return model_orders.main(settings, options)
    if options.fetch:
        try:
            model_store.prepare(settings, lambda text: print(text, flush=True))
        except model_store.ModelStoreError as error:
            print(f"aihub models: {error}", file=sys.stderr)
            return 1
        return 0
    from deploy.model_orders import states

    print("\n".join(rows(settings, states(settings))))
    return 0


def rows(settings: Settings, states: Mapping[str, str] | None = None) -> Iterator[str]:
    """`states` are those of the running hub, if there is one."""
    width = max((len(name) for name in settings.models), default=4)
    wide = max((len(state) for state in (states or {}).values()), default=5)
    state = "" if states is None else f"  {'state':<{wide}}"
    yield f"{'name':<{width}}  {'engine':<8}  {'kind':<9}  {'lane':<6}{state}  where"
    catalog = Catalog(settings.models)
    for entry in catalog:
        model = entry.model
        state = "" if states is None else f"  {states.get(entry.name, ''):<{wide}}"
        yield (
            f"{entry.name:<{width}}  {model.engine:<8}  {model.kind:<9}  {model.lane:<6}"
            f"{state}  {where(settings, entry)}"
        )
    for name, model in catalog.servers.items():
        state = "" if states is None else f"  {'':<{wide}}"
        yield (
            f"{name:<{width}}  {model.engine:<8}  {'all':<9}  {model.lane:<6}"
            f"{state}  every model of {shown(model)}"
        )


def where(settings: Settings, entry: Entry) -> str:
    path = file(settings, entry)
    if path is None:
        return f"{shown(entry.model)} as {entry.model.upstream_model or entry.name}"
    if not path.is_file():
        if fetchable(entry):
            return f"{path} (missing: `aihub models --fetch`, or `aihub up`)"
        return f"{path} (missing: put it there, or correct models.{entry.name}.file)"
    return f"{path} ({path.stat().st_size / 1e6:.0f} MB)"


def shown(model: Model) -> str:
    """Where a server is, without what is secret."""
    return redact("url", model.url) if model.url else "the Ollama server of this machine"


def fetchable(entry: Entry) -> bool:
    """Whether the file is one of those that `--fetch` makes."""
    return entry.model.file in model_store.PRODUCTS


def absent(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Name and path of each model whose file is not here."""
    for entry in Catalog(settings.models):
        path = file(settings, entry)
        if path is not None and not path.is_file():
            yield entry.name, path


def file(settings: Settings, entry: Entry) -> Path | None:
    """The weights of a llamacpp model."""
    if entry.model.file is None:
        return None
    return settings.folder / "models" / Path(entry.model.file).expanduser()
