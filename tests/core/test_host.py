"""pipeline/host.py is the one home of its facts: every other list of them says the same."""

import os
import re
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

import pipeline as p
from pipeline import host
from pipeline.benching.options import TIMED_DEVICES
from pipeline.errors import DeviceError
from pipeline.metalc import toolchain

sys.path.append(str(ROOT / "tools"))
import native_kernels  # noqa: E402


def test_the_device_lists_the_same_instruction_sets():
    lists = [
        re.findall(r'@"(\w+)"', found)
        for file in (ROOT / "objc").rglob("*.m")
        for found in re.findall(r'arrayWithObjects:((?:@"\w+", )+)nil', file.read_text())
    ]
    assert [names for names in lists if "generic" in names] == [list(host.INSTRUCTION_SETS)]


def test_the_shader_compiler_knows_the_same_instruction_sets():
    assert set(toolchain.ISA_FLAGS) == {*host.SHADER_SETS, host.CHECKER, host.CUDA}
    assert set(toolchain.default_isas()) <= set(toolchain.ISA_FLAGS)


def test_native_kernels_go_with_the_same_instruction_sets():
    extended = {isa: shaders for isa, (shaders, _) in native_kernels.ISAS.items()}
    assert set(extended) <= set(host.INSTRUCTION_SETS)
    assert {isa: shaders for isa, shaders in extended.items() if isa != shaders} == host.EXTENSIONS


def test_every_device_is_one_of_the_list():
    """Those that are here open, and the error about another one names them; the rest is for other machines."""
    with pytest.raises(DeviceError) as raised:
        p.open_device("nosuch")
    here = [name for name in host.DEVICES if re.search(rf"\b{name}\b", str(raised.value))]
    assert {"auto", host.CHECKER} <= set(here) and all(p.open_device(name).name in host.DEVICES for name in here)
    assert set(host.DEVICES) - set(TIMED_DEVICES) == {host.CHECKER}


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 3, 5}, raising=False)
    assert host.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert host.cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert host.cores() == 1


@pytest.mark.parametrize(
    "environment, folder",
    [
        ({"OB_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"OB_CACHE": "", "XDG_CACHE_HOME": "/b"}, "/b/onebuf"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home"}, "/home/.cache/onebuf"),
    ],
)
def test_the_cache_folder(monkeypatch, environment, folder):
    monkeypatch.delenv("OB_CACHE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert host.cache_folder() == Path(folder)


def test_a_whole_file_takes_no_other_place(tmp_path):
    """A new version comes at once, a link stays a link, a pipe a pipe; nothing is left behind where it fails."""
    file, link, pipe = tmp_path / "file", tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(file)
    host.write_whole(link, "one")
    assert link.is_symlink() and file.read_text() == "one"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    host.write_whole(pipe, "two")
    assert os.read(reader, 9) == b"two" and pipe.is_fifo()
    os.close(reader)
    with pytest.raises(OSError):
        host.write_whole(tmp_path / "no" / "file", "three")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "link", "pipe"]
