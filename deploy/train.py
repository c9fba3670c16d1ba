"""`aihub train`: jobs of fine-tuning in the running hub, with their progress."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from deploy.admin import Admin, Fields, reach, table, when
from deploy.files import save
from deploy.sending import Sender
from deploy.stream import ApiError, Client
from shared.settings import Settings
from shared.size import spell_size

LOOK_EVERY = 0.5
LATEST = 100
"""Events of one look."""
WIDTH = 24
ENDED = ("succeeded", "failed", "cancelled")
JOBS = "/fine_tuning/jobs"
EXPORTS = "/fine_tuning/exports"


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Exit status 1 when the hub refuses or does not answer, or a job that is watched fails."""
    act = {
        "create": create,
        "estimate": estimate,
        "list": show,
        "watch": watch,
        "cancel": move,
        "pause": move,
        "resume": move,
        "loss": picture,
        "export": export,
    }[options.action]
    return reach(settings, options, lambda client: act(client, options), below="")


def create(client: Client, options: argparse.Namespace) -> None:
    admin = Admin(client)
    made = admin.send("POST", JOBS, asked(client, options))
    print(made["id"])
    if not options.detach:
        follow(admin, made["id"])


def estimate(client: Client, options: argparse.Namespace) -> None:
    """A job that stops before its first step; raises ApiError where its files are no good."""
    admin = Admin(client)
    fields = asked(client, options)
    fields["aihub"]["hold"] = True
    path = f"{JOBS}/{quote(admin.send('POST', JOBS, fields)['id'])}"
    try:
        while (job := admin.send("GET", path))["status"] in ("validating_files", "queued"):
            time.sleep(LOOK_EVERY)
    finally:
        with suppress(ApiError):
            admin.send("POST", f"{path}/cancel")
    if job["aihub"]["plan"] is None:
        raise ApiError(f"the job {job['status']}: {(job['error'] or {}).get('message', '')}")
    for line in planned(job["aihub"]["plan"]):
        print(line)


def planned(plan: Fields) -> Iterator[str]:
    """What a job would be, line by line, with the reasons."""
    chosen = plan["hyperparameters"]
    together = chosen["batch"] * chosen["accumulation"]
    yield f"{plan['steps']} steps of {together} examples, {chosen['epochs']} epochs"
    yield f"{plan['tokens']} tokens an epoch"
    terms = ", ".join(f"{name} {spell_size(size)}" for name, size in plan["estimate"].items())
    yield lasting(plan["time"])
    first, *smaller = plan["sizes"]
    yield f"{spell_size(first['bytes'])} of the device, {first['basis']}; by a dry run {terms}"
    for size in smaller:
        yield f"  {spell_size(size['bytes'])} with {size['batch']} at once, {size['basis']}"
    for reason in plan["reasons"]:
        yield f"{reason['name']} {reason['value']}: {reason['why']}"


def lasting(time: Fields | None) -> str:
    """How long it would take, and how that is known."""
    if time is None:
        return "no time can be told: no job has ended on this device yet"
    minutes, seconds = divmod(round(time["seconds"]), 60)
    hours, minutes = divmod(minutes, 60)
    told = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
    pace = f"{time['tokens_per_second']:.0f} tokens/s"
    return f"{told} at {pace}, {time['basis']}: {time['source']}"


def asked(client: Client, options: argparse.Namespace) -> Fields:
    """The job's fields; its files are uploaded."""
    chosen: Fields = {
        "n_epochs": options.epochs,
        "batch_size": options.batch,
        "learning_rate_multiplier": options.rate,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    fields: Fields = {
        "model": options.model,
        "training_file": upload(client, options.file),
        "method": {"type": options.method, options.method: {"hyperparameters": given}},
        "suffix": options.name,
        "seed": options.seed,
        "aihub": {
            "training_type": options.type,
            "prompts": options.prompt or [],
            "served_by": options.served_by or [],
        },
    }
    if options.validation is not None:
        fields["validation_file"] = upload(client, options.validation)
    return {name: value for name, value in fields.items() if value is not None}


def upload(client: Client, name: str) -> str:
    """The id of a file, once the hub has it."""
    path = Path(name)
    try:
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            return Sender(client, path.name, source).send(size, "fine-tune", None)
    except OSError as error:
        raise ApiError(f"{name} cannot be read: {error.strerror}") from error


def show(client: Client, options: argparse.Namespace) -> None:
    admin = Admin(client)
    rows = [
        (
            one["id"],
            standing(one),
            steps(one),
            one["model"],
            when(one["created_at"]),
            one["fine_tuned_model"] or "-",
        )
        for one in admin.send("GET", f"{JOBS}?limit={options.last}")["data"]
    ]
    table(("id", "status", "step", "base", "since", "model"), rows)


def standing(job: Fields) -> str:
    place = job["aihub"]["place"]
    return job["status"] if place is None else f"{job['status']} (place {place})"


def steps(job: Fields) -> str:
    told = job["aihub"]
    return "-" if told["steps"] is None else f"{told['step']}/{told['steps']}"


def watch(client: Client, options: argparse.Namespace) -> None:
    follow(Admin(client), options.job)


def move(client: Client, options: argparse.Namespace) -> None:
    job = Admin(client).send("POST", f"{JOBS}/{quote(options.job)}/{options.action}")
    print(f"{job['id']} is {job['status']}")


def picture(client: Client, options: argparse.Namespace) -> None:
    target = Path(options.to or f"{options.job}.svg")
    drawn = client.send("GET", f"{JOBS}/{quote(options.job)}/loss.svg")
    try:
        target.write_bytes(drawn)
    except OSError as error:
        raise ApiError(f"{target} cannot be written: {error.strerror}") from error
    print(target)


def export(client: Client, options: argparse.Namespace) -> None:
    """Waits for it and fetches it; the hub keeps it as a file, too."""
    admin = Admin(client)
    fields: Fields = {"model": options.model, "format": options.format}
    if options.quantisation is not None:
        fields["quantisation"] = options.quantisation
    made = admin.send("POST", EXPORTS, fields)
    path = f"{EXPORTS}/{quote(made['id'])}"
    try:
        while (made := admin.send("GET", path))["status"] in ("queued", "running"):
            time.sleep(LOOK_EVERY)
    except KeyboardInterrupt:
        admin.send("DELETE", path)
        raise
    if made["status"] != "succeeded":
        raise ApiError(f"the export {made['status']}: {made['error']['message']}")
    target = Path(options.out or admin.send("GET", f"/files/{made['file_id']}")["filename"])
    save(client, made["file_id"], target)
    print(f"{target} ({spell_size(made['bytes'])}, {made['file_id']})")


def follow(admin: Admin, id_: str) -> None:
    """Prints what happens until the job ends; raises ApiError if it fails."""
    path = f"{JOBS}/{quote(id_)}"
    last, bar = "", Bar()
    while True:
        # First the job: what it did before it ended is told then.
        job = admin.send("GET", path)
        newest = admin.send("GET", f"{path}/events?limit={LATEST}")["data"]
        for event in reversed([each for each in newest if each["id"] > last]):
            last = event["id"]
            if event["type"] == "metrics" and "train_loss" in event["data"]:
                bar.show(event["data"])
            else:
                bar.say(event["message"])
        if job["status"] in ENDED:
            break
        time.sleep(LOOK_EVERY)
    if job["status"] != "succeeded":
        told = job["error"]["message"] if job["error"] else ""
        raise ApiError(f"the job {job['status']}{': ' if told else ''}{told}")
    print(job["fine_tuned_model"])


class Bar:
    """The last line of a terminal; elsewhere a line for each step."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._drawn = False

    def show(self, step: Fields) -> None:
        text = progress(step)
        if self._live:
            print(f"\r\x1b[K{text}", end="", flush=True)
            self._drawn = True
        else:
            print(text, flush=True)

    def say(self, text: str) -> None:
        if self._drawn:
            print()
            self._drawn = False
        print(text, flush=True)


def progress(step: Fields) -> str:
    """A step in one line."""
    number, of = step["step"], step["total_steps"]
    full = WIDTH * number // max(1, of)
    bar = "#" * full + "." * (WIDTH - full)
    words = [f"[{bar}] step {number}/{of}", f"loss {step['train_loss']:.4f}"]
    words += [f"{step['tokens_per_second']:.0f} tokens/s", f"{step['eta_seconds']:.0f} s left"]
    return ", ".join(words)
