"""benchmarks/figures.py: each figure is of a workload that its command measures; the tables, the page, the plot."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import figures  # noqa: E402
import pytest
from support.paths import ROOT

from pipeline.benching.options import parse_options
from pipeline.benching.steps import GROUPS
from pipeline.benching.workloads import workloads

OPTIONS = SimpleNamespace(threads=2, repeats=5, no_peer=True)


def arguments(run):
    """Of pipeline.bench; in place of a file that need not be here the built-in model."""
    words = (figures.BENCH | figures.FILES)[run].split()
    return ["storyteller", *words[1:]] if run in figures.FILES else words


def measured(run):
    """A run of two sides: onebuf takes a second for each workload, the peer as many as its place."""
    works = workloads(parse_options(arguments(run)))
    results = [
        {
            "side": side,
            "kind": work.kind,
            "tokens": work.tokens,
            "batch": work.batch,
            "context": work.context,
            "seconds": [seconds] * 3,
            "median_tokens_per_second": work.total / seconds,
            "sigma_tokens_per_second": 0.0,
            "share_of_bandwidth": 0.5 if work.kind == "tg" else None,
            "ratio_to_peer": place if side == "onebuf" else None,
        }
        for place, work in enumerate(works, 2)
        for side, seconds in (("onebuf", 1.0), ("llama.cpp", float(place)))
    ]
    step = {
        "seconds": dict.fromkeys(GROUPS, 1e-5),
        "dispatches_seconds": 8e-5,
        "between_seconds": 2e-5,
        "whole_seconds": 1e-4,
    }
    return {
        "device": {"hardware": "h", "isa": "avx2", "threads": 2, "busy_cores": 0.5},
        "peer": {"name": "llama.cpp", "version": "1"},
        "bandwidth": {"best_bytes_per_second": 2e10},
        "settings": {"repeats": 3},
        "results": results,
        "steps": [step],
    }


@pytest.fixture
def kept():
    found = {
        name: {"command": figures.command(name, OPTIONS), "measured": measured(name)}
        for name in (*figures.BENCH, *figures.FILES)
    }
    rounded = {"arithmetic": "a", "positions": 2048, "mean_kl": 1e-5, "median_kl": 1e-7, "largest_kl": 1e-2}
    found["accuracy"] = {
        "command": "python benchmarks/accuracy.py",
        "measured": [
            rounded | {"path": "prefill", "golden_equal": 3, "golden": 4},
            rounded | {"path": "batch", "golden_equal": None, "golden": None},
        ],
    }
    found["onednn"] = {
        "command": "c",
        "measured": {
            "results": [
                {
                    "shape": "expert",
                    "inputs": 2048,
                    "outputs": 768,
                    "side": "oneDNN",
                    "median_seconds": 1e-4,
                    "flops_per_second": 1e10,
                    "bytes_per_second": 1e9,
                    "onebuf_ratio": 2.5,
                }
            ]
        },
    }
    found["pool"] = {"command": "p", "measured": "a line\n"}
    return found


def test_each_figure_is_measured_by_its_command():
    def measured(run):
        return [(work.label, work.batch) for work in workloads(parse_options(arguments(run)))]

    wanted = [figure[:4] for figure in figures.FIGURES]
    assert [name for name, run, test, batch in wanted if (test, batch) not in measured(run)] == []


@pytest.mark.parametrize("name", figures.RUNS)
def test_commands_exist(name):
    words = figures.command(name, OPTIONS).split()
    if name in figures.BENCH or name in figures.FILES:
        options = parse_options(words[3:] if name in figures.BENCH else ["storyteller", *words[4:]])
        assert (options.threads, options.repeats) == (2, 5)
    else:
        done = subprocess.run([sys.executable, words[1], "--help"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and set(words[2::2]) <= set(re.findall(r"--[a-z]+", done.stdout))


def test_tables(kept):
    text = figures.markdown(kept)
    assert "h, avx2, 2 threads, 20.0 GB/s read; llama.cpp 1; others used up to 0.5 cores." in text
    assert "| prefill of 448, 2 layers | 448 ± 0 | 149 ± 0 | 3.00 |  | ≥ 5 × | decode |" in text
    assert "| decode, 2 layers | 128 ± 0 | 32 ± 0 | 4.00 | 50% | ≥ 1.15 ×, ≥ 93% of bandwidth | decode |" in text
    assert "| speed at 4,096 over that at 128 | 1.00 | 0.33 |" in text
    assert "| whole step | 100 (100%) | 100 (100%) |" in text
    assert "| a | prefill, batch | 2,048 | 1.0e-05 | 1.0e-07 | 1.0e-02 | 3 of 4 |" in text
    assert "| expert: 2,048 → 768 | oneDNN | 100 | 10 | 1.0 | 2.50 × |" in text
    assert "```\na line\n```" in text
    for each in kept.values():
        assert f"`{each['command']}`" in text


def test_a_run_whose_file_is_absent_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "decode" in figures.absent("gguf") and figures.absent("encode") is None
    file = Path(figures.GGUF.replace("~", str(tmp_path)).replace("*", "1"))
    file.parent.mkdir(parents=True)
    file.touch()
    assert figures.absent("gguf") is None and figures.files(figures.GGUF) == [str(file)]


def test_parts_alone(kept):
    for name in kept:
        assert kept[name]["command"] in figures.markdown({name: kept[name]})


def test_the_page_and_the_plot(kept, tmp_path):
    (tmp_path / "performance.md").write_text(f"head\n{figures.BEGIN}old\n{figures.END}tail\n")
    for text in ("one\n", "two\n"):
        figures.write_docs(text, tmp_path)
    assert (tmp_path / "performance.md").read_text() == f"head\n{figures.BEGIN}\ntwo\n\n{figures.END}tail\n"
    figures.draw(tmp_path / "performance.svg", kept)
    drawn = (tmp_path / "performance.svg").read_text()
    assert drawn.count("<polyline") == 4 and "batch 1<" in drawn and "context 0<" in drawn


def test_the_page_has_its_marks_and_names_commands_that_exist():
    page = (ROOT / "docs" / "performance.md").read_text()
    assert page.count(figures.BEGIN) == page.count(figures.END) == 1
    scripts = set(re.findall(r"python (benchmarks/[a-z_]+\.py)", page))
    assert scripts and all((ROOT / script).is_file() for script in scripts)


def test_runs_are_kept_from_folder_to_folder(tmp_path):
    """A run that is left out stays as it was measured."""
    (tmp_path / "figures.json").write_text(json.dumps({"pool": {"command": "p --repeats 9", "measured": "kept\n"}}))
    done = subprocess.run(
        [sys.executable, "benchmarks/figures.py", str(tmp_path), "--only", "encode"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads((tmp_path / "figures.json").read_text())) == {"pool", "encode"}
    text = (tmp_path / "figures.md").read_text()
    assert "`p --repeats 9`" in text and "commit to completion" in text and "kept" in text
