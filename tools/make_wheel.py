"""Makes the wheel of this kind of machine: compiled for all its instruction sets, and whole.

    python tools/make_wheel.py FOLDER [--target linux_aarch64]

Whole means that it brings the libraries that a system may lack, such as libobjc on Linux, and that its name says which
systems it runs on. auditwheel does that: it needs the extra `wheel`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def build(folder: Path) -> Path:
    """Makes the wheel as pip does."""
    options = ["-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-w", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True)
    (made,) = folder.glob("*.whl")
    return made


def repair(wheel: Path, folder: Path, libraries: str = "") -> Path:
    """Copies the wheel to `folder` with the libraries that it needs, under the name of the systems that it runs on."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    with tempfile.TemporaryDirectory() as made:
        # Kernels for newer processors are chosen at run time: they do not make it a wheel for those only.
        command = ["-m", "auditwheel", "repair", "--disable-isa-ext-check", "-w", made, str(wheel)]
        command += ["--ldpaths", libraries] if libraries else ["--strip"]  # this machine's strip knows its own code
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{done.stdout}{done.stderr}\nonebuf: {wheel.name} is not made whole, as said above")
        (repaired,) = Path(made).glob("*.whl")
        target = folder / repaired.name
        folder.mkdir(parents=True, exist_ok=True)
        target.write_bytes(repaired.read_bytes())
    return target


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/make_wheel.py", description="Makes a whole wheel.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", metavar="TAG", help="of other machines: linux_aarch64")
    options = parser.parse_args()
    into = options.folder.absolute()
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        if options.target:
            command = ["tools/builder.py", "wheel", "--target", options.target, "--into", folder]
            subprocess.run([sys.executable, *command], check=True)
            (wheel,) = Path(folder).glob("*.whl")
            made = repair(wheel, into, f"/usr/{options.target.removeprefix('linux_')}-linux-gnu/lib")
        else:
            subprocess.run([sys.executable, "tools/builder.py", "wheel"], check=True)
            wheel = build(Path(folder))
            made = repair(wheel, into) if sys.platform == "linux" else wheel.rename(into / wheel.name)
    print(f"{made} ({made.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
