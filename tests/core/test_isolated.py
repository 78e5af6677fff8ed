"""Programs that the package starts, and folders of code that it loads: nobody else's."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.paths import ROOT

from pipeline import host, isolated
from pipeline.metalc.cache import build_folder

COMPILING = """
import os, sys
if len(sys.argv) > 1: sys.executable = sys.argv[1]
import pipeline as p
library = p.open_device("cpu").compile('''#include <metal_stdlib>
kernel void one(device float *y [[buffer(0)]]) { y[0] = 1; }
''')
print(*library.kernel_names)
"""


def compiled(tmp_path, *arguments, **environment):
    """What a script prints that compiles a shader in a folder with modules of well-known names."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("pipeline", "token", "numpy", "argparse", "subprocess"):
        (folder / name).mkdir()
        for file in ("__init__.py", "__main__.py"):
            (folder / name / file).write_text(f"import os\nopen({str(tmp_path / 'executed')!r}, 'w')\nos._exit(3)\n")
    script = tmp_path / "script.py"
    script.write_text(COMPILING)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OB_CACHE": str(tmp_path / "cache"), **environment}
    environment.pop("OB_METALC", None)
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert not (tmp_path / "executed").exists(), "a module of the current folder ran"
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_folder_of_the_same_name_does_not_run(tmp_path):
    assert compiled(tmp_path) == ["one"]


def test_an_interpreter_may_stand_in_a_folder_with_blanks(tmp_path):
    folder = tmp_path / "my 'own' python"
    folder.mkdir()
    python = folder / "python 3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert compiled(tmp_path, python) == ["one"]


def test_the_package_starts_from_where_it_was_imported(tmp_path):
    """Not from PYTHONPATH, nor from the folder of this name below the current one."""
    command = isolated.command("metalc")
    assert command[:2] == [sys.executable, "-I"] and Path(command[2]).parent == ROOT / "pipeline"
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*command, "--version"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("metalc ")


# --- folders


def test_a_private_folder_is_made(tmp_path):
    folder = tmp_path / "deep" / "cache"
    assert host.private_folder(folder) and stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert host.private_folder(folder)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_folder_that_others_can_write_is_not_private(tmp_path, mode):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    assert not host.private_folder(tmp_path / "cache")


def test_what_is_no_folder_of_this_user_is_not_private(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "file").write_text("")
    assert not host.private_folder(tmp_path / "link") and not host.private_folder(tmp_path / "file")
    assert not host.private_folder(tmp_path / "file" / "below")
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    assert not host.private_folder(tmp_path / "folder")


def test_objects_go_where_nobody_else_can_write(tmp_path, monkeypatch):
    cache, temporary = tmp_path / "cache", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("OB_CACHE", str(cache))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with build_folder(None) as folder:
        assert folder == cache / "objects"
    cache.chmod(0o777)
    with build_folder(None) as folder:
        assert folder == temporary / f"onebuf-objects-{os.geteuid()}"
    folder.chmod(0o777)
    with build_folder(None) as new:
        assert new.parent == temporary and new != folder and stat.S_IMODE(new.stat().st_mode) == 0o700
    assert not new.exists()
    with build_folder(tmp_path / "named") as folder:
        assert folder == tmp_path / "named"
