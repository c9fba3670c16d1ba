"""`aihub models estimate`: what a model will hold, and what fits. Nothing is loaded."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from shared.catalog import Catalog
from shared.estimate import Estimate, estimate
from shared.fit import MOST_PARALLEL, Fit, fit
from shared.load import Load, load_of, weights_path
from shared.settings import Settings
from shared.size import parse_size, spell_size
from shared.weights import Stored, Weights, WeightsError, read

CARDS = (8, 12, 16, 24, 32, 48, 80, 141)
"""GiB of common cards."""
CONTEXT = 4096
PARALLEL = 4
DOES_NOT_FIT = 3
"""Exit status."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints; sizes in bytes."""

    name: str
    path: str
    architecture: str
    parameters: int
    source: str
    stored: tuple[Stored, ...]
    trained_context: int
    estimate: Estimate
    total: int
    fit: Fit | None
    """None where no device is known."""
    smallest_card: int | None
    """Bytes of the smallest common card that it fits on; None: on none, or it runs on the CPU."""


def main(settings: Settings, options: argparse.Namespace) -> int:
    try:
        report = make(settings, options)
    except (WeightsError, ValueError) as error:
        print(f"aihub models estimate: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        print("\n".join(lines(report)))
    return 0 if report.fit is None or report.fit.fits else DOES_NOT_FIT


def make(settings: Settings, options: argparse.Namespace) -> Report:
    path, load = asked(settings, options)
    weights = read(path)
    if load is None:
        load = plain(weights)
    load = msgspec.structs.replace(load, **overrides(load, weights, options))
    found = estimate(weights, load)
    size = parse_size(options.device) if options.device else None
    if size is None and load.device == "cpu":
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cards = (gibibytes << 30 for gibibytes in CARDS)
    return Report(
        name=options.name,
        path=str(path),
        architecture=weights.shape.architecture,
        parameters=weights.parameters,
        source=weights.source,
        stored=weights.stored,
        trained_context=weights.shape.context,
        estimate=found,
        total=found.total,
        fit=None if size is None else fit(weights, load, size),
        smallest_card=next((card for card in cards if card >= found.total), None)
        if load.device == "cuda"
        else None,
    )


def asked(settings: Settings, options: argparse.Namespace) -> tuple[Path, Load | None]:
    """The files that NAME stands for, a catalog entry's or a path; the load of a catalog entry."""
    path = Path(options.name).expanduser()
    catalog = Catalog(settings.models)
    if options.name not in catalog:
        if not path.exists():
            known = ", ".join(settings.models)
            raise WeightsError(
                f"{options.name!r} is neither a model of the settings ({known}), nor a GGUF file,"
                " nor a Hugging Face folder on this machine."
            )
        return path, None
    entry = catalog.find(options.name)
    return weights_path(entry.name, entry.model, settings), load_of(entry.model, settings)


def plain(weights: Weights) -> Load:
    """How files that are in no settings are run, unless the command line says otherwise."""
    gguf = weights.source == "gguf"
    return Load(
        engine="llamacpp" if gguf else "vllm",
        device="cpu" if gguf else "cuda",
        context=min(CONTEXT, weights.shape.context),
        parallel=PARALLEL,
        embedding=not any(layer.values for layer in weights.shape.layers),
    )


def overrides(
    load: Load, weights: Weights, options: argparse.Namespace
) -> dict[str, str | int | None]:
    """The fields that the command line sets; raises ValueError for what cannot be."""
    given = {
        "engine": options.engine,
        "device": options.on,
        "dtype": options.dtype,
        "context": options.context,
        "parallel": options.parallel,
    }
    for name in ("context", "parallel"):
        if given[name] is not None and given[name] < 1:
            raise ValueError(f"--{name} must be at least 1.")
    engine = given["engine"] or load.engine
    if engine == "llamacpp" and weights.source != "gguf":
        raise ValueError("llamacpp runs GGUF files only. Name one, or another --engine.")
    if engine != "llamacpp" and weights.source == "gguf":
        raise ValueError(f"{engine} runs Hugging Face folders, not GGUF files.")
    return {name: value for name, value in given.items() if value is not None}


def lines(report: Report) -> Iterator[str]:
    found = report.estimate
    types = ", ".join(f"{stored.type} {spell_size(stored.bytes)}" for stored in report.stored)
    yield f"{report.name}: {report.architecture}, {millions(report.parameters)} parameters"
    yield f"  {report.path}"
    yield f"  in the files ({report.source}): {types}"
    yield (
        f"  {found.engine} on {found.device}, {found.parallel} requests of"
        f" {found.context} tokens each"
    )
    yield ""
    for name, size in found.terms.items():
        if size:
            yield f"{name.replace('_', ' '):<14}{spell_size(size):>12}"
    filling = f"   {spell_size(found.filling)} of it only with use" if found.filling else ""
    yield f"{'total':<14}{spell_size(report.total):>12}{filling}"
    yield ""
    yield from verdict(report)
    if found.context > report.trained_context:
        yield f"Note: the model was trained for {report.trained_context} tokens."
    yield from (f"Note: {note}" for note in found.notes)


def verdict(report: Report) -> Iterator[str]:
    if report.fit is None:
        card = report.smallest_card
        yield f"fits a card of {card >> 30} GiB" if card else "fits no single card"
        return
    fitting = report.fit
    word, rest = ("fits", "left") if fitting.fits else ("does not fit", "missing")
    size, spare = spell_size(fitting.device_bytes), spell_size(abs(fitting.spare))
    yield f"{word} {size}: {spare} {rest}"
    asked = report.estimate
    if fitting.largest_context is None:
        yield f"  no context fits with {asked.parallel} requests"
    else:
        whole = fitting.largest_context >= report.trained_context
        all_of_it = ", all that the model knows" if whole else ""
        yield f"  {asked.parallel} requests: up to {fitting.largest_context} tokens{all_of_it}"
    if fitting.largest_parallel is None:
        yield f"  not even one request of {asked.context} tokens fits"
    else:
        more = " or more" if fitting.largest_parallel == MOST_PARALLEL else ""
        yield f"  {asked.context} tokens: up to {fitting.largest_parallel}{more} requests"


def millions(count: int) -> str:
    return f"{count / 1e9:.2f} billion" if count >= 1e9 else f"{count / 1e6:.1f} million"
