"""Every Redis key and every lifetime. Job, in-progress, retry and abort keys are arq's own."""

from __future__ import annotations

from arq.constants import (
    abort_jobs_ss,
    in_progress_key_prefix,
    job_key_prefix,
    retry_key_prefix,
)

LEASE_MS = 3_000
"""A claimed job belongs to its worker this long after the last renewal."""
REPLY_MS = 6_000
"""A gateway that has not read for this long is dead; its reply stream goes."""
WORKER_MS = 5_000
"""A worker whose heartbeat is older than this is dead."""
CONTROL_MS = 10_000
"""Messages to a worker that nobody reads are dropped after this."""
WAKE_MS = 10_000
"""So are calls for work."""

FLIGHT_MS = 3_000
"""Who computes an answer for others has it to himself for so long after saying so."""
ALONE_MS = 2_000
"""For so long after an answer failed each who asks the same computes it for himself."""
PURGE_MS = 2 * 86_400_000
"""Longer than any request."""

KEEPERS_MS = 60_000
"""Who keeps which model is forgotten when no worker of the lane has said it again for this long."""
ORDER_MS = 60_000
"""The answer to an order is kept for this long."""

JOB = job_key_prefix
IN_PROGRESS = in_progress_key_prefix
RETRY = retry_key_prefix
ABORT = abort_jobs_ss
WORKERS = "aihub:workers"
CACHE = ("aihub:cache:bytes", "aihub:cache:notes", "aihub:cache:used", "aihub:cache:ends")
"""The index of kept answers: bytes in all, a hash of notes, sorted sets of last uses and ends."""
ANSWER = "aihub:cache:answer:"
LANDED = "aihub:cache:landed"
"""Channel on which the end of each flight is told."""
KEYS_CHANGED = "aihub:keys-changed"
USAGE = "aihub:usage"
"""Stream of UsageEvents on their way to the database."""
USAGE_LOST = "aihub:usage-lost"
"""How many found the stream full."""
TRAINING = "aihub:training"
"""Channel: each message names a fine-tuning job that has moved, or says that models changed."""
TRAINING_QUEUE = "aihub:training-queue"
"""Sorted set of the jobs of trainers, as arq keeps them."""
HOLDS = "aihub:holds"
"""Sorted set of the jobs that hold something, by when they are to be looked at next."""
HOLD = "aihub:held:"
TALLY = "aihub:tally:"
LEASE_WORD = "lease"
"""On the channel of TRAINING: a worker has said another word to a trainer."""
WORDS = "aihub:words:"
"""What is known of a job's use, for when those who count it are dead."""
WORDS_MS = 86_400_000


def queue(model: str) -> str:
    """Sorted set of the jobs of one model, waiting and running, as arq keeps them."""
    return f"aihub:queue:{model}"


def wake(worker: str) -> str:
    """List a worker blocks on; each element names a queue it is called for."""
    return f"aihub:wake:{worker}"


def keepers(lane: str) -> str:
    """Hash of the worker that keeps each model of a lane that is to be loaded unasked."""
    return f"aihub:keepers:{lane}"


def wishes(host: str, device: str) -> str:
    """Hash of the Wish of each trainer for room on a device; the device's worker takes them."""
    return f"aihub:wishes:{host}:{device}"


def word(wishes: str, trainer: str) -> str:
    """What the worker says to that trainer."""
    return f"{wishes}:{trainer}"


def control(worker: str) -> str:
    """List of Control messages to one worker."""
    return f"aihub:control:{worker}"


def order(id_: str) -> str:
    """Answer to one Order of an administrator."""
    return f"aihub:order:{id_}"


def reply(gateway: str) -> str:
    """Stream of Batches to one gateway."""
    return f"aihub:reply:{gateway}"


def worker(name: str) -> str:
    """Heartbeat of one worker."""
    return f"aihub:worker:{name}"


def share(model: str, key: str) -> str:
    """When the next job of this API key on this queue falls due, in virtual time."""
    return f"aihub:share:{model}:{key}"


def answer(digest: str) -> str:
    """What is kept of one answer; named by the digest of its request in hex."""
    return ANSWER + digest


def flight(digest: str, service: str) -> str:
    """Who computes the answer to a request for all of one class who wait for it."""
    return f"aihub:cache:flight:{digest}:{service}"


def purge(project: str, model: str) -> str:
    """When answers were purged last, in epoch ms; an empty name stands for all."""
    return f"aihub:cache:purge:{project}:{model}"


def purge_meant(project: str, model: str) -> str:
    """The same of answers to questions that mean the same."""
    return f"aihub:cache:purge-meant:{project}:{model}"


def session(digest: str) -> str:
    """One login; named by the digest of the cookie in hex."""
    return f"aihub:session:{digest}"


def sessions(digest: str) -> str:
    """List of the session keys of one API key, named by its digest in hex; the newest first."""
    return f"aihub:sessions:{digest}"


def tally(owner: str, id_: str) -> str:
    """All that is counted of a key or a project. With `:log` behind it the list of the times of its
    requests in the last minute, with `:seconds` the hash of its tokens by the second."""
    return f"{TALLY}{owner}:{id_}"
