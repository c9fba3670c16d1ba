"""`aihub budgets`: list, set, remove."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from decimal import Decimal

from deploy.admin import Admin, Fields, run, table
from deploy.options import MICROS
from deploy.stream import ApiError
from shared.settings import Settings

EVERYTHING = {"/projects": "include_archived", "/keys": "include_revoked"}


def main(settings: Settings, options: argparse.Namespace) -> int:
    act = {"list": show, "set": put, "remove": remove}[options.action]
    return run(settings, options, lambda admin: act(admin, options))


def owner(admin: Admin, options: argparse.Namespace) -> Fields:
    """`{"key": id}` or `{"project": id}`; empty when neither is asked for."""
    if options.of_key is not None:
        return {"key": admin.named("/keys", options.of_key)["id"]}
    if options.of_project is not None:
        return {"project": admin.named("/projects", options.of_project)["id"]}
    return {}


def show(admin: Admin, options: argparse.Namespace) -> None:
    names = {
        one["id"]: one["name"]
        for path in ("/projects", "/keys")
        for one in admin.listed(path, **{EVERYTHING[path]: "true"})
    }
    rows = [
        (
            one["id"],
            f"{one['owner']} {names.get(one['owner_id'], one['owner_id'])}",
            one["period"],
            *amounts(one, "tokens", str),
            *amounts(one, "micros", money),
        )
        for one in admin.listed("/budgets", **owner(admin, options))
    ]
    table(("id", "of", "period", "tokens", "spent", "held", "money", "spent", "held"), rows)


def amounts(one: Fields, kind: str, written: Callable[[int], str]) -> tuple[str, str, str]:
    """The limit, and what is spent and held in this period."""
    use = one["use"]
    limit = "-" if one[kind] is None else written(one[kind])
    return limit, written(use[kind]), written(use[f"{kind}_held"])


def put(admin: Admin, options: argparse.Namespace) -> None:
    """Makes the budget, or changes the one there is for this owner and period."""
    if options.tokens is None and options.money is None:
        raise ApiError("say how much: --tokens, --money or both")
    amounts = {"tokens": options.tokens, "micros": options.money}
    ((kind, id_),) = owner(admin, options).items()
    there = [
        one for one in admin.listed("/budgets", **{kind: id_}) if one["period"] == options.period
    ]
    if there:
        made = admin.send("PATCH", f"/budgets/{there[0]['id']}", amounts)
    else:
        fields = {"owner": kind, "owner_id": id_, "period": options.period, **amounts}
        made = admin.send("POST", "/budgets", fields)
    print(made["id"])


def remove(admin: Admin, options: argparse.Namespace) -> None:
    admin.send("DELETE", f"/budgets/{options.which}")
    print(f"{options.which} is lifted")


def money(micros: int) -> str:
    """With two decimals, or as many as it takes."""
    amount = Decimal(micros) / MICROS
    return f"{amount:.2f}" if micros % 10_000 == 0 else f"{amount:f}"
