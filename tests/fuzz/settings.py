"""Each key of each family's config.json, changed to other values, against transformers: what changes its logits changes
ours, or is refused.

    python tests/fuzz/settings.py [FAMILY ...]     needs torch and transformers; a minute or two for each family

The tiny models of support/families/cases.py are changed in one key at a time. Lines tell where the two differ:

    ignored     the logits differ from those of transformers
    loads       transformers refuses the value
    crashes     an error that is not one clear line
    refused     transformers computes it and its logits change by it: with --refused alone
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (1, 2)]

import numpy as np  # noqa: E402
from support.config_classes import OWN  # noqa: E402
from support.families.cases import ALL, Case  # noqa: E402
from support.families.files import values  # noqa: E402
from support.families.grid import tokens  # noqa: E402

import pipeline as p  # noqa: E402
from fuzz.other_values import changes  # noqa: E402
from pipeline.errors import OnebufError, UsageError  # noqa: E402

POSITIONS, BOUND = 40, 1e-3
# Keys that say nothing of a forward pass in float32 over a text without padding.
SAYS_NOTHING = {
    *("model_type", "architectures", "transformers_version", "dtype", "torch_dtype", "use_cache", "_name_or_path"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "output_attentions", "return_dict"),
    *(
        "output_hidden_states",
        "output_router_logits",
        "router_aux_loss_coef",
        "chunk_size_feed_forward",
        "problem_type",
    ),
    *("is_encoder_decoder", "id2label", "label2id", "attention_dropout", "hidden_dropout", "pretraining_tp"),
    *("base_model_tp_plan", "base_model_pp_plan", "keys_to_ignore_at_inference", "default_theta"),
    # How transformers cuts a scan, and what it does on GPUs.
    *("chunk_size", "mamba_chunk_size", "use_mamba_kernels", "residual_in_fp32", "rescale_prenorm_residual"),
}


class Reference:
    """transformers' models of one case, in a folder: the weights that a change leaves are the same."""

    def __init__(self, case: Case, folder: Path) -> None:
        import torch

        self.torch, self.case, self.folder = torch, case, folder
        self.saved: dict[str, Any] = {}

    def of(self, config: dict[str, Any]) -> Any:
        """A model; its checkpoint is in the folder then."""
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

        (self.folder / "config.json").write_text(json.dumps(config))
        made = AutoConfig.from_pretrained(self.folder)
        sees = AutoModelForImageTextToText if "text_config" in config else AutoModelForCausalLM
        model = sees.from_config(made, dtype=self.torch.float32, attn_implementation="eager").eval()
        shapes: dict[str, Any] = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        shapes["tied"] = made.get_text_config().tie_word_embeddings
        if self.saved.get("shapes") != shapes:
            self._fill(model)
            model.save_pretrained(self.folder)
            self.saved = {"shapes": shapes, "values": {n: v.clone() for n, v in model.state_dict().items()}}
            (self.folder / "config.json").write_text(json.dumps(config))
        model.load_state_dict(self.saved["values"])
        return model

    def _fill(self, model: Any) -> None:
        with self.torch.no_grad():
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    made = values(self.case, name, tuple(value.shape)) if value.ndim else np.ones(())
                    value.copy_(self.torch.from_numpy(np.ascontiguousarray(made)))

    def logits(self, config: dict[str, Any], text: list[int]) -> np.ndarray:
        with self.torch.no_grad():
            found: np.ndarray = self.of(config)(self.torch.tensor([text]), use_cache=False).logits[0].numpy()
        return found


def ours(folder: Path, text: list[int]) -> np.ndarray:
    with p.open_checkpoint(folder) as checkpoint:
        model = p.load_model(checkpoint, device="cpu")
        if model.context < len(text):
            raise UsageError(f"a text may have {model.context} tokens at most")
        return model.logits(text, len(text), "f32")


def compare(reference: Reference, config: dict[str, Any], text: list[int], base: np.ndarray) -> tuple[str, str]:
    """(outcome, what is to be said of it) of one configuration."""
    try:
        theirs = reference.logits(config, text)
    except Exception as error:  # whatever transformers raises, it refuses
        theirs, why = None, " ".join(str(error).split())[-100:]
    try:
        mine = ours(reference.folder, text)
    except OnebufError as error:
        moved = theirs is None or not np.array_equal(theirs, base) or theirs.shape != base.shape
        return "refused" if theirs is not None and moved else "refused too", str(error)
    except Exception as error:
        return "crashes", repr(error)
    if theirs is None:
        return "loads", f"transformers: {why}"
    if not np.isfinite(theirs).all():
        return "not finite", ""
    error = float(np.abs(mine - theirs).max()) if mine.shape == theirs.shape else np.inf
    if error < BOUND * max(1.0, float(theirs.std())):
        return "agrees", ""
    return "ignored", f"differs by {error:.1e}; theirs moved by {_moved(theirs, base):.1e}"


def _moved(theirs: np.ndarray, base: np.ndarray) -> float:
    return float(np.abs(theirs - base).max()) if theirs.shape == base.shape else np.inf


def configurations(case: Case, *, wrong: bool) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(key, value, configuration) for each change of one key."""
    from transformers import AutoConfig

    base = {"model_type": case.model_type, **case.arguments}
    nested = "text_config" in base
    inner = {"model_type": case.text_type, **base["text_config"]} if nested else base
    known = AutoConfig.for_model(inner["model_type"]).to_dict()
    rest = {key: value for key, value in inner.items() if key != "model_type"}
    for key, value in changes(known | rest, SAYS_NOTHING, wrong=wrong):
        changed = {**inner, key: value}
        yield key, value, base | {"text_config": changed} if nested else changed


def run(name: str, show: set[str], only: str, *, wrong: bool) -> Counter[str]:
    counts: Counter[str] = Counter()
    case = ALL[name]
    text = tokens(POSITIONS, 50)
    with tempfile.TemporaryDirectory() as folder:
        reference = Reference(case, Path(folder))
        base = reference.logits({"model_type": case.model_type, **case.arguments}, text)
        for key, value, config in configurations(case, wrong=wrong):
            if only and key != only:
                continue
            outcome, says = compare(reference, config, text, base)
            counts[outcome] += 1
            if outcome in show:
                print(f"{name}: {key} = {json.dumps(value)[:150]}: {outcome}: {says[:230]}", flush=True)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="names of cases.py (default: all)")
    parser.add_argument("--key", default="", help="this key alone")
    parser.add_argument("--refused", action="store_true", help="tell what transformers computes and is refused")
    parser.add_argument("--wrong", action="store_true", help="also values of a wrong type: three times as many")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    show = {"ignored", "loads", "crashes", *(["refused"] if options.refused else [])}
    total: Counter[str] = Counter()
    for name in options.families or [name for name in ALL if ALL[name].model_type not in OWN]:
        counts = run(name, show, options.key, wrong=options.wrong)
        print(f"{name}: {dict(counts)}", flush=True)
        total += counts
    print(dict(total))
    return bool(total["ignored"] + total["loads"] + total["crashes"])


if __name__ == "__main__":
    sys.exit(main())
