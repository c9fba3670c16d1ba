"""Two sentences side by side: the same words in the same places, or the first that is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gateway.semantic import lexicon, wording
from gateway.semantic.reading import Sentence

ARTICLES = {"the": "the", "a": "a", "an": "a"}
AUXILIARIES = lexicon.words("auxiliaries")
DO = frozenset(("do", "does", "did"))
QUESTION_WORDS = lexicon.words("question_words")
SYSTEMS = lexicon.words("systems")
PLACES = lexicon.words("places")
"""`in class` is elsewhere than `in a class`."""
HOW_TO = frozenset(("HOWTO", "BESTWAY", "EASIEST", "FASTEST", "SAFEST", "HELP"))
NEAR = 4
"""Tokens after an article within which `of` makes it one that can be left out."""


class Word(NamedTuple):
    token: str
    article: str


def words(tokens: tuple[str, ...]) -> list[Word]:
    """Articles go with the word behind them."""
    found: list[Word] = []
    article = ""
    for place, token in enumerate(tokens):
        following = tokens[place + 1 : place + 2]
        if token in ARTICLES and not article and following:
            article = ARTICLES[token]
        else:
            found.append(Word(token, article))
            article = ""
    return found


def same(asked: Sentence, known: Sentence) -> bool:
    """Whether both ask for the same, word by word."""
    if asked.tokens == known.tokens:
        return True
    first, second = words(asked.tokens), words(known.tokens)
    strict = bool(wording.ABOUT_WORDS & {*asked.tokens, *known.tokens})
    pair = Pair(first, second, strict, bool(first) and first[0].token in HOW_TO)
    if pair.equal() or pair.gerunds():
        return True
    if asked.direct == known.direct:
        return False
    return (pair if asked.direct else pair._replace(asked=second, known=first)).inverted()


class Pair(NamedTuple):
    asked: list[Word]
    known: list[Word]
    strict: bool
    how_to: bool

    def equal(self) -> bool:
        return len(self.asked) == len(self.known) and all(
            self._match(place, place) for place in range(len(self.asked))
        )

    def gerunds(self) -> bool:
        """`HOWTO delete *` and `HOWTO ING deleting *`."""
        for one, other in ((self.asked, self.known), (self.known, self.asked)):
            if len(one) < 2 or len(other) < 3 or other[1].token != "ING" or one[0] != other[0]:
                continue
            if wording.is_gerund(one[1].token, other[2].token):
                return self._replace(asked=one[2:], known=other[3:]).equal()
        return False

    def inverted(self) -> bool:
        """`why is the sky blue` and `why the sky is blue`; `asked` is the direct question."""
        place = self._auxiliary()
        if place is None:
            return False
        auxiliary = self.asked[place].token
        rest = self.asked[:place] + self.asked[place + 1 :]
        known = self.known
        if known and known[0].token == "IF":
            if place != 0:
                return False
            known = known[1:]
        elif place == 0:
            return False
        if auxiliary in DO:
            return self._replace(asked=rest, known=known).with_verb(auxiliary)
        for cut, word in enumerate(known):
            if word.token == auxiliary and cut > place:
                other = known[:cut] + known[cut + 1 :]
                if self._replace(asked=rest, known=other).equal():
                    return True
        return False

    def with_verb(self, auxiliary: str) -> bool:
        """Equal but for one verb, which carries what `do`, `does` or `did` told."""
        if len(self.asked) != len(self.known):
            return False
        odd = [place for place in range(len(self.asked)) if not self._match(place, place)]
        if auxiliary == "do":
            return not odd
        if len(odd) != 1:
            return False
        base, form = self.asked[odd[0]], self.known[odd[0]]
        form_of = wording.is_past if auxiliary == "did" else wording.is_third_person
        return base.article == form.article and form_of(base.token, form.token)

    def _auxiliary(self) -> int | None:
        """Where the first auxiliary of a direct question stands, None for another sentence."""
        if not self.asked:
            return None
        if self.asked[0].token in AUXILIARIES:
            return 0
        if self.asked[0].token not in QUESTION_WORDS:
            return None
        for place, word in enumerate(self.asked[1:5], 1):
            if word.token in AUXILIARIES:
                return place
        return None

    def _match(self, here: int, there: int) -> bool:
        one, other = self.asked[here], self.known[there]
        if one.article != other.article and not self._article_optional(here, there):
            return False
        if one.token == other.token:
            return True
        if {one.token, other.token} == {"in", "on"}:
            follows = self.asked[here + 1 : here + 2]
            return bool(follows) and follows[0].token in SYSTEMS
        return not self.strict and self._synonyms(here, there)

    def _synonyms(self, here: int, there: int) -> bool:
        table = wording.VERBS if _verb(self.asked, here) else wording.SYNONYMS
        group = table.get(self.asked[here].token)
        if group is None or group != table.get(self.known[there].token):
            return False
        following = self.asked[here + 1 : here + 2]
        if following and following[0].token in wording.NOT_AS_NAMES:
            return False
        return all(_alone(table, group, side) for side in (self.asked, self.known))

    def _article_optional(self, here: int, there: int) -> bool:
        one, other = self.asked[here], self.known[there]
        articles = {one.article, other.article}
        if self.how_to and here == 1:
            return False
        if "a" in articles and here and self.asked[here - 1].token in PLACES:
            return False
        if "" not in articles or one.token in wording.FIXED:
            return False
        if self.how_to:
            return True
        if articles != {"", "the"}:
            return False
        following = {word.token for word in self.asked[here + 1 : here + 1 + NEAR]}
        return bool(following & {"of", "between"})


def _verb(side: list[Word], place: int) -> bool:
    return (
        place > 0
        and side[place].article == ""
        and side[place].token in wording.VERBS
        and (side[place - 1].token in wording.BEFORE_VERBS)
    )


def _alone(table: Mapping[str, str], group: str, side: list[Word]) -> bool:
    """Two words of one group in a text are there because they differ."""
    return len({word.token for word in side if table.get(word.token) == group}) == 1
