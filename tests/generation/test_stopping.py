"""Stop strings: nothing of one is shown, everything else is, however the text was cut into pieces."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.checkpoints.storyteller import builtin_model
from pipeline.checkpoints.tokenizer import Tokenizer
from pipeline.errors import UsageError
from pipeline.generation.stopping import MAX_CHARACTERS, MAX_STOPS, StopText, check_stops, cut, watch


def shown(pieces, stops):
    """What was shown before the end, and after how many pieces a stop string was found."""
    text, parts = StopText(stops), []
    for number, piece in enumerate(pieces, 1):
        parts.append(text.push(piece))
        if text.found:
            return "".join(parts) + text.finish(), number
    return "".join(parts) + text.finish(), None


@pytest.mark.parametrize(
    "pieces, stops, expected, after",
    [
        (["ab", "cd", "ef"], ["cd"], "ab", 2),
        (["ab", "cd", "ef"], ["bc"], "a", 2),
        (["a", "a", "b"], ["aab"], "", 3),
        (["a", "a", "a", "b"], ["aab"], "a", 4),
        (["abc"], ["bc", "ab"], "", 1),
        (["ab", "c"], ["abcd", "zz"], "abc", None),
        (["x", "\n", "\n", "y"], ["\n\n"], "x", 3),
        (["ab"], [], "ab", None),
        (["a", "", "b"], ["ab"], "", 3),
        (["ababab", "c"], ["ababc"], "ab", 2),
    ],
)
def test_cases(pieces, stops, expected, after):
    assert shown(pieces, stops) == (expected, after)


PIECES = st.lists(st.text(alphabet="ab\n", max_size=4), max_size=12)
STOPS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), min_size=1, max_size=3)


@given(pieces=PIECES, stops=STOPS)
@example(pieces=["a", "ab"], stops=["aab", "b"])
def test_pieces_add_up_to_the_text_before_the_stop(pieces, stops):
    text, after = shown(pieces, stops)
    came = "".join(pieces[:after])
    assert text == cut(came, stops)
    assert (after is None) == (not any(stop in came for stop in stops))
    if after is not None:  # and not a piece earlier
        assert not any(stop in "".join(pieces[: after - 1]) for stop in stops)


@given(pieces=PIECES, stops=STOPS)
def test_nothing_is_held_back_longer_than_it_must(pieces, stops):
    text, came = StopText(stops), ""
    given_out = ""
    for piece in pieces:
        came += piece
        given_out += text.push(piece)
        if text.found:
            return
        held = came[len(given_out) :]
        assert given_out + held == came and (not held or any(stop.startswith(held) for stop in stops))


def test_tokens_of_one_row():
    tokenizer = Tokenizer.open(builtin_model() / "tokenizer.json")
    ids = tokenizer.encode("Once upon a time, there was a fox. The end")
    for stop in ("time", " ti", "e, th", "The end", "n a t"):
        ends = watch(tokenizer, (stop,))
        count = next(i for i, token in enumerate(ids, 1) if ends(token))
        assert stop in tokenizer.decode(ids[:count]) and stop not in tokenizer.decode(ids[: count - 1])
    ends = watch(tokenizer, ("absent",))
    assert not any(ends(token) for token in ids)
    assert watch(tokenizer, ()) is None


def test_character_of_several_tokens():
    tokenizer = Tokenizer.open(builtin_model() / "tokenizer.json")
    ids = tokenizer.encode("a 🦊 b")
    ends = watch(tokenizer, ("🦊",))
    count = next(i for i, token in enumerate(ids, 1) if ends(token))
    assert count > 2 and cut(tokenizer.decode(ids[:count]), ("🦊",)) == "a "


def test_impossible_stops():
    assert check_stops(["a", "b", "a"]) == ("a", "b")
    for stops, word in [
        ([""], "empty"),
        (["x" * (MAX_CHARACTERS + 1)], "too long"),
        ([str(i) for i in range(MAX_STOPS + 1)], "too many"),
    ]:
        with pytest.raises(UsageError, match=word):
            check_stops(stops)
