"""JSON schemas, expressions and grammars by llguidance: what they allow, and what cannot be compiled."""

import json

import numpy as np
import pytest

import pipeline
from pipeline.errors import PromptError, UsageError
from pipeline.generation.requests import Finished, Request

pytest.importorskip("llguidance")
pytestmark = pytest.mark.one_processor

from pipeline.language import grammars  # noqa: E402  # it is of use with the package

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "größe": {"enum": ["groß", "klein"]}, "n": {"const": 3}},
    "required": ["name", "größe", "n"],
    "additionalProperties": False,
}
LARK = 'start: "yes" | "no" " " /[0-9]{2}/'
GBNF = 'root ::= ("fox" | "dog") " ran"'


@pytest.fixture(scope="module")
def model(processor):
    with pipeline.load(device=processor, batch_size=4, context=300) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def found(model):
    return grammars.Grammars(model.tokenizer, model.driver.scheduler.model.vocab_size, model.checkpoint.end_tokens)


def texts(model, grammar, count=4):
    generator = pipeline.Generator(model.driver.scheduler.model, batch_size=count, context=300)
    prompt = model.tokenizer.encode("The fox")
    events = generator.run([Request(i, prompt, 250, 1.0, i, grammar=grammar) for i in range(count)])
    return [model.tokenizer.decode(event.tokens) for event in events if isinstance(event, Finished)]


def test_schemas(model, found):
    for text in texts(model, found.compiled("json_schema", SCHEMA)):
        value = json.loads(text)
        assert list(value) == ["name", "größe", "n"] and value["größe"] in ("groß", "klein") and value["n"] == 3
        assert len(value["name"]) <= 8
    tree = {
        "$ref": "#/$defs/n",
        "$defs": {
            "n": {
                "type": "object",
                "properties": {"of": {"type": "array", "maxItems": 1, "items": {"$ref": "#/$defs/n"}}},
                "required": ["of"],
                "additionalProperties": False,
            }
        },
    }
    assert all("of" in json.loads(text) for text in texts(model, found.compiled("json_schema", tree)))


@pytest.mark.parametrize(
    "kind, value, matches",
    [
        ("regex", "[A-C]{3}-[0-9]+(\\.5)", r"[A-C]{3}-[0-9]+\.5"),
        ("choice", ["red", "green", "blau und größer"], "red|green|blau und größer"),
        ("grammar", LARK, "yes|no [0-9]{2}"),
        ("grammar", GBNF, "(fox|dog) ran"),
    ],
)
def test_other_kinds(model, found, kind, value, matches):
    import re

    for text in texts(model, found.compiled(kind, value), 3):
        assert re.fullmatch(matches, text), text


@pytest.mark.parametrize(
    "kind, value",
    [
        ("json_schema", {"type": "nothing"}),
        ("json_schema", {"type": "object", "properties": 5}),
        ("json_schema", {"$ref": "#/nowhere"}),
        ("json_schema", [1]),
        ("regex", "(a"),
        ("regex", ""),
        ("regex", 5),
        ("choice", []),
        ("choice", ["a", 5]),
        ("grammar", "start: nowhere"),
        ("grammar", "???"),
        ("json_schema", {"const": "x" * (1 << 19)}),
    ],
)
def test_what_cannot_be_compiled(found, kind, value):
    with pytest.raises(PromptError, match=kind) as error:
        found.compiled(kind, value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_the_reason_of_an_expression_is_told(found):
    with pytest.raises(PromptError, match=r"regex.*unclosed group"):
        found.compiled("regex", "(")


def test_compiled_once(found):
    assert found.compiled("json_schema", SCHEMA) is found.compiled("json_schema", dict(SCHEMA))
    assert found.compiled("regex", "a+") is not found.compiled("regex", "b+")


def test_a_mask_has_the_tokens_that_may_come(model, found):
    place = found.compiled("choice", ["fox", "fog"]).begin()
    words = np.full(128, 0xFFFFFFFF, np.uint32)
    place.fill(words)
    allowed = np.unpackbits(words.view(np.uint8), bitorder="little").nonzero()[0]
    assert {model.tokenizer.decode([token]) for token in allowed} <= {"f", "fo", "fox", "fog"} and len(allowed) >= 1
    for token in model.tokenizer.encode("fox", complete=True):
        ended = place.take(token)
    assert ended and place.error is None


def test_without_the_package(found, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(UsageError, match="pip install onebuf"):
        found.compiled("regex", "no such yet")


def test_texts_of_a_language_model(model):
    assert all(json.loads(text)["n"] == 3 for text in model.generate(["A", "B"], json_schema=SCHEMA, temperature=1.0))
    with model.stream("The fox", choice=["one", "two"]) as stream:
        assert "".join(stream) in ("one", "two") and stream.result.finish_reason == "stop"
    with pytest.raises(UsageError, match="one grammar"):
        model.generate("x", regex="a", choice=["b"])
    with pytest.raises(PromptError, match="regex"):
        model.generate("x", regex="(a")


def test_a_run_makes_its_chains_once(model, found):
    """Those of all requests of a list, with their masks; the next run of such requests needs no others."""
    import pipeline

    generator = pipeline.Generator(model.driver.scheduler.model, context=60)
    grammar = found.compiled("choice", ["fox", "owl"])
    made = []
    generator._batch.make_chains, make = (
        lambda features: (made.append(features), make(features)),
        generator._batch.make_chains,
    )
    for number in range(2):
        list(generator.run([pipeline.Request(number, (5, 6), 9, grammar=grammar)]))
        assert len({each for each in made}) == 1 and made[0].masks
