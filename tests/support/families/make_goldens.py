"""Makes the golden files of tests/data/families with transformers:

    python tests/support/families/make_goldens.py [--check] [FAMILY ...]

For each case of cases.py: transformers makes the model and saves it, which tells the names and shapes of its
checkpoint. The checkpoint is written anew with weights that follow from those, transformers loads that, and what it
computes in float32 is kept: the logits after each of 64 tokens, and 32 tokens chosen greedily after the first 8 of
them. A case in which rounding would decide, the token or the expert, is refused: it needs another seed. --check only
says whether the files that there are hold. Needs torch and transformers; mlx-lm for families
that transformers has not.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS))

from support.config_classes import OWN  # noqa: E402
from support.families.cases import ALL, CASES  # noqa: E402
from support.families.files import write_folder  # noqa: E402
from support.families.golden import GREEDY, POSITIONS, PROMPT, load, save  # noqa: E402
from support.families.grid import tokens  # noqa: E402

MARGIN = 1e-3  # between the two largest logits wherever a token is chosen: rounding, some 1e-5, must not decide
# Between the last expert that is chosen and the next one (or group of them), as a share of the deviation of the scores.
# Kernels that multiply quantised weights by 16-bit activations move scores by up to 1e-4 of it: five times as much is
# safe, and one seed in some tens has it at all of the 500 choices that five layers make here.
ROUTER_MARGIN = 5e-4
FLOAT_MARGIN = 5e-5  # of variants, which are tested in float32 alone: it moves scores by some 1e-6


def make(name: str, check: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        golden = load(name)[0] if check else described(name, folder)
        write_folder(folder, name, golden)
        with margins_of_routers() as routers:
            config = golden["config"]
            logits, chosen, margin = reference(folder, config.get("text_config", config)["vocab_size"])
    router = min(routers, default=np.inf)
    print(
        f"{name}: {len(golden['tensors'])} tensors, deviation of logits {logits.std():.2f}, margin of tokens "
        f"{margin:.3f}, of experts {router:.1e}, {len(set(chosen))} different tokens"
    )
    if margin < MARGIN or len(set(chosen)) < 3:
        sys.exit(
            f"{name}: two logits are closer than {MARGIN} where a token is chosen, or all tokens are alike; give it "
            "another seed in cases.py"
        )
    least = ROUTER_MARGIN if name in CASES else FLOAT_MARGIN
    if router < least:
        sys.exit(
            f"{name}: a chosen expert leads the next one by {router:.1e} of the scores' deviation, less than "
            f"{least}, so that rounding may choose; give it another seed in cases.py"
        )
    if not check:
        save(name, golden | {"greedy": chosen}, logits)


def described(name: str, folder: Path) -> dict:
    """The configuration that transformers saves for the case, and names and shapes of its tensors."""
    if ALL[name].model_type in OWN:
        return _described_by_mlx(ALL[name])
    import torch
    from transformers import AutoConfig

    case = ALL[name]
    config = AutoConfig.for_model(case.model_type, **case.arguments)
    _class(bool(case.whole)).from_config(config, dtype=torch.float32).save_pretrained(folder)
    return {
        "config": json.loads((folder / "config.json").read_text()),
        "tensors": _shapes(folder / "model.safetensors"),
    }


@contextlib.contextmanager
def margins_of_routers():
    """A list that grows by a number for each call of torch.topk, which all routers use: how far the last chosen score
    leads the next one, at the row where that is least, as a share of that row's deviation."""
    import torch

    margins, topk = [], torch.topk

    def measured(scores, k, *rest, **options):
        if k < scores.shape[-1]:
            ordered = scores.detach().double().sort(-1, descending=True).values.reshape(-1, scores.shape[-1])
            lead = (ordered[:, k - 1] - ordered[:, k]).nan_to_num(np.inf)
            finite = ordered.masked_fill(~ordered.isfinite(), 0)
            margins.append(float((lead / finite.std(-1).clamp(min=1e-30)).min()))
        return topk(scores, k, *rest, **options)

    method = torch.Tensor.topk
    torch.topk = torch.Tensor.topk = measured
    try:
        yield margins
    finally:
        torch.topk, torch.Tensor.topk = topk, method


def reference(folder: Path, vocab: int):
    """(logits [64, vocab], 32 greedy tokens, smallest margin) of the checkpoint in `folder` by transformers in
    float32."""
    import torch

    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] in OWN:
        return _greedy(_logits_by_mlx(folder, config), vocab)
    sees = "text_config" in config
    model, report = _class(sees).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    wrong = {kind: keys for kind, keys in report.items() if keys}
    if wrong:
        sys.exit(f"{folder}: transformers does not take the checkpoint: {wrong}")
    model.eval()
    with torch.no_grad():
        return _greedy(lambda text: model(torch.tensor([text]), use_cache=False).logits[0].numpy(), vocab)


def _greedy(logits_of, vocab: int):
    """The same of a function that gives the logits of each token of a text."""
    sequence = tokens(POSITIONS, vocab)
    logits = logits_of(sequence)
    text, margin = sequence[:PROMPT], np.inf
    while len(text) < PROMPT + GREEDY:
        last = logits_of(text)[-1]
        second, first = np.sort(last)[-2:]
        margin = min(margin, first - second)
        text.append(int(last.argmax()))
    return logits, text[PROMPT:], margin


# Families that transformers has not, by mlx-lm


def _described_by_mlx(case) -> dict:
    from mlx.utils import tree_flatten

    config = case.arguments | {"model_type": case.model_type}
    shapes = {name: list(value.shape) for name, value in tree_flatten(_mlx_model(config).parameters())}
    return {"config": config, "tensors": shapes}


def _logits_by_mlx(folder: Path, config: dict):
    import mlx.core as mx

    model = _mlx_model(config)
    model.load_weights(str(folder / "model.safetensors"))
    return lambda text: np.array(model(mx.array([text])))[0]


def _mlx_model(config: dict):
    import importlib

    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    module = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    return module.Model(module.ModelArgs.from_dict(config))


def _class(sees: bool):
    import transformers

    return transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM


def _shapes(file: Path) -> dict:
    with open(file, "rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return {name: entry["shape"] for name, entry in sorted(header.items()) if name != "__metadata__"}


if __name__ == "__main__":
    families = [argument for argument in sys.argv[1:] if argument != "--check"]
    for family in families or ALL:
        make(family, check="--check" in sys.argv)
