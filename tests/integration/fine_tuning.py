"""A gateway without a trainer, where fine-tuning jobs and what comes of them are only rows."""

from __future__ import annotations

import json
from typing import Any

import psycopg
from openai import OpenAI

from tests.contract.client import Client, Reply
from tests.gateway import KEY

TOML = """
train_python = "/usr/bin/python3"
train_jobs = 6
[models.tiny]
engine = "llamacpp"
file = "tiny.gguf"
train_weights = "tiny"
[models.fixed]
engine = "ollama"
[models.card]
engine = "vllm"
weights = "tiny"
python = "/usr/bin/python3"
max_lora_rank = 8
[models.bare]
engine = "vllm"
weights = "tiny"
python = "/usr/bin/python3"
max_lora_rank = 0
"""
LINE = json.dumps({"messages": [{"role": "user", "content": "a"}]}) + "\n"


class Place:
    def __init__(self, base_url: str, database_url: str) -> None:
        self.base_url = base_url
        self.client = Client(base_url, KEY)
        self.sdk = OpenAI(base_url=base_url, api_key=KEY, max_retries=0)
        self._database_url = database_url

    def post(self, path: str, **fields: Any) -> Reply:
        return self.client.send("POST", path, json.dumps(fields).encode())

    def create(self, **fields: Any) -> dict[str, Any]:
        fields = {"name": "mine", "base_model": "tiny", "dataset_path": "a.jsonl"} | fields
        reply = self.post("//api/v1/training/jobs", **fields)
        assert reply.status == 200, reply.body
        made: dict[str, Any] = reply.json
        return made

    def execute(self, query: str, **values: Any) -> None:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            connection.execute(query.encode(), values)

    def publish(self, name: str, job: str) -> None:
        self.execute(
            "INSERT INTO tuned_model (name, project_id, base, job_id, path, bytes)"
            " VALUES (%(name)s, 'proj_default', 'tiny', %(job)s, 'x', 1)",
            name=name,
            job=job,
        )


def refused(reply: Reply, status: int, param: str) -> None:
    assert (reply.status, reply.error["param"]) == (status, param), reply.body
