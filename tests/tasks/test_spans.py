"""Finding surfaces in texts: the right place or none, whatever the text is made of."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from annotation_pipelines.tasks.base import Invalid
from annotation_pipelines.tasks.spans import Mention, Span, check, find_mention, find_mentions, occurrence_of, places

FAMILY, THUMB, BROWN_THUMB = "👨‍👩‍👧", "👍", "👍🏽"
GERMANY, HEART, RED_HEART = "🇩🇪", "❤", "❤️"

pieces = st.sampled_from(
    [
        *"aAbB éßİıﬁǅ0१ \t\n\r",
        *"東京都のはパーｶﾞ한국ไทยกำ",
        *"שלום سلام",
        *("e\u0301", "\u0301", "\u3099", "か\u3099", "क्षि", "\u200b", "\u200d", "\ufe0f", "\xa0", "\ud800", "\u202e"),
        *(FAMILY, THUMB, BROWN_THUMB, GERMANY, "🇫", HEART, RED_HEART),
        *("&amp;", "&", "’", "'", "“", "–", "...", "…", "ﷺ", "\r\n"),
    ]
)
texts = st.lists(pieces, max_size=14).map("".join) | st.text(max_size=20)


@st.composite
def texts_with_spans(draw: st.DrawFn) -> tuple[str, Span]:
    """A text, and a span of whole graphemes in it."""
    text = draw(texts.filter(bool))
    borders = [0, *(match.end() for match in regex.finditer(r"\X", text))]
    start = draw(st.integers(0, len(borders) - 2))
    return text, Span(borders[start], borders[draw(st.integers(start + 1, len(borders) - 1))])


@settings(max_examples=100, deadline=None)
@given(texts_with_spans())
@example(("party art", Span(1, 4)))
@example(("hahahaha", Span(2, 6)))
@example(("Party ART", Span(1, 4)))
def test_a_span_of_whole_characters_is_found_again_by_its_surface_and_occurrence(found: tuple[str, Span]) -> None:
    text, span = found
    assert find_mention(text, span.of(text), occurrence_of(text, span)) == span


@settings(max_examples=100, deadline=None)
@given(texts, texts | st.text(), st.none() | st.integers())
def test_no_strings_raise_anything_and_what_is_found_is_a_span_of_whole_characters(
    text: str, surface: str, occurrence: int | None
) -> None:
    found = find_mention(text, surface, occurrence)
    if found is not None:
        check(text, found)


@settings(max_examples=100, deadline=None)
@given(texts, st.lists(st.builds(Mention, pieces | texts, st.none() | st.integers(-1, 4)), max_size=5))
def test_listings_end_in_their_places_or_in_a_reason(text: str, mentions: list[Mention]) -> None:
    try:
        found = find_mentions(text, mentions)
    except Invalid as problem:
        str(problem).encode()
        assert 0 < len(str(problem)) < 300
    else:
        assert [span in places(text, mention.surface) for span, mention in zip(found, mentions, strict=True)] == [
            True
        ] * len(mentions)


WORDS = ["Café", "Größe", "Ångström", "Nguyễn", "İzmir", "ﬁnal", "ガンダム", "ｷﾞﾀｰ2", "Ελλάς", "Киев", "한국", "ĲSSEL"]


@settings(max_examples=100, deadline=None)
@given(
    st.permutations(WORDS),
    st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]),
    st.sampled_from(["NFC", "NFD"]),
    st.sampled_from([str, str.upper, str.lower, str.casefold, str.title]),
)
def test_another_unicode_form_or_case_of_a_word_leads_to_that_word(
    words: list[str], form: str, written: str, case: Callable[[str], str]
) -> None:
    words = [unicodedata.normalize(written, word) for word in words]
    text = " ".join(words)
    at = 0
    for word in words:
        assert find_mention(text, unicodedata.normalize(form, case(word))) == Span(at, at + len(word))
        at += len(word) + 1


@pytest.mark.parametrize(
    ("text", "surface", "expected"),
    [
        ("Emma lives in Paris", "EMMA", "Emma"),
        ("Emma lives in Paris", "emma ", "Emma"),
        ("Emma  \n Watson won", "Emma Watson", "Emma  \n Watson"),
        ("New\xa0York is big", "New York", "New\xa0York"),
        ("New\u200bYork is big", "NewYork", "New\u200bYork"),
        ("in St . Louis today", "St. Louis", "St . Louis"),
        ("I ' m at Mc Donald ' s", "Mc Donald's", "Mc Donald ' s"),
        ("東京 都に住む", "東京都", "東京 都"),
        ("Cafe\u0301 Noir", "Café Noir", "Cafe\u0301 Noir"),
        ("Café Noir", "Cafe\u0301 Noir", "Café Noir"),
        ("ｶﾞﾝﾀﾞﾑを見る", "ガンダム", "ｶﾞﾝﾀﾞﾑ"),
        ("ＡＢＣ社", "ABC社", "ＡＢＣ社"),
        ("the ﬁnal cut", "Final", "ﬁnal"),
        ("Straße 5", "STRASSE", "Straße"),
        ("O’Neill said “no”", "O'Neill", "O’Neill"),
        ('He said "no" twice', "“no”", '"no"'),
        ("1914–1918 was", "1914-1918", "1914–1918"),
        ("AT&amp;T fell", "AT&T", "AT&amp;T"),
        ("AT&T fell", "AT&amp;T", "AT&T"),
        (f"I {RED_HEART} NY", HEART, RED_HEART),
        (f"{FAMILY} went to Rome", FAMILY, FAMILY),
        (f"go {GERMANY}{GERMANY}", GERMANY, GERMANY),
        ("הוא גר בתל אביב", "תל אביב", "תל אביב"),
        ("زار محمد القاهرة أمس", "القاهرة", "القاهرة"),
        ("\u202bזה בירושלים\u202c", "בירושלים\u200f", "בירושלים"),
        ("서울에서 만나요", "서울", "서울"),
        ("อยู่กรุงเทพฯ", "กรุงเทพ", "กรุงเทพ"),
        ("#london calling", "London", "london"),
    ],
)
def test_what_a_model_changes_in_copying_still_leads_to_the_place(text: str, surface: str, expected: str) -> None:
    span = find_mention(text, surface)
    assert span is not None
    assert span.of(text) == expected
    assert (text[: span.start] + expected + text[span.end :]) == text


@pytest.mark.parametrize(
    ("text", "surface"),
    [
        ("Emma lives in Paris", "London"),
        ("Emma lives in Paris", ""),
        ("", "Emma"),
        ("Cafe\u0301", "Cafe"),
        ("Café", "Cafe"),
        (BROWN_THUMB, THUMB),
        (FAMILY, "👨"),
        (GERMANY, "🇩"),
        ("🇫🇩🇪🇫", GERMANY),
        ("the ﬁnal", "f"),
        ("か\u3099く", "か"),
        ("a\r\nb", "\n"),
        ("to be at home", "beat"),
        ("I work with Ann", "IT"),
        ("1914", "91 4"),
    ],
)
def test_what_is_not_there_or_cuts_a_character_is_not_found(text: str, surface: str) -> None:
    assert find_mention(text, surface) is None


@pytest.mark.parametrize(
    ("text", "surface", "starts"),
    [
        ("party art", "art", [6, 1]),
        ("Londoner in London, London", "London", [12, 20, 0]),
        ("Art, art and ART", "art", [5]),
        ("ART and Art", "art", [0, 8]),
        ("Party ART", "art", [6, 1]),
        ("hahahaha", "haha", [0, 4, 2]),
        ("東京と東京都と京", "東京", [0, 3]),
        ("京都と東京都", "京都", [0, 4]),
        ("is #art or @art's art_1", "art", [4, 12, 18]),
        ("Al Ali und Al-Ali", "Al", [0, 11, 3, 14]),
        ("علي والعلي علي", "علي", [0, 11, 7]),
        ("Tokyoの東京Tokyo", "Tokyo", [0, 8]),
        ("7 of 17", "7", [0, 6]),
    ],
)
def test_whole_words_are_counted_first_where_a_script_has_words(text: str, surface: str, starts: list[int]) -> None:
    assert [span.start for span in places(text, surface)] == starts


def test_listings_without_an_occurrence_are_the_places_in_order() -> None:
    text = "Emma met Emma, and emma met Emma"
    assert [span.start for span in find_mentions(text, [Mention("Emma")] * 3)] == [0, 9, 28]
    assert [span.start for span in find_mentions(text, [Mention("Emma", 2), Mention("Emma"), Mention("Emma")])] == [
        9,
        0,
        28,
    ]
    assert [span.start for span in find_mentions(text, [Mention("emma"), Mention("Emma")])] == [19, 0]
    assert [span.start for span in find_mentions("IBM, ibm", [Mention("Ibm"), Mention("iBM")])] == [0, 5]


@pytest.mark.parametrize(
    ("mentions", "reason"),
    [
        ([Mention("Emma", 3, "entity 1")], "entity 1 names occurrence 3, but its text stands there 2 times"),
        ([Mention("Paris", 2, "entity 1")], "names occurrence 2, but its text stands there once"),
        ([Mention("Emma", 0, "entity 1")], "names occurrence 0"),
        ([Mention("Emma", -1, "entity 1")], "names occurrence -1"),
        ([Mention("Emma", 10**400, "entity 1")], "names occurrence 1000"),
        ([Mention("Paris"), Mention("Paris", None, "entity 2")], "entity 2 is listed once more than"),
        ([Mention("Rome", 1, "entity 1")], "entity 1 is not in the text: expected a text that is copied from it"),
        ([Mention("\t", 1, "entity 1")], "it is empty"),
        ([Mention("e", 1, "entity 1")], "not in the text: 'e' is only a part of a character"),
    ],
)
def test_a_problem_says_which_mention_and_why(mentions: list[Mention], reason: str) -> None:
    with pytest.raises(Invalid) as raised:
        find_mentions("Emma-Emma-Paris-\u00e8 e\u0300".replace("-", "\u00b7"), mentions)
    assert reason in str(raised.value)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(("start", "end"), [(0, 0), (3, 2), (-1, 2), (0, 99), (0, 1), (1, 2)])
def test_a_span_that_is_none_is_refused(start: int, end: int) -> None:
    with pytest.raises(Invalid, match=r"expected 0 <=|cuts a character"):
        check("e\u0301a", Span(start, end))


def test_many_places_of_many_mentions_are_found_quickly() -> None:
    text = "ab " * 20_000
    for mentions in ([Mention("ab", k) for k in range(1, 20_001)], [Mention("ab")] * 20_000, [Mention("AB")] * 20_000):
        assert find_mentions(text, mentions)[-1] == Span(59_997, 59_999)
