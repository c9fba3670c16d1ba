"""A whole file: counted, checked against itself and another, bounded in what it keeps."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import dataset
from trainer.dataset import Finding, Seen, inspect


def chat(question: str, answer: str = "Yes.") -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages})


def file(folder: Path, *lines: str, name: str = "train.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_good_file_is_counted(tmp_path: Path) -> None:
    found = inspect(file(tmp_path, *(chat(f"Is it {n:02}?") for n in range(12))), "supervised")
    assert found.usable
    assert found.findings == []
    figures = found.figures
    assert (figures.lines, figures.examples, figures.messages) == (12, 12, 24)
    assert (figures.learned_messages, figures.learned_characters) == (12, 12 * 4)
    assert (figures.characters, figures.longest_characters) == (12 * 13, 13)


def test_errors_name_their_lines_and_blank_lines_count(tmp_path: Path) -> None:
    path = file(tmp_path, chat("a"), "", "{", chat("b"), '{"messages": []}')
    found = inspect(path, "supervised", minimum=1)
    assert not found.usable
    assert [(each.line, each.code) for each in found.findings] == [
        (3, "not_json"),
        (5, "missing_messages_list"),
    ]
    assert found.errors == {"not_json": 1, "missing_messages_list": 1}
    assert found.figures.examples == 2


def test_a_byte_order_mark_and_windows_lines_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{chat('a')}\r\n{chat('b')}".encode())
    assert inspect(path, "supervised", minimum=2).findings == []


def test_an_empty_file_and_one_that_is_too_small(tmp_path: Path) -> None:
    assert inspect(file(tmp_path), "supervised").errors == {"empty_file": 1}
    found = inspect(file(tmp_path, chat("a")), "supervised")
    assert found.findings == [
        Finding(
            level="error",
            code="too_few_examples",
            line=None,
            message="There are 1 examples; at least 10 are needed.",
        )
    ]


def test_what_comes_again_and_what_leaks(tmp_path: Path) -> None:
    seen = Seen()
    train = file(tmp_path, chat("a"), chat("b"), chat("a"))
    found = inspect(train, "supervised", minimum=1, seen=seen)
    assert found.usable
    assert [(each.line, each.code) for each in found.findings] == [(3, "duplicate_example")]
    assert "line 1" in found.findings[0].message
    valid = file(tmp_path, chat("c"), chat("b"), name="valid.jsonl")
    leaks = inspect(valid, "supervised", minimum=1, training=seen)
    assert [(each.line, each.code) for each in leaks.findings] == [(2, "also_in_training")]
    assert (leaks.figures.seen_in_training, leaks.figures.duplicates) == (1, 0)


def test_only_so_many_findings_are_told(tmp_path: Path) -> None:
    found = inspect(file(tmp_path, *["{"] * 500), "supervised")
    assert len(found.findings) == dataset.FINDINGS
    assert found.errors == {"not_json": 500}


def test_a_line_without_end_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "LINE", 1 << 16)
    path = tmp_path / "train.jsonl"
    with path.open("wb") as out:
        out.write(chat("a").encode() + b"\n")
        for _ in range(400):
            out.write(b"x" * (1 << 16))
        out.write(b"\n" + chat("b").encode())
    tracemalloc.start()
    found = inspect(path, "supervised", minimum=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(each.line, each.code) for each in found.findings] == [(2, "line_too_long")]
    assert found.figures.examples == 2
    assert peak < 1 << 20


@given(st.lists(st.sampled_from(["good", "bad", "blank"]), min_size=1, max_size=30))
def test_every_bad_line_is_found_where_it_is(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str]
) -> None:
    lines = [{"good": chat(str(n)), "bad": "[", "blank": " "}[kind] for n, kind in enumerate(kinds)]
    path = file(tmp_path_factory.mktemp("file"), *lines)
    found = inspect(path, "supervised", minimum=0)
    wrong = [each.line for each in found.findings if each.line is not None]
    assert wrong == [n for n, kind in enumerate(kinds, 1) if kind == "bad"]
    assert found.figures.examples == kinds.count("good")
