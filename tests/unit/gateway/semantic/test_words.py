from __future__ import annotations

import pytest

from gateway.semantic import lexicon, polarity, wording
from gateway.semantic.language import language_of
from gateway.semantic.names import differ
from gateway.semantic.numerals import numbered
from gateway.semantic.reading import BRANDS, read
from gateway.semantic.rewriting import Rules
from gateway.semantic.text import clean, tokens


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("How do I reset my password?", "en"),
        ("Wie kann ich mein Passwort zurücksetzen?", "de"),
        ("Comment puis-je réinitialiser mon mot de passe ?", "fr"),
        ("¿Cómo puedo restablecer mi contraseña?", "es"),
        ("如何重置我的密码?", "zh"),
        ("パスワードは?", "ja"),
        ("Каква е столицата?", "CYRILLIC"),
        ("xyzzy", ""),
    ],
)
def test_language(text: str, code: str) -> None:
    assert language_of(text) == code


@pytest.mark.parametrize(
    ("base", "gerund"),
    [
        ("delete", "deleting"),
        ("plan", "planning"),
        ("reset", "resetting"),
        ("visit", "visiting"),
        ("tie", "tying"),
        ("see", "seeing"),
        ("play", "playing"),
    ],
)
def test_gerunds(base: str, gerund: str) -> None:
    assert wording.is_gerund(base, gerund)


@pytest.mark.parametrize(
    ("base", "gerund"), [("plan", "planing"), ("star", "staring"), ("hope", "hopping"), ("a", "b")]
)
def test_other_verbs_gerunds_are_no_gerunds(base: str, gerund: str) -> None:
    assert not wording.is_gerund(base, gerund)


@pytest.mark.parametrize(
    ("base", "form"), [("end", "ended"), ("sink", "sank"), ("try", "tried"), ("stop", "stopped")]
)
def test_past(base: str, form: str) -> None:
    assert wording.is_past(base, form)
    assert not wording.is_third_person(base, form)


def pairs(text: str) -> list[tuple[str, str]]:
    return [(token.key, token.written) for token in tokens(clean(text), BRANDS)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,000", ["#1000"]),
        ("1.000", ["#1.000"]),
        ("twenty-five", ["#25"]),
        ("15%", ["#15", "percent"]),
        ("15 per cent", ["#15", "percent"]),
        ("5MB", ["#5", "=MB"]),
        ("5 Mb", ["#5", "=Mb"]),
        ("5 km", ["#5", "km"]),
        ("5 kilometres", ["#5", "km"]),
        ("$20", ["#20", "dollars"]),
        ("the 16th", ["the", "#16th"]),
        ("third", ["#3th"]),
        ("two million", ["#2000000"]),
        ("-30", ["#-30"]),
        ("3-day", ["=3-day"]),
        ("three-day", ["=3-day"]),
    ],
)
def test_numbers_are_written_one_way(text: str, expected: list[str]) -> None:
    assert numbered(pairs(text), "en") == expected


@pytest.mark.parametrize("text", ["user_id", "os.path", "--hard", "C++", "x<5", "getUser", "a[0]"])
def test_code_keeps_each_letter(text: str) -> None:
    assert tokens(text, BRANDS)[0].key == "=" + text


def test_quotations_are_one_token() -> None:
    keys = [token.key for token in tokens(clean("Say \u201cGood day\u201d now."), BRANDS)]
    assert keys == ["say", "=Good\u2423day", "now", "."]


@pytest.mark.parametrize(
    ("one", "other", "word"),
    [
        ("I like Nice very much", "I like nice very much", "Nice"),
        ("who is polish", "Who is Polish", "Polish"),
        ("what is CO", "what is Co", "CO"),
        ("What is france", "What is France", None),
    ],
)
def test_names(one: str, other: str, word: str | None) -> None:
    found = differ(tokens(one, BRANDS), tokens(other, BRANDS))
    assert found is None if word is None else found is not None and found.lower() == word.lower()


def test_rules_are_applied_until_none_fits() -> None:
    rules = Rules(["please * => *", "how {do|can} i * => HOWTO *", "<x> x y? <z:1> => $1 <z> <x>"])
    assert rules.rewrite(["please", "how", "can", "i", "win"]) == ["HOWTO", "win"]


def test_rules_stop_at_an_exception_and_keep_choices() -> None:
    rules = Rules(["a b * => STOP", "a {b|c d}? * => $1 *", "# <x:2> in <y:1> => <y> <x>"])
    assert rules.rewrite(["a", "b", "c"]) == ["a", "b", "c"]
    assert rules.rewrite(["a", "c", "d", "e"]) == ["c", "d", "e"]
    assert rules.rewrite(["#5", "kilo", "metres", "in", "feet"]) == ["feet", "kilo", "metres"]


def test_a_rule_that_feeds_itself_ends() -> None:
    assert Rules(["a * => a a *"]).rewrite(["a", "b"])[-1] == "b"


def test_no_synonym_turns_a_question_around() -> None:
    for name in ("synonyms.txt", "verbs.txt", "spelling.txt", "aliases.txt"):
        for line in lexicon.lines(name):
            assert polarity.signature(line.split()) == [], line


def test_no_word_is_in_two_groups() -> None:
    for name in ("synonyms.txt", "verbs.txt", "spelling.txt", "aliases.txt"):
        listed = [word for line in lexicon.lines(name) for word in line.split()]
        assert len(listed) == len(set(listed))
    assert not wording.SYNONYMS.keys() & wording.VERBS.keys()


def test_what_is_read_of_a_chatty_question() -> None:
    reading = read("Hi there, could you please tell me how to reset my password? Thanks!")
    assert [sentence.tokens for sentence in reading.sentences] == [
        ("HOWTO", "reset", "my", "password")
    ]
