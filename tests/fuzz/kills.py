"""Kills a batch of 200 rows, one of them slow, at many moments, and looks for rows that were finished and are lost.
Then it kills a batch of 2,000 rows as often, goes on with --resume each time, and compares with an undisturbed run.

    python tests/fuzz/kills.py [MOMENTS]      # 100 by default; takes some minutes

A row that was finished a second before the kill must be in the file. The program says how long before the kill the
youngest row was finished that is in no file, which is usually well below a millisecond. With --resume, no row may go or
come twice, and in the end the file must be that of the undisturbed run, byte for byte.
"""

import json
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.kills import ROWS, go_on, kill, write_prompts  # noqa: E402
from support.programs import start  # noqa: E402

MOMENTS = 100
MANY = 2000  # rows of the batch that goes on
LONG = 60.0  # seconds in which a run ends
GRACE = 1.0  # seconds that a finished row may take to its file


def length(prompts: Path, out: Path) -> float:
    """Seconds from the end of a run's first row to that of its last one, on this machine as it is now."""
    ages = kill(start, prompts, out, LONG).ages.values()
    assert len(ages) == ROWS, f"a run takes longer than {LONG} s; close what keeps the machine busy"
    return max(ages) - min(ages)


def lose(moments: int) -> bool:
    """Whether a run that was killed lost a row."""
    lost = ended = kept = 0
    youngest = 0.0
    with tempfile.TemporaryDirectory() as name:
        prompts, out = Path(name) / "p.jsonl", Path(name) / "o.jsonl"
        write_prompts(prompts)
        last = length(prompts, out)
        for number in range(moments):
            moment = last * (number + 0.5) / moments
            run = kill(start, prompts, out, moment)
            late = {index: age for index, age in run.lost.items() if age >= GRACE}
            double = len(run.kept) - len(set(run.kept))
            if late or double or (run.ended and len(run.kept) != ROWS):
                print(f"killed {moment:.2f} s after the first row: {len(late)} rows lost, {double} written twice")
                lost += 1
            youngest = max(youngest, *run.lost.values(), 0.0)
            ended += run.ended
            kept += len(run.kept)
    print(f"{moments} runs, {ended} of them ended before the kill; {kept} rows kept")
    print(f"{lost} runs lost rows; the oldest row in no file was finished {1000 * youngest:.3f} ms before the kill")
    return lost > 0


def goes_on(moments: int) -> bool:
    """Whether a batch that was killed again and again became another one than an undisturbed run writes."""
    chance = random.Random(5)
    with tempfile.TemporaryDirectory() as name:
        prompts, out, whole = (Path(name) / file for file in ("p.jsonl", "o.jsonl", "whole.jsonl"))
        write_prompts(prompts, MANY)
        kills, wrong = go_on(start, prompts, out, [chance.expovariate(8) for _ in range(moments)])
        seed = json.loads(Path(f"{out}.run").read_text())["settings"]["seed"]
        undisturbed = kill(start, prompts, whole, LONG, pause=0, more=("--temperature", 0.8, "--seed", seed))
        assert undisturbed.ended, f"a run takes longer than {LONG} s; close what keeps the machine busy"
        same = out.read_bytes() == whole.read_bytes()
    print("\n".join(wrong) or "no row went or came twice")
    print(f"{kills} kills of a batch of {MANY} rows; its file is {'that' if same else 'NOT that'} of one whole run")
    return bool(wrong) or not same


def main(moments: int) -> int:
    """The exit code: 1 if a row was lost."""
    return 1 if lose(moments) + goes_on(moments) else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else MOMENTS))
