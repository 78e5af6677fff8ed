"""The cost of a dispatch on the cpu device: python benchmarks/metal_encode.py

Builds benchmarks/metal_encode.m against objc/metal and runs it with 1 and 2 threads. The kernel
does nothing, so all of the time is the device's own.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support import metal_harness as harness  # noqa: E402  (found through the line above)


def main() -> None:
    tools = harness.toolchain.find()
    folder = harness.build(harness.VARIANTS["plain"])
    core = [folder / f"{path.stem}.o" for path in harness.stand_in()]
    out = folder / "metal_encode"
    command = [*tools.compiler, *tools.objc_flags, f"-I{ROOT / 'objc'}"]
    command += [str(ROOT / "benchmarks" / "metal_encode.m"), *map(str, core)]
    subprocess.run([*command, "-o", str(out), *tools.libraries], check=True)
    for threads in ("1", "2"):
        print(f"{threads} thread{'s'[: threads != '1']}", flush=True)
        environment = {**os.environ, "OB_THREADS": threads}
        subprocess.run([str(out), str(folder / "library.metallib")], env=environment, check=True)


if __name__ == "__main__":
    main()
