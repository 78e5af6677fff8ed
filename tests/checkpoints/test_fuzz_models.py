"""Some hundred damaged models, and that their fuzzer sees the mistakes it is for.

`python tests/fuzz/models.py` runs 20,000. It forks processes, which a process with threads, such as this, must not do.
"""

import re
import subprocess
import sys

import pytest
from fuzz import damage
from support.paths import ROOT

pytestmark = pytest.mark.one_processor
RUNS = 250


def test_damaged_models():
    command = [sys.executable, "tests/fuzz/models.py", "--runs", str(RUNS), "--first", str(10**6), "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 0 and last.endswith("; 0 mistakes"), done.stdout + done.stderr
    counts = {name: int(count) for count, name in re.findall(r"(\d+) (refused|ran|failed as a row)", last)}
    assert sum(counts.values()) == RUNS and counts["refused"] > RUNS // 3 and counts["ran"] > RUNS // 20


def test_a_damage_can_be_made_again():
    assert [damage.damaged(number) for number in range(30)] == [damage.damaged(number) for number in range(30)]


MISTAKES = """
import os, sys, time
from pathlib import Path
sys.path[:0] = ["tests", "."]
from fuzz import attempts, batches
batches.SECONDS = 2
def loop():
    while True: pass
actions = [
    lambda: "ran", os.abort, loop, lambda: bytearray(2 << 30), lambda: {}["x"],
    lambda: os.write(2, b"panicked") and "ran", lambda: os._exit(0), lambda: attempts.check_message("two\\nlines"),
    lambda: attempts.check_printable("\\x1b"),
    lambda: "ran",
]
attempts.once = lambda number, folder, device: actions[number]()
attempts.open_device = lambda: None
for result in batches.results(range(len(actions)), 2, 4, Path(sys.argv[1])):
    print(result.number, result.outcome, result.mistake)
"""
FOUND = {
    0: "ran",
    1: "SIGABRT",
    2: "a hang",
    3: "MemoryError",
    4: "KeyError",
    5: "on standard error",
    6: "exit code 0",
    7: "an unclear message",
    8: "a terminal obeys",
    9: "ran",
}


def test_the_fuzzer_finds_mistakes(tmp_path):
    """A crash, a hang, memory, another error, words of others, an early end, unclear and unprintable messages."""
    command = [sys.executable, "-c", MISTAKES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    lines = {int(line.split()[0]): line for line in done.stdout.splitlines() if line[:1].isdigit()}
    assert set(lines) == set(FOUND), done.stdout + done.stderr
    assert all(words in lines[number] for number, words in FOUND.items()), lines
