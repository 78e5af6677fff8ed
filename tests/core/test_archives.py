"""Archives of compiled kernels, on devices that have such: OB_LIMITS=macOS=14 plays one. The second start compiles
nothing, and whatever is wrong with the file, kernels are compiled as without it."""

import os
import subprocess
import sys
import time

import pytest
from support.paths import ROOT

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.device import archives

PROMPT = (0, 819, 779, 259)
STORY = [592, 12, 365, 259]


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("OB_LIMITS", "macOS=14")
    monkeypatch.delenv("OB_ARCHIVE", raising=False)
    folder = tmp_path / "cache"
    monkeypatch.setenv("OB_CACHE", str(folder))
    return folder


def start(device="cpu", library=None):
    """How many kernels of a story were in the archive, and how many had to be compiled."""
    device = p.open_device(device)
    with p.open_checkpoint(builtin_model()) as checkpoint:
        generator = p.Generator(p.load_model(checkpoint, device=device))
        tokens = [
            event.token for event in generator.run([p.Request(0, PROMPT, max_tokens=4)]) if hasattr(event, "token")
        ]
    assert tokens == STORY
    return device._library().archive_counts


def only_file(cache):
    (path,) = (cache / "archives").iterdir()
    return path


def test_the_second_start_compiles_nothing(cache):
    found, compiled = start()
    assert found == 0 and compiled > 5
    before = only_file(cache).read_bytes()
    assert start() == (compiled, 0)
    assert only_file(cache).read_bytes() == before


def test_kernels_that_the_file_lacks_are_added(cache):
    device = p.open_device("cpu")
    device.prepare(["clear_status", "sample_merge"])
    assert device._library().archive_counts == (0, 2)
    found, compiled = start()
    assert found >= 1 and compiled > 5
    again = start()
    assert again == (found + compiled, 0)


def damaged(path):
    whole = path.read_bytes()
    yield "half", whole[: len(whole) // 2]
    yield "another version", whole.replace(b"archive 1", b"archive 0")
    yield "a byte", whole[:40] + bytes([whole[40] ^ 1]) + whole[41:]
    yield "empty", b""
    yield "no text", bytes(range(256))


def test_a_file_that_is_damaged_or_of_another_version_is_made_anew(cache):
    _, compiled = start()
    path = only_file(cache)
    whole = path.read_bytes()
    for what, content in damaged(path):
        path.write_bytes(content)
        assert start() == (0, compiled), what
        assert only_file(cache).read_bytes() == whole, what


def test_a_folder_in_place_of_the_file_stays(cache):
    _, compiled = start()
    path = only_file(cache)
    path.unlink()
    (path / "inside").mkdir(parents=True)
    assert start() == (0, compiled)
    assert [child.name for child in (cache / "archives").iterdir()] == [path.name]  # and nothing half written


def test_a_file_that_cannot_be_written_is_done_without(cache, monkeypatch):
    """As on a full disk: the folder is there when it is looked at, and gone when the file is written."""
    use = archives.use

    def use_and_remove(*arguments):
        use(*arguments)
        (cache / "archives").rmdir()

    monkeypatch.setattr(archives, "use", use_and_remove)
    found, compiled = start()
    assert found == 0 and compiled > 5 and not (cache / "archives").exists()


def test_a_cache_that_others_may_write_to_is_not_used(cache):
    cache.mkdir()
    cache.chmod(0o777)
    assert start() == (0, 0)
    assert list(cache.iterdir()) == []


def test_archives_can_be_turned_off(cache, monkeypatch):
    monkeypatch.setenv("OB_ARCHIVE", "0")
    assert start() == (0, 0)
    assert not cache.exists()


def test_a_system_without_archives_makes_no_file(cache, monkeypatch):
    monkeypatch.setenv("OB_LIMITS", "macOS=10")
    assert start() == (0, 0)
    monkeypatch.delenv("OB_LIMITS")
    assert start() == (0, 0)
    assert not (cache / "archives").exists()


def test_each_version_of_the_shaders_and_each_device_has_its_own(cache, tmp_path):
    library = tmp_path / "shaders.metallib"
    library.write_bytes(b"x")
    keys = {
        archives.shaders_key("M1", library),
        archives.shaders_key("M2", library),
        archives.shaders_key("M1", "text"),
    }
    library.write_bytes(b"xy")
    keys |= {archives.shaders_key("M1", library), archives.shaders_key("M1", "other text")}
    assert len(keys) == 5
    assert archives.shaders_key("M1", library) == archives.shaders_key("M1", library)


def test_what_nobody_used_for_a_month_goes(cache):
    folder = cache / "archives"
    folder.mkdir(parents=True, mode=0o700)
    cache.chmod(0o700)
    for name, days in (("old.binarchive", 40), ("half.binarchive.17", 40), ("new.binarchive", 20), ("other", 40)):
        (folder / name).write_text("x")
        os.utime(folder / name, (time.time() - days * 86400,) * 2)
    start()
    assert {path.name for path in folder.iterdir()} >= {"new.binarchive", "other"}
    assert not (folder / "old.binarchive").exists() and not (folder / "half.binarchive.17").exists()


def test_what_is_used_stays(cache):
    start()
    path = only_file(cache)
    os.utime(path, (time.time() - 25 * 86400,) * 2)
    start()
    assert time.time() - path.stat().st_mtime < 3600


def test_kernels_with_constants_are_kept_apart_by_their_values(cache):
    source = """
    #include <metal_stdlib>
    using namespace metal;
    constant int times [[function_constant(0)]];
    kernel void fill(device int *x [[buffer(0)]]) { x[0] = times; }
    """
    device = p.open_device("cpu", threads=1)
    library = device.core.compile(source)
    path = cache / "own.binarchive"
    cache.mkdir(exist_ok=True)
    library.use_archive(device.core, path)
    for times in (2, 3, 2):
        library.kernel("fill", {"times": times})
    assert library.archive_counts == (1, 2)
    library.save_archive()
    again = device.core.compile(source)
    again.use_archive(device.core, path)
    for times in (3, 4):
        again.kernel("fill", {"times": times})
    assert again.archive_counts == (1, 1)


def test_processes_that_write_at_once_leave_a_whole_file(cache):
    command = [sys.executable, "-m", "pipeline.run", "--device", "cpu", "--max-tokens", "2", "--seed", "1"]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate()[0] != b"" and process.returncode for process in started] == [0, 0, 0]
    only_file(cache)
    _, compiled = start()
    assert compiled == 0
