"""Structured output: whether every text is valid, and what the masks cost.

    python benchmarks/structured.py --texts 1000     50 texts under each of 20 JSON schemas, at temperature 1
    python benchmarks/structured.py --cost           per token, two layers of Qwen3-30B-A3B's shape, random weights

The first needs the package `jsonschema`, whose verdict counts. The second runs the same number of tokens with a schema
and without one, in turns, at temperature 1, and prints the median of the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from serving import shape_folder

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.generation import Failed, Finished
from pipeline.language.grammars import Grammars

# Every text is bounded: a text that ends at its last token is not valid, whatever it would have become.
WORD: dict[str, Any] = {"type": "string", "maxLength": 20}
INTEGER: dict[str, Any] = {"type": "integer", "minimum": -1000, "maximum": 1000}
NUMBER: dict[str, Any] = {"type": "number", "minimum": -1000, "maximum": 1000, "multipleOf": 0.25}


def objects(required: bool = True, **properties: Any) -> dict[str, Any]:
    made = {"type": "object", "properties": properties, "additionalProperties": False}
    return made | {"required": list(properties)} if required else made


def arrays(items: Any, least: int = 0, most: int = 3) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


TREE = {"$ref": "#/$defs/node", "$defs": {"node": objects(name=WORD, children=arrays({"$ref": "#/$defs/node"}, 0, 2))}}
LIST = {
    "$ref": "#/$defs/list",
    "$defs": {"list": {"anyOf": [{"type": "null"}, objects(value=INTEGER, next={"$ref": "#/$defs/list"})]}},
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "flat": objects(name=WORD, age={"type": "integer", "minimum": 0, "maximum": 120}),
    "enum": objects(kind={"enum": ["cat", "dog", "fox"]}, size={"enum": [1, 2.5, None, "large"]}),
    "nested": objects(who=objects(name=WORD, home=objects(town=WORD, number=INTEGER))),
    "array": arrays(WORD, 1, 4),
    "numbers": arrays(NUMBER, 2, 5),
    "bounded": objects(low={"type": "integer", "minimum": -5, "maximum": 5}, high=NUMBER | {"minimum": 0.5}),
    "booleans": objects(a={"type": "boolean"}, b={"type": "null"}, c={"const": "fixed"}),
    "unicode": objects(größe={"enum": ["groß", "größer", "日本語", "🦊"]}, имя=WORD),
    "any of": objects(value={"anyOf": [INTEGER, WORD, {"type": "boolean"}]}),
    "tree": TREE,
    "list": LIST,
    "optional": objects(False, a=WORD, b=INTEGER, c={"type": "boolean"}),
    "pattern": objects(code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}),
    "date": objects(day={"type": "string", "format": "date"}, id={"type": "string", "format": "uuid"}),
    "tuple": {"type": "array", "prefixItems": [WORD, INTEGER], "items": False, "minItems": 2},
    "map": {"type": "object", "patternProperties": {"^[a-z]{1,8}$": INTEGER}, "additionalProperties": False},
    "definitions": {**objects(a={"$ref": "#/$defs/p"}, b={"$ref": "#/$defs/p"}), "$defs": {"p": objects(x=WORD)}},
    "lengths": objects(s={"type": "string", "minLength": 5, "maxLength": 12}),
    "deep": objects(a=objects(b=objects(c=objects(d=objects(e=arrays(objects(f=INTEGER), 1, 2)))))),
    "call": objects(name={"const": "get_weather"}, arguments=objects(city=WORD, days=INTEGER)),
}


def validity(texts: int, batch: int) -> bool:
    import jsonschema  # the other half of this script does without

    bad: Counter[str] = Counter()
    with p.load(builtin_model(), batch_size=batch) as model:
        grammars = Grammars(model.tokenizer, model.driver.scheduler.model.vocab_size, model.checkpoint.end_tokens)
        names, requests = list(SCHEMAS), []
        for number in range(texts):
            grammar = grammars.compiled("json_schema", SCHEMAS[names[number % len(names)]])
            prompt = model.tokenizer.encode(f"Once upon a time, number {number // len(names)}:")
            requests.append(p.Request(number, prompt, 900, temperature=1.0, seed=number, grammar=grammar))
        generator = p.Generator(model.driver.scheduler.model, batch_size=batch)
        start, tokens = time.perf_counter(), 0
        for event in generator.run(requests):
            if isinstance(event, Failed):
                bad[f"{names[event.index % len(names)]}: {event.error}"] += 1
            elif isinstance(event, Finished):
                tokens += len(event.tokens)
                schema, text = SCHEMAS[names[event.index % len(names)]], model.tokenizer.decode(event.tokens)
                try:
                    jsonschema.validate(json.loads(text), schema)
                    if event.reason != "stop":
                        bad[f"{names[event.index % len(names)]}: ended by {event.reason}"] += 1
                except (ValueError, jsonschema.ValidationError) as error:
                    bad[f"{names[event.index % len(names)]}: {type(error).__name__} ({event.reason})"] += 1
        seconds = time.perf_counter() - start
    print(f"{texts} texts under {len(names)} schemas, {tokens:,} tokens, {seconds:.0f} s: {sum(bad.values())} bad")
    for what, count in bad.items():
        print(f"  {count} × {what}")
    return not bad


def cost(tokens: int, repeats: int, batches: list[int]) -> None:
    schema = arrays(objects(name={"type": "string"}, size={"type": "number"}), 1000, 2000)
    with tempfile.TemporaryDirectory() as folder:
        model = shape_folder(Path(folder))
        with p.open_checkpoint(model) as checkpoint:
            tokenizer, loaded = checkpoint.tokenizer(), p.load_model(checkpoint)
            grammar = Grammars(tokenizer, loaded.vocab_size, loaded.end_tokens).compiled("json_schema", schema)
            prompt = tokenizer.encode("A list:")
            for batch in batches:
                generators = {name: p.Generator(loaded, batch_size=batch, context=512) for name in ("free", "schema")}
                seconds: dict[str, list[float]] = {name: [] for name in generators}
                for _ in range(repeats + 1):
                    for name, generator in generators.items():
                        more = {"grammar": grammar} if name == "schema" else {}
                        requests = [p.Request(i, prompt, tokens, 1.0, i, **more) for i in range(batch)]
                        before, count = time.perf_counter(), generator.stats.decode_tokens
                        list(generator.run(requests))
                        spent = time.perf_counter() - before  # all of it: what the host does between steps, too
                        seconds[name].append(spent / (generator.stats.decode_tokens - count))
                ratios = [b / a for a, b in zip(seconds["free"][1:], seconds["schema"][1:])]
                each = {name: statistics.median(found[1:]) * 1e3 for name, found in seconds.items()}
                print(
                    f"batch {batch}: {each['free']:.3f} ms per token, with a schema {each['schema']:.3f} ms; "
                    f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=0)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    good = validity(options.texts, options.batch) if options.texts else True
    if options.cost:
        cost(options.tokens, options.repeats, [1, 8])
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
