"""Writes tests/data/sentencepiece: small models that SentencePiece trains, and the ids that it gives texts.

PYTHONPATH=.:tests python tests/support/sentencepiece_goldens.py      # where the package sentencepiece is
"""

import gzip
import json
import random
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "data" / "sentencepiece"
DOCS = Path(__file__).resolve().parents[2] / "docs"
OTHERS = (
    "你好，世界。我们今天去公园。",
    "Привет, мир! Как дела?",
    "مرحبا بالعالم",
    "こんにちは世界",
    "🙂 😀 emoji ok",
    "naïve café Ünïcödé ﬁne ½ ① Ａ",
)
PLAIN = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
SPACES = ["▁▁", "▁▁▁", "▁▁▁▁"]
RULES = "41\t61\nC9\tE9\nFB01\t66 69\n65 301\tE9\n2460\t31\n"  # A to a, É to é, ﬁ to fi, e and its accent to é, ① to 1
MODELS = {
    "llama": {"model_type": "bpe", "byte_fallback": True, "split_digits": True, **PLAIN},
    "trimmed": {"model_type": "bpe"},
    "gemma": {
        "model_type": "bpe",
        "byte_fallback": True,
        "add_dummy_prefix": False,
        "user_defined_symbols": ["<start_of_turn>", "<end_of_turn>", "\n\n", *SPACES],
        **PLAIN,
    },
    "unigram": {"model_type": "unigram"},
    "unigram_bytes": {"model_type": "unigram", "byte_fallback": True, **PLAIN},
}


def texts() -> list[str]:
    """Edges, words of the documents with all kinds of space between, and letters without any order."""
    found = ["", "a", " ", "  ", " hello", " hello  world ", "x\ny\n\nz", "tabs\tand  spaces   here    four     five"]
    found += [
        "12345 3.14",
        "👍🏽 xyz",
        "<start_of_turn>user\nhi<end_of_turn>",
        "\u200bzero",
        "e\u0301 Eé É",
        "\r\nwin",
        "▁",
    ]
    found += ["a▁b", "Ω≈ç√∫", "한국어 텍스트", "\x00", *OTHERS]
    random_ = random.Random(1)
    corpus = _corpus()
    words = corpus.split()
    for _ in range(120):
        parts = (
            random_.choice(words) + random_.choice([" ", "  ", "\n", " "]) for _ in range(random_.randrange(1, 12))
        )
        found.append("".join(parts)[random_.randrange(3) :])
    found += ["".join(random_.choices(corpus, k=random_.randrange(1, 30))) for _ in range(120)]
    return found


def _corpus() -> str:
    return "\n".join([(DOCS / "glossary.md").read_text(), (DOCS / "sampling.md").read_text(), *OTHERS * 20])


def main() -> None:
    import sentencepiece

    FOLDER.mkdir(exist_ok=True)
    given, ids = texts(), {}
    with tempfile.TemporaryDirectory() as folder:
        corpus, rules = Path(folder) / "corpus.txt", Path(folder) / "rules.tsv"
        corpus.write_text(_corpus())
        rules.write_text(RULES)
        for name, options in MODELS.items():
            own = {} if "normalization_rule_name" in options else {"normalization_rule_tsv": str(rules)}
            sentencepiece.SentencePieceTrainer.train(
                input=str(corpus), model_prefix=f"{folder}/{name}", vocab_size=600, minloglevel=2,
                max_sentence_length=10000, **options, **own,
            )  # fmt: skip
            model = (Path(folder) / f"{name}.model").read_bytes()
            (FOLDER / f"{name}.model").write_bytes(model)
            processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            ids[name] = [processor.encode(text) for text in given]
    content = json.dumps({"texts": given, "ids": ids}).encode()
    (FOLDER / "encoded.json.gz").write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    main()
