"""Memory that the host does not see: how it is written and read, and how weights come there."""

import mmap
import threading

import numpy as np
import pytest
from support.families import golden
from support.families.stored import stored
from support.stages import keep_stages

import pipeline as p
from pipeline import _core
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import BuildError, ShapeError, UsageError
from pipeline.generation.sampler import Sampling
from pipeline.graph import transfers
from pipeline.graph.placing import move_rows, place
from pipeline.graph.tensors import Mapped, Storage
from pipeline.graph.transfers import Writes, upload

ADD = """
#include <metal_stdlib>
using namespace metal;
kernel void add(device const uint *x [[buffer(0)]], device uint *log [[buffer(1)]], device uint *count [[buffer(2)]],
                uint i [[thread_position_in_grid]]) {
    log[count[0]] = x[0];
    count[0] += 1;
}
"""


@pytest.fixture(scope="module")
def checker():
    return p.open_device("checker", threads=32)


@pytest.fixture(scope="module", params=["cpu", "checker"])
def any_device(request):
    return p.open_device(request.param, threads=2)


def counted(device, do):
    """The command buffers that do() took."""
    before = device.command_buffers
    do()
    return device.command_buffers - before


def numbers(buffer):
    return np.frombuffer(memoryview(buffer), np.uint8)


# Buffers


def test_private_memory_has_no_view(checker):
    buffer = checker.core.buffer(64, private=True)
    assert buffer.private and not checker.unified and not checker.core.unified
    with pytest.raises(BufferError, match="^the host does not see this Buffer.*Device.read and Device.write$"):
        memoryview(buffer)
    buffer.close()  # nothing looks at it
    assert not checker.core.buffer(64).private


def test_private_is_a_wish():
    device = p.open_device("cpu", threads=1)
    buffer = device.core.buffer(64, private=True)
    assert device.unified and not buffer.private
    numbers(buffer)[:] = 7
    result = bytearray(64)
    assert counted(device, lambda: device.core.write([(buffer, 60, b"abcd")])) == 0
    assert counted(device, lambda: device.core.read([(buffer, 0, result)])) == 0
    assert result == b"\7" * 60 + b"abcd"


def test_writes_and_reads_share_a_command_buffer(any_device):
    core = any_device.core
    hidden, more, seen = core.buffer(100, private=True), core.buffer(1 << 20, private=True), core.buffer(16)
    big = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)
    writes = [(hidden, 3, b"xyz"), (more, 0, big.data), (seen, 1, b"s"), (hidden, 50, b""), (hidden, 97, b"end")]
    taken = 0 if any_device.unified else 1
    assert counted(any_device, lambda: core.write(writes)) == taken
    ranges = [(hidden, 0, bytearray(100)), (more, 1000, bytearray(5000)), (seen, 0, bytearray(16))]
    assert counted(any_device, lambda: core.read(ranges)) == taken
    assert ranges[0][2] == bytes(3) + b"xyz" + bytes(91) + b"end"
    assert ranges[1][2] == big[1000:6000].tobytes() and ranges[2][2] == b"\0s" + bytes(14)


@pytest.mark.parametrize("offset, nbytes", [(0, 101), (101, 1), (100, 1), (2**64 - 1, 2)])
def test_ranges_out_of_a_buffer_are_refused(any_device, offset, nbytes):
    buffer = any_device.core.buffer(100, private=True)
    words = f"{nbytes} bytes at offset {offset} are not within a buffer of 100 bytes"
    for move in (any_device.core.write, any_device.core.read, any_device.core.upload):
        with pytest.raises(BuildError, match=words):
            move([(buffer, 0, bytearray(4)), (buffer, offset, bytearray(nbytes))])


def test_what_cannot_take_part(any_device):
    core, buffer = any_device.core, any_device.core.buffer(16, private=True)
    with pytest.raises(BufferError):
        core.read([(buffer, 0, b"read only")])
    with pytest.raises(TypeError):
        core.write([(None, 0, b"x")])
    with pytest.raises(OverflowError):
        core.write([(buffer, -1, b"x")])
    file = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ)
    with pytest.raises(BuildError, match="read-only"):
        core.write([(core.wrap(file), 0, b"x")])
    buffer.close()
    with pytest.raises(p.errors.ClosedError):
        core.write([(buffer, 0, b"x")])


def test_writes_are_ordered_with_runs_in_flight(checker):
    """A run sees what was written before its commit, and not what is written after it."""
    core, count = checker.core, 40
    x, log, made = (core.buffer(4 * count, private=True) for _ in range(3))
    core.write([(made, 0, bytes(4))])
    bindings = [(0, x, 0, 4), (1, log, 0, 4 * count), (2, made, 0, 4)]
    chain = core.chain([_core.Dispatch(core.compile(ADD).kernel("add"), bindings, threads=(1, 1, 1))], "add")
    runs = []
    for i in range(count):
        core.write([(x, 0, np.array([i * i + 1], np.uint32).data)])
        runs.append(chain.commit())
    result = np.empty(count, np.uint32)
    core.read([(log, 0, result.data)])  # waits for all of them
    assert all(run.done for run in runs)
    assert result.tolist() == [i * i + 1 for i in range(count)]
    assert checker.findings == []


def test_private_memory_that_nobody_wrote_is_found():
    device = p.open_device("checker", threads=32)
    buffers = [device.core.buffer(64, private=True) for _ in range(3)]
    device.core.write([(buffers[0], 0, bytes(4))])  # zeros count as written
    bindings = [(slot, buffer, 0, 64) for slot, buffer in enumerate(buffers)]
    kernel = device.core.compile(ADD).kernel("add")
    device.core.chain([_core.Dispatch(kernel, bindings, threads=(1, 1, 1))], "add").run()
    assert {(each.kind, each.buffer) for each in device.findings} == {("uninitialised read", "count")}


def test_threads_write_at_the_same_time(checker):
    core, size, count = checker.core, 4096, 8
    buffers = [core.buffer(size, private=True) for _ in range(count)]

    def work(number):
        for turn in range(20):
            core.write([(buffers[number], 0, bytes([number + turn]) * size)])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [bytearray(size) for _ in range(count)]
    core.read(list(zip(buffers, [0] * count, found)))
    assert [set(each) for each in found] == [{number + 19} for number in range(count)]


# Storages


def test_a_write_keeps_no_memory(checker):
    """Its command buffer is kept with the memory for transfers; what it wrote to goes all the same."""
    keep_stages(checker)
    before = checker.core.allocated
    storage = Storage.of(np.zeros(50_000, np.uint8))
    storage.on(checker)
    assert checker.core.allocated - before >= 50_000
    storage = None
    Storage.of(np.zeros(16, np.uint8)).read(checker)  # waits for what was committed before
    assert checker.core.allocated == before


def test_a_storage_is_read_and_written(any_device):
    storage = Storage.of(np.arange(12, dtype=np.uint32).reshape(3, 4))
    storage.write(any_device, [100, 101], (1, 1))
    storage.write(any_device, np.full((1, 4), 9), 2)
    expected = [[0, 1, 2, 3], [4, 100, 101, 7], [9, 9, 9, 9]]
    assert storage.read(any_device).tolist() == expected
    move_rows(any_device, [storage], [2, 0])
    assert storage.read(any_device).tolist() == [expected[2], expected[0], expected[2]]
    with pytest.raises(ShapeError, match="5 values from element 8 on do not fit 12 elements"):
        storage.write(any_device, range(5), 2)
    assert storage.part(0).read(any_device).tolist() == [9, 9, 9, 9]


def test_what_is_not_seen_says_so(checker):
    with pytest.raises(BuildError, match="does not see memory of checker; use Storage.read and Storage.write"):
        Storage.zeros((3,)).numpy(checker)
    Storage.empty((3,), shared=True).numpy(checker)[:] = 1  # what runs are given stays where the host sees it


def test_writes_of_one_block_go_together(any_device):
    a, b = Storage.zeros((8,), "u32"), Storage.zeros((2, 8), "f16")
    a.on(any_device), b.on(any_device)

    def write():
        with Writes(any_device) as writes:
            for i in range(8):
                writes.add(a, i, i)
                writes.add(b, i / 2, (1, i))
            writes.add(b, [], 1)

    assert counted(any_device, write) == (0 if any_device.unified else 1)
    assert a.read(any_device).tolist() == list(range(8))
    assert b.read(any_device).tolist() == [[0] * 8, [i / 2 for i in range(8)]]


def test_a_block_that_fails_writes_nothing_more(checker):
    storage = Storage.zeros((2,), "u32")
    storage.on(checker)
    with pytest.raises(ShapeError), Writes(checker) as writes:
        writes.add(storage, 5, 0)
        writes.add(storage, [1, 2, 3])
    assert storage.read(checker).tolist() == [0, 0]


# Maps


@pytest.fixture
def a_map(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(np.random.default_rng(1).integers(0, 256, 100_003, np.uint8).tobytes())
    with open(file, "rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)


def of_map(memory, begin, nbytes):
    return Storage((nbytes,), "u8", mapped=Mapped("map", memory, begin))


@pytest.mark.parametrize("piece", [4096, 10_000, 1 << 20])
def test_ranges_of_a_map_come_in_pieces(checker, a_map, monkeypatch, piece):
    monkeypatch.setattr(transfers, "PIECE", piece)
    ranges = [(50_001, 30_002), (1, 7), (8, 9000), (100_000, 3), (0, 1)]
    storages = [of_map(a_map, *each) for each in ranges]
    stack = Storage((3, 5), "u8", mapped=[Mapped("map", a_map, begin) for begin in (77, 40_000, 5)])
    steps = []
    place(checker, [*storages, stack], steps.append)
    for storage, (begin, nbytes) in zip(storages, ranges):
        assert storage.on(checker)[0].private and storage.read(checker).tobytes() == a_map[begin : begin + nbytes]
    assert stack.read(checker).tobytes() == a_map[77:82] + a_map[40_000:40_005] + a_map[5:10]
    assert sum(steps) == sum(nbytes for _, nbytes in ranges) + 15 and max(steps) <= piece
    assert len(steps) == 1 or piece < 100_003


def test_a_range_comes_once(checker, a_map):
    before, (first, same, other) = checker.core.allocated, (of_map(a_map, 16, n) for n in (4000, 4000, 32))
    steps = []
    place(checker, [first, same, other, first], steps.append)
    assert sum(steps) == 4032 and first.on(checker) == same.on(checker)
    assert checker.core.allocated - before == 4032
    assert counted(checker, lambda: place(checker, [first, same, other])) == 0
    assert of_map(a_map, 16, 32).read(checker).tobytes() == a_map[16:48]  # alone, when it is first used


def test_a_map_stays_where_it_is_on_a_device_that_shares_memory(a_map):
    device = p.open_device("cpu", threads=1)
    storage, before = of_map(a_map, 16, 4000), device.core.allocated
    assert counted(device, lambda: storage.on(device)) == 0 and storage.on(device)[1] == 16
    assert device.core.allocated - before == -(-100_003 // mmap.PAGESIZE) * mmap.PAGESIZE  # the map itself
    assert storage.numpy(device).tobytes() == a_map[16:4016]
    upload(device, [])


# Models


def tokens_of(model, **settings):
    model.end_tokens = ()
    prompt, settings_of = [3, 1, 4], [Sampling(repetition_penalty=1.1 + i) for i in range(3)]
    requests = [p.Request(i, prompt[i:], 1 + i, 0.0 if i else 0.8, 7 + i, settings_of[i]) for i in range(3)]
    generator = p.Generator(model, batch_size=2, context=12, **settings)
    ends = {e.index: e.tokens for e in generator.run(requests) if isinstance(e, p.generation.Finished)}
    return ends, generator.stats.expert_counts.tolist()


@pytest.mark.parametrize("name, storage", [("qwen3_moe", "mlx"), ("gpt_oss", "bf16")])
def test_a_model_says_the_same_from_memory_of_its_own(checker, tmp_path, name, storage):
    """Rows join, move and end; weights are split, repacked and shared."""
    assert golden.load(name)
    with p.open_checkpoint(stored(name, storage, tmp_path)) as checkpoint:
        models = [p.load_model(checkpoint, device=device) for device in (p.open_device("cpu", threads=1), checker)]
    shown = []
    expected, found = tokens_of(models[0]), tokens_of(models[1], progress=lambda *each: shown.append(each))
    assert found == expected
    assert shown and shown[-1][0] == shown[-1][1] == sum(each.nbytes for each in set(models[1].weights))
    assert all(each.on(checker)[0].private for each in models[1].weights) and models[1].unplaced_bytes == 0
    assert checker.findings == []


@pytest.fixture
def model(checker):
    with p.open_checkpoint(builtin_model()) as checkpoint:
        yield p.load_model(checkpoint, device=checker)


def test_what_does_not_fit_is_refused_before_it_goes_up(checker, model, monkeypatch):
    before, total = checker.core.allocated, model.unplaced_bytes
    assert total == model.mapped_bytes + model.repacked_bytes
    monkeypatch.setattr(type(checker), "free_bytes", lambda self: total + (1 << 20))  # a part of it stays free
    words = (
        r"^a KV cache of 4 × 8 positions takes [\d.]+ KiB in q8, the weights [\d.]+ MiB, scratch memory [\d.]+ MiB; "
        r"the device checker has [\d.]+ MiB left of [\d.]+ GiB; give a smaller --batch-size, or a checkpoint of"
    )
    with pytest.raises(UsageError, match=words):
        p.Generator(model, batch_size=4, context=8, kv_cache="q8")
    monkeypatch.setattr(type(checker), "free_bytes", lambda self: total - 1)
    with pytest.raises(UsageError, match=r"the weights take [\d.]+ MiB; the device checker has .*use a checkpoint of"):
        p.Generator(model, context=8)
    with (
        p.open_checkpoint(builtin_model()) as checkpoint,
        pytest.raises(UsageError, match=r"the weights take [\d.]+ MiB; the device checker has"),
    ):
        p.load_model(checkpoint, device=checker)
    assert checker.core.allocated == before and model.unplaced_bytes == total


def test_a_device_that_shares_memory_takes_no_transfers():
    """Every command buffer of a generation is a step's; prompts go through beside rows that decode."""
    device = p.open_device("cpu", threads=1)
    with p.open_checkpoint(builtin_model()) as checkpoint:
        model = p.load_model(checkpoint, device=device)
    generator = p.Generator(model, batch_size=2, progress=lambda *each: pytest.fail("nothing goes anywhere"))
    requests = [p.Request(i, [1, 2, 3], 5) for i in range(4)]
    taken = counted(device, lambda: list(generator.run(requests)))
    assert model.unplaced_bytes == 0
    assert taken == generator.stats.decode_steps == generator.stats.command_buffers
