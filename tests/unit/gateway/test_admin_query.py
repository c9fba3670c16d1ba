"""Query strings, pages and paths of the administrators' API."""

from __future__ import annotations

import msgspec
import pytest

from gateway.routes.admin.query import Query, of_window
from gateway.routes.admin.table import match
from shared.errors import InvalidRequest
from shared.store.window import Window


class Row(msgspec.Struct):
    id: str


NAMES = ("limit", "after", "order", "ids", "effective_at[gt]", "all")


@pytest.mark.parametrize(
    ("text", "param"),
    [
        (b"limit=0", "limit"),
        (b"limit=101", "limit"),
        (b"limit=-1", "limit"),
        (b"limit=1.5", "limit"),
        (b"limit=%D9%A1", "limit"),
        (b"limit=1&limit=2", "limit"),
        (b"order=up", "order"),
        (b"after=a%00", "after"),
        (b"all=yes", "all"),
        (b"offset=1", "offset"),
        (b"\xff=1", None),
    ],
)
def test_a_wrong_query_names_its_parameter(text: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        query = Query(text, NAMES)
        query.window()
        query.flag("all")
    assert refused.value.param == param


def test_a_query_is_read() -> None:
    query = Query(b"limit=5&after=k&order=desc&ids[]=a&ids%5B%5D=b&effective_at[gt]=7", NAMES)
    assert query.window() == Window(6, "k", True)
    assert query.several("ids") == ["a", "b"]
    assert query.number("effective_at[gt]") == 7
    assert (query.flag("all"), Query(b"", NAMES).window()) == (False, Window(21))


def test_a_page_says_whether_there_is_another() -> None:
    rows = [Row("a"), Row("b"), Row("c")]
    full = of_window(rows, Window(3))
    assert (full.first_id, full.last_id, full.has_more, len(full.data)) == ("a", "b", True, 2)
    last = of_window(rows[:2], Window(3))
    assert (last.last_id, last.has_more) == ("b", False)
    assert of_window([], Window(3)).first_id == ""


@pytest.mark.parametrize(
    ("template", "path", "ids"),
    [
        ("/keys", "/keys", {}),
        ("/keys/{key}", "/keys/k", {"key": "k"}),
        ("/keys/{key}", "/keys/", None),
        ("/keys/{key}", "/keys/k/rotate", None),
        ("/keys/{key}/rotate", "/keys/k/rotate", {"key": "k"}),
        ("/prices/{model*}", "/prices/org/chat:latest", {"model": "org/chat:latest"}),
        ("/prices/{model*}", "/prices", None),
    ],
)
def test_paths(template: str, path: str, ids: dict[str, str] | None) -> None:
    assert match(template, path) == ids
