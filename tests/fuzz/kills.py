"""Kills a batch of 200 rows, one of them slow, at many moments, and looks for rows that were finished and are lost.

    python tests/fuzz/kills.py [MOMENTS]      # 100 by default; takes some minutes

A row that was finished a second before the kill must be in the file. The program says how long before the kill the
youngest row was finished that is in no file, which is usually well below a millisecond.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.kills import ROWS, kill, write_prompts  # noqa: E402
from support.programs import start  # noqa: E402

MOMENTS = 100
LONG = 60.0  # seconds in which a run ends
GRACE = 1.0  # seconds that a finished row may take to its file


def length(prompts: Path, out: Path) -> float:
    """Seconds from the end of a run's first row to that of its last one, on this machine as it is now."""
    ages = kill(start, prompts, out, LONG).ages.values()
    assert len(ages) == ROWS, f"a run takes longer than {LONG} s; close what keeps the machine busy"
    return max(ages) - min(ages)


def main(moments: int) -> int:
    """The exit code: 1 if a row was lost."""
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
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else MOMENTS))
