from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.semantic.guard import LONGEST, admits
from tests.semantic_pairs import Pair, adversarial, paraphrases

ENGLISH = sorted({pair.a for pair in paraphrases() if pair.language == "en"})
NO_CONTENT = {"the", "a", "an", "can", "there"}
SMALL_BUT_DECISIVE = ("not", "never", "only", "all", "without", "no", "two", "old", "less", "her")


def test_no_adversarial_pair_hits_in_either_direction() -> None:
    pairs = adversarial()
    assert len(pairs) >= 1000
    wrong = [p for p in pairs if admits(p.a, p.b).hit or admits(p.b, p.a).hit]
    assert wrong == []


def test_most_paraphrases_hit_and_order_of_the_two_does_not_matter() -> None:
    pairs = paraphrases()
    assert len(pairs) >= 350
    hits = [admits(pair.a, pair.b).hit for pair in pairs]
    assert hits == [admits(pair.b, pair.a).hit for pair in pairs]
    assert sum(hits) >= 0.65 * len(pairs)


def test_a_part_of_the_paraphrases_nobody_tuned_for_hits_too() -> None:
    held_out = [pair for pair in paraphrases() if pair.half == "held out"]
    assert sum(admits(p.a, p.b).hit for p in held_out) >= 0.45 * len(held_out)


@pytest.mark.parametrize("word", SMALL_BUT_DECISIVE)
def test_one_word_more_never_hits(word: str) -> None:
    for question in ENGLISH:
        words = question.split()
        for place in range(1, len(words)):
            other = " ".join([*words[:place], word, *words[place:]])
            assert not admits(question, other).hit, other


def test_one_word_less_hits_only_where_it_says_nothing() -> None:
    said_nothing = {"the", "a", "an", "please", "please.", "there", "is", "me"}
    said_nothing |= {"are", "list", "convert", "degrees", "explain"}
    for question in ENGLISH:
        words = question.split()
        for place, word in enumerate(words):
            other = " ".join([*words[:place], *words[place + 1 :]])
            if admits(question, other).hit:
                assert word.lower() in said_nothing, (question, other)


def test_two_neighbours_swapped_never_hit() -> None:
    for question in ENGLISH:
        words = question.split()
        for place in range(1, len(words) - 2):
            if {*words[place : place + 2]} & NO_CONTENT:
                continue
            other = [*words]
            other[place], other[place + 1] = other[place + 1], other[place]
            verdict = admits(question, " ".join(other))
            assert not verdict.hit, (question, other)


def test_different_questions_do_not_hit() -> None:
    ours = [question for question in ENGLISH if question.startswith(("How", "What"))]
    for place, question in enumerate(ours):
        for other in ours[place + 1 :]:
            assert not admits(question, other).hit, (question, other)


@pytest.mark.parametrize(
    ("asked", "known", "why"),
    [
        ("How do I lock it?", "Wie schließe ich es ab?", "language"),
        ("What is 5 plus 4?", "What is 5 plus 6?", "numbers"),
        ("Is it always open?", "Is it never open?", "negation"),
        ("Does Anna love Tom?", "Does Tom love Anna?", "order"),
        ("Where is turkey sold?", "Where is Turkey sold?", "name Turkey"),
        ("How do I open it?", "How do I close it?", "words"),
        ("Is it raining? Is it cold?", "Is it raining?", "sentences"),
        ("You are open on Sunday.", "You are open on Sunday?", "question mark"),
        ("", "", "empty"),
        ("Explain\nthis", "Explain this", "long"),
        ("x " * LONGEST, "y " * LONGEST, "long"),
    ],
)
def test_a_miss_tells_which_guard_refused(asked: str, known: str, why: str) -> None:
    assert admits(asked, known) == (False, why)


@pytest.mark.parametrize(
    ("asked", "known", "why"),
    [
        ("what is jazz?", "what is jazz?", "equal"),
        ("What's jazz?", "What is jazz?", "same words"),
        ("hi, can you tell me what jazz is?", "What is jazz?", "same question"),
    ],
)
def test_a_hit_tells_how_close_the_texts_are(asked: str, known: str, why: str) -> None:
    assert admits(asked, known) == (True, why)


@given(st.text(max_size=300), st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_is_judged(asked: str, known: str) -> None:
    assert admits(asked, known).hit == admits(known, asked).hit


@given(st.sampled_from(ENGLISH), st.integers(0, 80), st.characters(categories=["Ll", "Nd"]))
@settings(max_examples=400, deadline=None)
def test_one_letter_more_never_hits(question: str, place: int, letter: str) -> None:
    """Inside a word, where no rule of spelling can explain it."""
    place = min(place, len(question))
    around = question[max(0, place - 1) : place + 1]
    if len(around) == 2 and around.isalpha():
        assert not admits(question, question[:place] + letter + question[place:]).hit


def test_pairs_are_told_apart_by_category() -> None:
    categories = {pair.category for pair in adversarial()}
    assert {"negation", "names", "numbers", "roles", "language"} <= categories
    assert all(isinstance(pair, Pair) and pair.a != pair.b for pair in adversarial())
