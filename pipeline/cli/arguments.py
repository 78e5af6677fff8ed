"""The command line of `python -m pipeline.run`, turned into checked settings."""

import argparse
import os

from ..errors import UsageError
from ..generation.settings import OWN_MEMORY_BATCH, PROMPT_ROWS
from ..graph.formats import CACHE_DTYPES
from ..host import DEVICES, LIST
from .program import Parser, file_path
from .settings import MAX_TOKENS, ORDERS, STORY_TEMPERATURE, CheckedSettings, Settings

__all__ = ["parse_arguments"]

EPILOG = """\
exit codes: 0 all prompts ran; 1 some prompts failed (their rows have "error"), the others ran;
2 nothing could run, one line says why; 129, 130 or 143 ended by a signal, finished rows are in --out
"""


def parse_arguments(arguments: list[str] | None = None) -> CheckedSettings:
    """Checked settings from `arguments` (default: the process's own). UsageError says what to fix."""
    # argparse loses a positional argument that stands behind an option (Python 3.11), so the words are what it leaves.
    parser = _parser()
    given, rest = parser.parse_known_args(arguments)
    cut = rest.index("--") if "--" in rest else len(rest)
    options = [word for word in rest[:cut] if word.startswith("-") and word != "-"]
    if options:
        parser.error(f"unrecognized arguments: {' '.join(options)}")
    words = rest[:cut] + rest[cut + 1 :]
    if words:
        given.prompt = _one_prompt(words, given.prompt)
    return Settings(**vars(given)).checked()


def _one_prompt(words: list[str], prompt: str | None) -> str:
    """The prompt where it stands without an option. UsageError where something else is likelier to be meant."""
    first = _short(words[0])
    if prompt is not None:
        raise UsageError(
            f"{first}: what is it, beside --prompt {_short(prompt)}? put a prompt of several words in quotes"
        )
    if len(words) > 1:
        raise UsageError(f"{first} {_short(words[1])}: one prompt is one word; put a prompt of several words in quotes")
    if not any(map(str.isspace, words[0])) and os.path.exists(words[0]):
        raise UsageError(
            f"{first}: is a file or folder; give it to --model or --prompts, or to --prompt if it is the text"
        )
    return words[0]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "run",
        usage="%(prog)s [OPTION ...] [PROMPT]",
        description="Generate text with a mixture-of-experts model. With no argument: a story by the built-in model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--model",
        metavar="PATH",
        type=file_path,
        help="checkpoint folder, Hugging Face or MLX, a .gguf file, smollm2, or org/name on the Hugging Face hub "
        "(default: the built-in storyteller)",
    )
    add("--prompt", metavar="TEXT", help="one prompt; it may stand without --prompt, too")
    add(
        "--prompts",
        metavar="FILE",
        type=file_path,
        help=".txt (one prompt per line), .jsonl (prompt or tokens, optional id, or OpenAI batch), - for stdin",
    )
    add("--chat", action="store_true", help="prompts are messages to the model: use its chat template")
    add("--system", metavar="TEXT", help="with --chat: the system message before each prompt")
    add(
        "--stop",
        metavar="TEXT",
        action="append",
        default=[],
        help="end a text where TEXT begins; may be given several times",
    )
    add(
        "--out",
        metavar="FILE.jsonl",
        type=file_path,
        help="write one row per prompt, each as soon as it is finished; - for stdout",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with an earlier run of the same prompts: keep the rows in --out, and run the other prompts",
    )
    add("--overwrite", action="store_true", help="empty --out first, where it has rows of an earlier run")
    add(
        "--order",
        metavar="ORDER",
        default=ORDERS[0],
        help="of the rows in --out at the end: input, or finished, which takes no second copy (default: %(default)s)",
    )
    add("--eval", metavar="NAME", help="perplexity: score the texts of --prompts or --text, and generate nothing")
    add("--text", metavar="FILE", type=file_path, help="with --eval: a file that is one text")
    add(
        "--stride",
        metavar="N",
        type=_whole,
        help="with --eval: tokens from one window to the next; --context is the window (default: half of that)",
    )
    add("--n", metavar="N", type=_whole, default=1, help="texts of each prompt, each with its own seed (default: 1)")
    add("--max-tokens", metavar="N", type=_whole, help=f"most tokens per prompt (default {MAX_TOKENS})")
    add(
        *("--temp", "--temperature"),
        dest="temperature",
        metavar="T",
        type=_number,
        help=f"0 is greedy (default: 0; for a story {STORY_TEMPERATURE})",
    )
    add("--top-k", metavar="K", type=_whole, default=0, help="sample from the K largest (default: 0, off)")
    add(
        "--top-p",
        metavar="P",
        type=_number,
        default=1.0,
        help="sample from the most probable with P together (default: 1, off)",
    )
    add(
        "--min-p",
        metavar="P",
        type=_number,
        default=0.0,
        help="and with this share of the largest at least (default: 0, off)",
    )
    add(
        "--repetition-penalty",
        metavar="R",
        type=_number,
        default=1.0,
        help="weakens tokens that occurred (default: 1, off)",
    )
    add("--repetition-window", metavar="N", type=_whole, default=0, help="among the last N tokens (default: 0, all)")
    add(
        "--presence-penalty",
        metavar="A",
        type=_number,
        default=0.0,
        help="off the logits of generated tokens (default: 0)",
    )
    add(
        "--frequency-penalty",
        metavar="A",
        type=_number,
        default=0.0,
        help="the same each time they occurred (default: 0)",
    )
    add(
        "--logit-bias",
        metavar="ID:B,...",
        type=_biases,
        default={},
        help="add B to the logit of token ID; -inf forbids it",
    )
    add(
        "--logprobs",
        metavar="N",
        type=_whole,
        default=0,
        help="the N largest log-probabilities of each token, in the rows",
    )
    add(
        "--prompt-logprobs",
        metavar="N",
        type=_whole,
        help="log-probabilities of the prompts' tokens, and the N largest of each, in the rows",
    )
    add("--seed", metavar="S", type=_whole, help="for sampling (default: random, reported at the end)")
    add(
        "--batch-size",
        metavar="N",
        type=_whole,
        help=f"sequences decoded together (default: 1; up to {OWN_MEMORY_BATCH} where the device has its own memory)",
    )
    add(
        "--context",
        metavar="N",
        type=_whole,
        help="positions of prompt and text together (default: what prompts and --max-tokens need, where it fits)",
    )
    add(
        "--prompt-rows",
        metavar="N",
        type=_whole,
        default=PROMPT_ROWS,
        help="most tokens of prompts in a step beside sequences that are decoded (default: %(default)s)",
    )
    add("--device", metavar="NAME", default="auto", help=f"{', '.join(DEVICES)}, or {LIST} (default: %(default)s)")
    add("--threads", metavar="N", type=_whole, default=0, help="of the cpu device (default: OB_THREADS or all cores)")
    add("--isa", metavar="NAME", help="instruction set of the cpu device (default: OB_ISA or the processor's best)")
    add(
        "--kv-cache",
        metavar="TYPE",
        default=CACHE_DTYPES[0],
        help="of keys and values: f16, f32 or q8 (default: %(default)s)",
    )
    add("--explain", action="store_true", help="print the chain of one decoded token and exit")
    add("--trace", metavar="FILE", type=file_path, help="write a Chrome trace of every dispatch")
    add(
        "--metrics",
        metavar="FILE",
        type=file_path,
        help="keep the figures of the run there, in Prometheus's text format, renewed every few seconds",
    )
    add("--json", action="store_true", help="print only a summary, as JSON")
    add(
        "--ray",
        metavar="ADDRESS",
        help="spread the rows of --prompts over the machines of Ray: HOST:PORT of its head, auto or local",
    )
    add(
        "--ray-actors",
        metavar="N",
        type=_whole,
        help="with --ray: actors on each machine where they run on processors (default: 1); of GPUs each has one",
    )
    return parser


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{_short(text)} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{_short(text)} is not a number") from None


def _biases(text: str) -> dict[int, float]:
    biases: dict[int, float] = {}
    for part in text.split(","):
        token, colon, bias = part.partition(":")
        if not colon or not token.strip().isdecimal():
            raise argparse.ArgumentTypeError(f"{_short(part)} is no ID:BIAS, such as 17:-2.5")
        biases[_whole(token)] = _number(bias)
    return biases


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
