"""Some thousand mutations of each fuzzer, and that a fuzzer finds the mistakes it is for.

`python tests/fuzz/headers.py` runs 100,000 of each kind.
"""

import pytest
from fuzz import (
    headers,  # noqa: E402
    mutations,  # noqa: E402
    seeds,  # noqa: E402
)

from pipeline.checkpoints.gguf import header, values  # noqa: E402
from pipeline.errors import CheckpointError  # noqa: E402

RUNS = 3000
FEWER = {"packed": 600, "pieces": 500, "imatrix": 500}  # which load what is right, too, or have small headers


@pytest.mark.parametrize("kind", headers.KINDS)
def test_damaged_headers(kind, tmp_path):
    runs = FEWER.get(kind, RUNS)
    counts = headers.run(kind, range(10**6, 10**6 + runs), tmp_path)
    assert sum(counts.values()) == runs and min(counts.values()) > runs // 50


@pytest.mark.parametrize("kind", headers.KINDS)
def test_a_mutation_can_be_made_again(kind):
    damage = headers.KINDS[kind][0]
    assert [damage(number) for number in range(50)] == [damage(number) for number in range(50)]
    assert len({damage(number) for number in range(200)}) > 150


def test_mutations_of_json_are_mostly_json():
    import json

    good = 0
    for number in range(300):
        try:
            json.loads(mutations.mutated_json(seeds.SAFETENSORS, number))
            good += 1
        except ValueError:
            pass
    assert 100 < good < 300


class _Need(values.Cursor):
    """A reader that takes the file's word for lengths."""

    def need(self, count, what):
        pass


MISTAKES = {
    "no bounds": (header, "Cursor", _Need),
    "no overlaps": (header, "_check_overlap", lambda *_: None),
    "memory by a count": (
        header,
        "_count",
        lambda cursor, what, most: bytearray(min(n := cursor.u64(what), 2**28)) and n,
    ),
    "another error": (header, "_alignment", lambda cursor, metadata: metadata.get("general.alignment", 32) + 0),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_fuzzer_finds_mistakes(mistake, tmp_path, monkeypatch):
    monkeypatch.setattr(*MISTAKES[mistake])
    with pytest.raises(Exception) as caught:
        headers.run("gguf", range(20_000), tmp_path)
    assert not isinstance(caught.value, CheckpointError) and "mutation" in "".join(caught.value.__notes__)
