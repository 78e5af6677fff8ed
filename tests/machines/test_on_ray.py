"""Runs on a real Ray: two machines, which are both this one. All tests share it."""

import json
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from support.programs import finish, refuse, rows_of, run, start

pytest.importorskip("ray")
from support import rays  # noqa: E402  # it starts what the package has

ROWS = 80
OPTIONS = ["--temperature", 0.8, "--seed", 3, "--batch-size", 2]


@pytest.fixture(scope="module")
def folder():
    made = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # paths of sockets must be short
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def address(folder):
    with rays.machines(folder) as found:
        yield found


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "p.jsonl"
    bias = {"0": -100}  # no text ends by itself
    lines = [{"prompt": f"Once {i}", "max_tokens": 90 + i % 9, "logit_bias": bias} for i in range(ROWS)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture(scope="module")
def wanted(prompts):
    """The rows of one machine without Ray."""
    out = prompts.with_name("wanted.jsonl")
    assert run("--prompts", prompts, *OPTIONS, "--out", out)[0] == 0
    return rows_of(out)


def begin(folder, address, prompts, out, *more):
    """A run that has written some rows, and has both of its actors."""
    options = ["--prompts", prompts, *OPTIONS, "--out", out, "--ray", address, *more]
    process = start(["-m", "pipeline.run"], options, rays.environment(folder))
    end = time.monotonic() + 60
    while not out.exists() or out.read_bytes().count(b"\n") < 5 or len(rays.workers(folder)) < 2:
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)
    return process


def test_a_killed_worker_and_a_killed_run(folder, address, prompts, wanted, tmp_path):
    """Of two actors on two machines one is killed in mid-run; then the run itself, and another one goes on with it."""
    out = tmp_path / "killed.jsonl"
    process = begin(folder, address, prompts, out)
    rays.kill(max(rays.workers(folder), key=rays.ticks))  # one that is at work
    code, text, err = finish(process)
    assert code == 0 and text == "" and rows_of(out) == wanted
    assert "Ray: 2 workers on 2 machines" in err and "died; the rows that it had run again" in err

    out = tmp_path / "driver.jsonl"
    process = begin(folder, address, prompts, out)
    rays.kill(process.pid)
    process.communicate()
    kept = out.read_bytes().count(b"\n")
    assert 5 <= kept < ROWS
    options = ["--prompts", prompts, *OPTIONS, "--out", out, "--ray", address, "--resume"]
    code, _, err = finish(start(["-m", "pipeline.run"], options, rays.environment(folder)))
    assert code == 0 and rows_of(out) == wanted and f"has rows of {kept} of {ROWS} prompts already" in err


def test_a_stage_of_ray_data(folder, address, prompts, wanted):
    pytest.importorskip("pyarrow")
    pytest.importorskip("pandas")
    script = f"""
import json, logging, sys
import ray, pipeline.ray
ray.init({address!r}, logging_level="CRITICAL", log_to_driver=False)
context = ray.data.DataContext.get_current()
context.enable_progress_bars = False
rows = [json.loads(line) | {{"index": i}} for i, line in enumerate(open({str(prompts)!r}))][:20]
found = ray.data.from_items([{{k: r[k] for k in ("prompt", "max_tokens", "index")}} for r in rows]).map_batches(
    pipeline.ray.Generate, concurrency=2, num_cpus=1, batch_size=5,
    fn_constructor_kwargs=dict(threads=1, rows=2, context=200, temperature=0.8, seed=3, logit_bias={{0: -100}}))
for row in sorted(found.take_all(), key=lambda row: row["index"]):
    print(json.dumps([row["generated"], list(map(int, row["generated_tokens"])), row["generated_error"]]))
"""
    code, out, err = finish(start(["-c", script], [], rays.environment(folder)))
    assert code == 0, err
    found = [json.loads(line) for line in out.splitlines() if line.startswith("[")]
    assert found == [[row["text"], row["tokens"], None] for row in wanted[:20]]


def test_where_there_is_no_ray(prompts):
    options = ["--prompts", prompts, "--ray", "127.0.0.1:9"]
    refuse(*options, words=["--ray 127.0.0.1:9: cannot be reached", "ray status"])
