"""Makes the golden files of tests/data/families with transformers: python tests/support/families/make_goldens.py
[FAMILY ...]

For each case of cases.py: transformers makes the model and saves it, which tells the names and shapes of its
checkpoint. The checkpoint is written anew with weights that follow from those, transformers loads that, and what it
computes in float32 is kept: the logits after each of 64 tokens, and 32 tokens chosen greedily after the first 8 of
them. Needs torch and transformers.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS))

from support.families.cases import CASES  # noqa: E402
from support.families.files import write_folder  # noqa: E402
from support.families.golden import FOLDER, GREEDY, POSITIONS, PROMPT, save  # noqa: E402
from support.families.grid import tokens  # noqa: E402

MARGIN = 1e-3  # between the two largest logits wherever a token is chosen: rounding, some 1e-5, must not decide


def make(name: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    case = CASES[name]
    config = AutoConfig.for_model(case.model_type, **case.arguments)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
        shapes = _shapes(folder / "model.safetensors")
        saved = json.loads((folder / "config.json").read_text())
        golden = {"config": saved, "tensors": shapes}
        write_folder(folder, name, golden)
        logits, chosen, margin = reference(folder, saved["vocab_size"])
    save(name, golden | {"greedy": chosen}, logits)
    size = sum(file.stat().st_size for file in FOLDER.glob(f"{name}.*"))
    print(
        f"{name}: {len(shapes)} tensors, deviation of logits {logits.std():.2f}, margin {margin:.3f}, "
        f"{len(set(chosen))} different tokens, {size:,} bytes"
    )
    if margin < MARGIN or len(set(chosen)) < 3:
        sys.exit(
            f"{name}: two logits are closer than {MARGIN} where a token is chosen, or all tokens are alike; "
            "give it another seed in cases.py"
        )


def reference(folder: Path, vocab: int):
    """(logits [64, vocab], 32 greedy tokens, smallest margin) of the checkpoint in `folder` by transformers in
    float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    wrong = {kind: keys for kind, keys in report.items() if keys}
    if wrong:
        sys.exit(f"{folder}: transformers does not take the checkpoint: {wrong}")
    with torch.no_grad():
        sequence = tokens(POSITIONS, vocab)
        logits = model.eval()(torch.tensor([sequence])).logits[0].numpy()
        text, margin = sequence[:PROMPT], np.inf
        while len(text) < PROMPT + GREEDY:
            last = model(torch.tensor([text]), use_cache=False).logits[0, -1].numpy()
            second, first = np.sort(last)[-2:]
            margin = min(margin, first - second)
            text.append(int(last.argmax()))
    return logits, text[PROMPT:], margin


def _shapes(file: Path) -> dict:
    with open(file, "rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return {name: entry["shape"] for name, entry in sorted(header.items()) if name != "__metadata__"}


if __name__ == "__main__":
    for family in sys.argv[1:] or CASES:
        make(family)
