"""Ten minutes on a Mac, and one JSON file to send back: what works on its GPU, what does not, and how fast.

    make test PYTEST_ARGS=tests/docs    # installs what the tests need
    .venv/bin/python tools/mac_report.py --out report.json

Each part runs by itself: one that fails, or takes longer than its share, is written down, and the others go on. No file
but the report leaves the machine by itself, and it names nothing of the user: no path, no host name.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "data" / "golden.json"
SHARE = 240  # seconds that a part may take at most
MODELS = {"storyteller": [], "qwen3-30b-a3b": ["--layers", "2", "--vocab", "8192"]}

sys.path.insert(0, str(ROOT))


def system(device: str) -> dict[str, Any]:
    """The machine and its tools."""
    return {
        "system": platform.platform(),
        "macos": platform.mac_ver()[0],
        "machine": platform.machine(),
        "processor": _said("sysctl", "-n", "machdep.cpu.brand_string"),
        "memory": _said("sysctl", "-n", "hw.memsize"),
        "python": platform.python_version(),
        "clang": _said("clang", "--version"),
        "metal compiler": _said("xcrun", "-sdk", "macosx", "metal", "--version"),
    }


def _said(*command: str) -> str:
    """The first line of what a program prints; the error where it is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def limits(device: str) -> dict[str, Any]:
    """What the device says of itself, and how long it takes to open, which compiles where nothing is compiled."""
    import pipeline as p

    begin = time.monotonic()
    opened = p.open_device(device)
    seconds = time.monotonic() - begin
    core = opened.core
    names = ("name", "hardware", "isa", "unified", "max_buffer", "working_set", "memory")
    return {"opens in s": round(seconds, 2), "simd width": opened.simd_width} | {n: getattr(core, n) for n in names}


def kernels(device: str, tests: str = "tests/kernels") -> dict[str, Any]:
    """The kernel tests on the device, which compare with NumPy: counts, and the first lines of what failed."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results.xml")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--junitxml={results}",
            "-k",
            device,
        ]
        try:
            done = subprocess.run([*command, *tests.split()], cwd=ROOT, capture_output=True, text=True, timeout=SHARE)
        except subprocess.TimeoutExpired:
            return {"cut after s": SHARE}
        if not results.exists():
            raise RuntimeError(done.stdout[-500:] + done.stderr[-500:])
        (suite,) = ElementTree.parse(results).getroot().iter("testsuite")
    failed = {
        f"{case.get('classname')}::{case.get('name')}": (bad.get("message") or "").partition("\n")[0][:300]
        for case in suite.iter("testcase")
        for bad in [*case.findall("failure"), *case.findall("error")]
    }
    return {name: int(suite.get(name, 0)) for name in ("tests", "skipped", "failures", "errors")} | {"failed": failed}


def story(device: str) -> dict[str, Any]:
    """The built-in model's greedy texts beside those of transformers."""
    import pipeline as p
    from pipeline.checkpoints.storyteller import builtin_model

    wanted = json.loads(GOLDEN.read_text())["4bit"]
    with p.open_checkpoint(builtin_model()) as checkpoint:
        generator = p.Generator(p.load_model(checkpoint, device=p.open_device(device)))
        given = [p.Request(i, tuple(each["prompt_ids"]), len(each["tokens"])) for i, each in enumerate(wanted)]
        found: dict[int, list[int]] = {i: [] for i in range(len(given))}
        for event in generator.run(given):
            if hasattr(event, "token"):
                found[event.index].append(event.token)
    first = [
        next((n for n, (a, b) in enumerate(zip(found[i], each["tokens"])) if a != b), None)
        for i, each in enumerate(wanted)
    ]
    return {"texts": len(wanted), "equal": first.count(None), "first difference": first}


START = """
import json, sys, time
begin = time.monotonic()
import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
device = p.open_device(sys.argv[1])
with p.open_checkpoint(builtin_model()) as checkpoint:
    generator = p.Generator(p.load_model(checkpoint, device=device))
    ready = time.monotonic() - begin
    for event in generator.run([p.Request(0, (0, 819, 779, 259), max_tokens=4)]):
        pass
    found, compiled = device._library().archive_counts
    print(json.dumps({"ready in s": round(ready, 3), "from the archive": found, "compiled": compiled,
                      "resident bytes": device.core.resident}))
"""


def starts(device: str) -> dict[str, Any]:
    """Starts of the built-in model, each a process: the first makes an archive of compiled kernels, which the second
    finds, and the third has none. macOS keeps compiled kernels, too, so that the first may find them there."""
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for name, archive in (("first", "1"), ("second", "1"), ("without archive", "0")):
            done = subprocess.run(
                [sys.executable, "-c", START, device],
                cwd=ROOT,
                env={**os.environ, "OB_CACHE": cache, "OB_ARCHIVE": archive},
                capture_output=True,
                text=True,
                timeout=SHARE,
            )
            found[name] = json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()[-500:]
    return found


RACE = """#include <metal_stdlib>
using namespace metal;
kernel void race(device uint *x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    x[0] = i;
}
"""


def others(device: str) -> dict[str, Any]:
    """The devices beside the GPU: the texts on cpu, and what the checker says of a race in the fourth line."""
    import numpy as np

    import pipeline as p

    checker = p.open_device("checker")
    checker.compile(RACE).kernel("race").run(np.zeros(1, np.uint32), grid=32, threads=32)
    findings = [f"{each.kind}, line {each.line}" for each in checker.findings]
    return {"cpu": story("cpu"), "checker": findings}


def speed(device: str) -> dict[str, Any]:
    """Prompt processing and text generation, as pipeline.bench measures them."""
    found = {}
    for model, options in MODELS.items():
        command = [sys.executable, "-m", "pipeline.bench", model, *options, "--device", device, "--json"]
        done = subprocess.run(
            [*command, "--pp", "512", "--tg", "64", "--repeats", "3"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=SHARE,
        )
        found[model] = json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()[-500:]
    return found


PARTS: dict[str, Callable[[str], dict[str, Any]]] = {
    part.__name__: part for part in (system, limits, starts, kernels, story, others, speed)
}


def report(device: str, parts: dict[str, Callable[[str], dict[str, Any]]] = PARTS) -> dict[str, Any]:
    """All parts, each with its seconds; one that fails has the error in its place."""
    found: dict[str, Any] = {"device": device, "date": time.strftime("%Y-%m-%d")}
    for name, part in parts.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        begin = time.monotonic()
        try:
            result = part(device)
        except Exception as error:  # whatever it is, the other parts are worth having
            result = {"error": f"{type(error).__name__}: {str(error).replace(str(ROOT), '.')[:500]}"}
        found[name] = result | {"seconds": round(time.monotonic() - begin, 1)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="metal", help="metal, or another one to try this program (default: metal)")
    parser.add_argument("--out", metavar="FILE.json", type=Path, default=Path("onebuf-mac-report.json"))
    options = parser.parse_args()
    text = json.dumps(report(options.device), indent=1, default=str)
    options.out.write_text(text.replace(str(Path.home()), "~") + "\n")
    print(f"{options.out}: written; please send it to the project", file=sys.stderr)


if __name__ == "__main__":
    main()
