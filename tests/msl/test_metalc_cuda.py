"""The shaders as CUDA C++: reflection, the table of kernels, and what NVRTC makes of them, without a GPU."""

import ctypes
import re
import shutil
import subprocess
from ctypes import POINTER, Structure, c_char_p, c_uint32

import numpy as np
import pytest
from support.checkpoints import short_storyteller
from support.locks import alone_in
from support.metallib import Library
from support.paths import ROOT, SHADERS

import pipeline as p
from pipeline import metalc
from pipeline.device import resources
from pipeline.graph.formats import AFFINE_BITS, BLOCKS, FLOAT_MODES, FLOATS, PLAIN_MODES
from pipeline.host import CHECKER, CUDA
from pipeline.metalc import nvrtc, toolchain
from pipeline.metalc.generate import CUDA_THREADS
from pipeline.metalc.kernels import MAX_THREADS

FILES = sorted(SHADERS.glob("*.metal"))
ARCHS = ("sm_80", "sm_90a")  # the oldest that the device opens, and one with dependent launches
BEGIN = re.compile(r"^#if !defined\(METALLIB_KERNEL\) \|\| METALLIB_KERNEL == (\d+)\n", re.MULTILINE)

compiles = pytest.mark.skipif(nvrtc.find() is None, reason="NVRTC is not installed: pip install nvidia-cuda-nvrtc")


class Function(Structure):
    _fields_ = [("symbol", c_char_p), ("unit", c_uint32), ("number", c_uint32)]


class Table(Structure):
    _fields_ = [
        ("abi", c_uint32),
        ("unit_count", c_uint32),
        ("units", POINTER(c_char_p)),
        ("functions", POINTER(Function)),
    ]


def table(bundle, count):
    """(unit, number, symbol) of each function."""
    found = Table.in_dll(ctypes.CDLL(str(bundle / "cuda.so")), "ob_metallib_cuda")
    units = [found.units[i].decode() for i in range(found.unit_count)]
    return [(units[f.unit], f.number, f.symbol.decode()) for f in (found.functions[i] for i in range(count))]


def build(folder, text, name="shader", **options):
    (folder / f"{name}.metal").write_text("#include <metal_stdlib>\nusing namespace metal;\n" + text)
    files = [folder / f"{name}.metal"]
    return metalc.build(files, folder / "out.metallib", [CUDA], build_dir=folder / "objects", **options)


def units(bundle):
    return sorted((bundle / CUDA).glob("*.cu"))


@pytest.fixture(scope="session")
def bundle():
    folder = ROOT / "build/tests/cuda"
    with alone_in(folder):
        files = [file.relative_to(ROOT) for file in FILES]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            return metalc.build(files, folder / "all.metallib", [CUDA], build_dir=folder / "objects")


@pytest.fixture(scope="session")
def library(bundle):
    return Library(bundle, CUDA)


# -- reflection and the table ----------------------------------------------------------------------


def signature(library, name):
    function = library.functions[name]
    fields = ("kind", "index", "access", "constant", "reference", "type", "size", "alignment", "early")
    arguments = {
        argument: ([getattr(found, field) for field in fields], library.members(name, argument))
        for argument, found in library.arguments(name).items()
    }
    return arguments, library.constants(name), function.thread_execution_width


# Kernels that no other device has, and those that have memory for tensor cores besides.
OWN = re.compile(r"attention_tensor_\d+|heads_attention_\w+|stage_activations_q\d|staged_\w+|row_(?!links|repeats)\w+")
AFFINE = re.compile(r"(linear3?|experts_(gate_up|down)(_grouped)?)_(q\d_\w+|mxfp[48]|nvfp4|fp[48])")


def test_reflection_is_that_of_the_checker(library):
    checker = Library(resources.shader_library(CHECKER), CHECKER)
    common = {name: function for name, function in library.functions.items() if not OWN.fullmatch(name)}
    assert list(common) == list(checker.functions) and library.table.isa == b"cuda"
    for name, function in common.items():
        assert signature(library, name) == signature(checker, name), name
        own, other = (each.functions[name].static_threadgroup_length for each in (library, checker))
        assert own > other if AFFINE.fullmatch(name) else own == other, name
        assert not function.entry
        most = checker.functions[name].max_total_threads
        assert function.max_total_threads == (CUDA_THREADS if most == MAX_THREADS else most), name


def test_a_shader_says_how_many_threads_it_takes(tmp_path):
    body = "kernel void {}(device uint *y, uint i [[thread_position_in_grid]]) {{ y[i] = i; }}\n"
    attribute = "[[max_total_threads_per_threadgroup({})]] "
    made = build(tmp_path, "".join(attribute.format(n) + body.format(f"most_{n}") for n in (64, 1024)))
    assert [f.max_total_threads for f in Library(made, CUDA).functions.values()] == [1024, 64]
    (text,) = units(made)
    assert re.findall(r"__launch_bounds__\((\d+)\) metal_most_(\d+)\(", text.read_text()) == [
        ("1024", "1024"),
        ("64", "64"),
    ]


def test_a_shader_says_how_many_threads_share_a_core(tmp_path):
    body = "kernel void {}(device uint *y, uint i [[thread_position_in_grid]]) {{ y[i] = i; }}\n"
    said = '[[max_total_threads_per_threadgroup(128), user_annotation("resident threads: {}")]] '
    other = '[[user_annotation("threads: 768")]] '
    made = build(
        tmp_path,
        said.format(768) + body.format("six") + said.format(100) + body.format("one") + other + body.format("any"),
    )
    (text,) = units(made)
    assert re.findall(r"__launch_bounds__\(([\d, ]+)\) metal_(\w+)\(", text.read_text()) == [
        ("256", "any"),
        ("128, 1", "one"),
        ("128, 6", "six"),
    ]


EARLY = """
inline void ready() {{ metal::metallib_wait(); }}
template <typename T> T first(device const T *w) {{ T v = w[0]; {wait} return v; }}
template <typename T> [[user_annotation("resident threads: 256; early: {early}")]] kernel void early(
    device const T *weight [[buffer(0)]], device const T *x [[buffer(1)]], device T *y [[buffer(2)]]) {{
    if (first(weight) > 1) y[0] = x[0];
}}
template [[host_name("early_f32")]] kernel decltype(early<float>) early<float>;
kernel void late(device float *y [[buffer(0)]]) {{ y[0] = 1; }}
"""


def early_shader(wait="ready();", early="weight"):
    return "#ifdef __METAL_CUDA__" + EARLY.format(wait=wait, early=early) + "#endif\n"


def test_a_kernel_reads_early_what_it_says(tmp_path):
    made = build(tmp_path, early_shader())
    found = Library(made, CUDA)
    flags = {name: {a: f.early for a, f in found.arguments(name).items()} for name in found.functions}
    assert flags == {"early_f32": {"weight": 1, "x": 0, "y": 0}, "late": {"y": 0}}
    (unit,) = units(made)
    text = unit.read_text()
    assert text.startswith("#if !defined(METALLIB_KERNEL) || METALLIB_KERNEL == 0\n#define METALLIB_EARLY\n#endif\n")
    early, late = text[text.index("metal_early_f32(") :].split("#endif", 1)
    assert early.index("metallib_kernel_0(") < early.index("metallib_cuda::wait();"), "also where threads return"
    assert late.index("metallib_cuda::wait();") < late.index("metallib_kernel_1(", late.index("metal_late("))


@compiles
def test_early_reads_come_before_the_wait_and_others_behind(tmp_path):
    (unit,) = units(build(tmp_path, early_shader()))
    code = ptx(tmp_path, unit.read_text(), "sm_90a")
    early = code[code.index(".entry metal_early_f32") :].split("\n}\n")[0]
    steps = re.findall(r"griddepcontrol\.\w+|ld\.global\S*|st\.global\S*", early)
    wait = steps.index("griddepcontrol.wait")
    assert steps[:wait] == ["griddepcontrol.launch_dependents", "ld.global.f32"], steps
    assert {"ld.global.f32", "st.global.f32"} <= set(steps[wait:]), steps
    assert steps[-1] == "griddepcontrol.wait"


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            {"wait": ""},
            "kernel 'early_f32' reads buffers early but never waits for the kernels ahead of it; call wait_",
        ),
        ({"early": "weight, z"}, "kernel 'early_f32' has no parameter 'device const ... z' to read early"),
        ({"early": "y"}, "kernel 'early_f32' has no parameter 'device const ... y' to read early"),
    ],
)
def test_a_kernel_that_reads_early_is_checked(wrong, message, tmp_path):
    with pytest.raises(metalc.CompileError) as raised:
        build(tmp_path, early_shader(**wrong))
    assert re.match(rf".*shader\.metal:6: {re.escape(message)}", str(raised.value)), raised.value


# The kernels that read early, and what: weights, and the places of rows, which no kernel ahead of them writes.
EARLY_READS = {
    r"(staged_)?linear3?_.*": r"(weight|scales|biases)\d?",
    r"(rms_norm|rms_norm3|fused_residual_norm)_b?f\d+_b?f\d+": r"weight\d?",
    r"row_linear3?_.*": r"(weight|scales|biases)\d?|norm",
    r"row_squares_.*": "weight|scales|biases",
    r"row_(gate_up|experts)_.*": "norm",
    r"attention_(f16|f32|q8|tensor_\d+)|heads_(to_cache|attention)_.*": "slots|positions|blocks",
}


def test_kernels_read_early_what_none_ahead_of_them_writes(library):
    for name in library.functions:
        early = {argument for argument, found in library.arguments(name).items() if found.early}
        reads = next((reads for kernels, reads in EARLY_READS.items() if re.fullmatch(kernels, name)), "nothing")
        assert early == {argument for argument in library.arguments(name) if re.fullmatch(reads, argument)}, name


def test_the_table_says_where_each_kernel_stands(bundle, library):
    rows = table(bundle, len(library.functions))
    texts = {unit.name: unit.read_text() for unit in units(bundle)}
    assert {unit for unit, *_ in rows} == set(texts)
    assert len({symbol for *_, symbol in rows}) == len(rows)
    for name, (unit, number, symbol) in zip(library.functions, rows):
        starts = {int(found[1]): found.end() for found in BEGIN.finditer(texts[unit])}
        block = texts[unit][starts[number] :].partition("#endif")[0]
        buffers = sum(argument.kind == 0 for argument in library.arguments(name).values())
        parameters = "".join(f"void *b{i}, " for i in range(buffers))
        assert f" {symbol}({parameters}metallib_cuda_launch launch) {{" in block


def test_a_unit_needs_no_other_file(bundle):
    for unit in units(bundle):
        assert not re.search(r"^\s*#\s*include", unit.read_text(), re.MULTILINE)


def test_what_belongs_to_an_older_text_goes(tmp_path):
    kernel = "kernel void one(device uint *y) {{ y[0] = {}; }}"
    (first,) = units(build(tmp_path, kernel.format(1)))
    (tmp_path / "out.metallib/cuda/sm_80").mkdir()
    kept, stale = (tmp_path / f"out.metallib/cuda/sm_80/{stem}-0.cubin" for stem in (first.stem, "shader-0123"))
    kept.touch(), stale.touch()
    assert units(build(tmp_path, kernel.format(1))) == [first] and kept.exists() and not stale.exists()
    (second,) = units(build(tmp_path, kernel.format(2)))
    assert second != first and not first.exists() and not kept.exists()
    files = [tmp_path / "shader.metal"]
    out = metalc.build(
        files, tmp_path / "out.metallib", [toolchain.processor_isas()[0]], build_dir=tmp_path / "objects"
    )
    assert [path.name for path in out.iterdir()] == [f"{toolchain.processor_isas()[0]}.so"]


def test_threadgroup_arguments_have_eight_indices(tmp_path):
    kernel = "kernel void one(device uint *y, threadgroup uint *s [[threadgroup({})]]) {{ y[0] = s[0]; }}"
    build(tmp_path, kernel.format(7))
    with pytest.raises(
        metalc.CompileError, match=r"shader\.metal:3: \[\[threadgroup\(8\)\]\] of kernel 'one'.*below 8"
    ):
        build(tmp_path, kernel.format(8))


def test_threads_at_the_edge_of_a_grid(tmp_path):
    """Each thread of the grid is there once, numbered within the part of its threadgroup that is in the grid."""
    kernel = (toolchain.cuda_dir() / "metallib_kernel").read_text().replace("METAL_FUNC", "inline")
    (tmp_path / "place.cpp").write_text(
        "#include <cstdint>\n#include <cstdio>\n#include <type_traits>\nusing std::size_t;\n"
        "struct { uint32_t x, y, z; } blockIdx, gridDim, blockDim = {4, 3, 2}, threadIdx;\n"
        + kernel
        + """
int main() {
    metallib_cuda_launch launch = {{10, 7, 3}, {}};
    gridDim = {3, 3, 2};
    for (blockIdx.z = 0; blockIdx.z < 2; blockIdx.z++) for (blockIdx.y = 0; blockIdx.y < 3; blockIdx.y++)
    for (blockIdx.x = 0; blockIdx.x < 3; blockIdx.x++) for (threadIdx.z = 0; threadIdx.z < 2; threadIdx.z++)
    for (threadIdx.y = 0; threadIdx.y < 3; threadIdx.y++) for (threadIdx.x = 0; threadIdx.x < 4; threadIdx.x++) {
        metallib_cuda::thread_place at(launch);
        auto p = at.in_grid();
        if (!at.outside()) printf("%u %u %u %u %u %u %u %u %u %u\\n", p.x, p.y, p.z, at.position.x, at.position.y,
                                  at.position.z, at.size.x, at.size.y, at.size.z, at.index);
    }
}
"""
    )
    subprocess.run([*toolchain.compiler(), "-std=c++17", "place.cpp", "-o", "place"], cwd=tmp_path, check=True)
    out = subprocess.run([tmp_path / "place"], capture_output=True, text=True, check=True).stdout
    found = sorted(map(tuple, np.array(out.split(), int).reshape(-1, 10).tolist()))
    want = []
    for x, y, z in np.ndindex(10, 7, 3):
        position = (x % 4, y % 3, z % 2)
        size = (min(4, 10 - x // 4 * 4), min(3, 7 - y // 3 * 3), min(2, 3 - z // 2 * 2))
        want.append((x, y, z, *position, *size, position[0] + size[0] * (position[1] + size[1] * position[2])))
    assert found == want


# -- NVRTC -----------------------------------------------------------------------------------------


def part_of(unit, numbers):
    """The text of a unit with these of its kernels alone, so that all are compiled at once."""
    head, *rest = BEGIN.split(unit.read_text())
    blocks = zip(map(int, rest[::2]), rest[1::2])
    return head + "".join(block.partition("#endif\n")[0] for number, block in blocks if number in numbers)


def template(name):
    """A kernel's name without the formats of weights, scales, activations and caches."""
    return re.sub(r"(_(gguf_\w+|mxfp[48]|nvfp4|fp[48]|q\d|b?f16|f32))+$", "", name)


def sample(names):
    """One kernel of each template, and the embedding for every weight format: its code is the shortest that has all."""
    groups = {}
    for number, name in enumerate(names):
        groups.setdefault(template(name), []).append(number)
    if "embed" in groups:
        return list(range(len(names)))
    return [members[place % len(members)] for place, members in enumerate(groups.values())]


def kernels_of(library, bundle, unit):
    rows = zip(library.functions, table(bundle, len(library.functions)))
    return [name for _, name in sorted((number, name) for name, (file, number, _) in rows if file == unit.name)]


def ptx(folder, text, arch):
    (folder / "part.cu").write_text(text)
    nvrtc.compile_apart(folder / "part.cu", None, arch.replace("sm_", "compute_"), folder / "part.ptx")
    return (folder / "part.ptx").read_text()


def assert_sound(code, arch):
    waits = [entry.count("griddepcontrol.wait") for entry in re.split(r"^\.visible \.entry", code, flags=re.M)[1:]]
    assert waits and (all(waits) if arch == "sm_90a" else not any(waits))
    assert not re.search(r"(add|mul|fma|div|sqrt)\S*\.ftz|(div|sqrt)\.(approx|full)", code), "subnormals, rounding"


def arguments_read_at_will(code):
    """The loads of PTX that may come at any time (ld.global.nc) and whose address does not come from a table of the
    shader's own, which nothing writes."""
    found = []
    for entry in code.split(".visible .entry")[1:]:
        made = {}
        for register, sources in re.findall(r"^\s*(?!ld)[a-z][\w.]*\s+(%\w+), (.*);", entry, flags=re.M):
            made.setdefault(register, []).append(sources)
        for load, register in re.findall(r"(ld\.global\.nc.*\[(%\w+).*)", entry):
            seen, ahead = set(), [register]
            while ahead:
                each = ahead.pop()
                ahead += [r for sources in made.get(each, []) for r in re.findall(r"%\w+", sources) if r not in seen]
                seen.add(each)
            if not any(re.match(r"[A-Za-z_]", sources) for each in seen for sources in made.get(each, [])):
                found.append(load)
    return found


@compiles
@pytest.mark.parametrize("file", [file.stem for file in FILES])
def test_nvrtc_compiles_the_shaders(tmp_path, bundle, library, file):
    """A sample of a file's kernels, some for each architecture."""
    (unit,) = [unit for unit in units(bundle) if unit.name.rpartition("-")[0] == file]
    chosen = sample(kernels_of(library, bundle, unit))
    for share, arch in enumerate(ARCHS):
        numbers = chosen[(share + FILES.index(SHADERS / f"{file}.metal")) % len(ARCHS) :: len(ARCHS)]
        if numbers:
            code = ptx(tmp_path, part_of(unit, numbers), arch)
            assert_sound(code, arch)
            assert not arguments_read_at_will(code), "such loads may pass the wait for the kernel before"


@compiles
@pytest.mark.exhaustive
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("file", [file.stem for file in FILES])
def test_nvrtc_compiles_every_kernel(tmp_path, bundle, library, file, arch):
    (unit,) = [unit for unit in units(bundle) if unit.name.rpartition("-")[0] == file]
    for number, name in enumerate(kernels_of(library, bundle, unit)):
        nvrtc.compile_apart(unit, number, arch, tmp_path / f"{name}.cubin")


def test_the_sample_has_every_template_and_weight_format(library, bundle):
    files = [kernels_of(library, bundle, unit) for unit in units(bundle)]
    chosen = [names[number] for names in files for number in sample(names)]
    assert {template(name) for name in chosen} == {template(name) for name in library.functions}
    formats = [name.removeprefix("linear_") for name in library.functions if name.startswith("linear_")]
    count = (len(AFFINE_BITS) + 1) * len(FLOATS) + len(FLOAT_MODES) + len(PLAIN_MODES) + len(BLOCKS)
    assert len(formats) == count and {f"embed_{each}" for each in formats} <= set(chosen)


FEATURES = """
constant float steps[] = {1, 2, 3};
struct Args { uint n; float scale[3]; packed_float3 p; };
struct Shared { float4 v[8]; half h; };
template <typename T> T all_of(T v, ushort k) {
    v = simd_sum(v) + simd_product(v) + simd_min(v) + simd_max(v) + quad_sum(v) + simd_prefix_inclusive_sum(v);
    v += quad_prefix_exclusive_sum(v) + simd_broadcast(v, k) + simd_broadcast_first(v) + simd_shuffle(v, k);
    v += simd_shuffle_xor(v, k) + quad_shuffle(v, k) + simd_shuffle_up(v, k) + simd_shuffle_rotate_down(v, k);
    return v + simd_shuffle_and_fill_up(v, v, k) + quad_shuffle_and_fill_down(v, v, k, 4);
}
kernel void lanes(device float *f, device int *i, device uint *u, device half *h, device float4 *v, device ulong *w,
                  device bfloat *b, device char *c, constant Args &args, ushort k [[thread_index_in_simdgroup]],
                  uint3 at [[thread_position_in_grid]]) {
    f[k] = all_of(f[k], k) * args.scale[k % 3] + steps[k % 3] + args.p.y;
    i[k] = all_of(i[k], k);
    h[k] = all_of(h[k], k);
    u[k] = simd_and(u[k]) ^ simd_or(u[k]) ^ simd_xor(u[k]) ^ quad_xor(u[k]) ^ simd_max(u[k]);
    v[k] = simd_sum(v[k]) + simd_shuffle_down(v[k], k);
    w[k] = simd_sum(w[k]) + quad_shuffle(w[k], k);
    b[k] = simd_max(b[k]);
    c[k] = simd_min(c[k]) + simd_prefix_exclusive_product(c[k]);
    if (simd_all(u[k] > at.y) || simd_any(u[k] > 2) || simd_is_first() || quad_all(u[k] > 2))
        u[k] += uint(simd_vote::vote_t(simd_ballot(u[k] > 3))) + uint(simd_vote::vote_t(simd_active_threads_mask()));
}
template <typename T> T atomics_of(device atomic<T> *p, threadgroup atomic<T> *q, T v, memory_order o) {
    T e = v;
    bool done = atomic_compare_exchange_weak_explicit(p, &e, v, o, memory_order_relaxed);
    atomic_store_explicit(q, v, memory_order_relaxed);
    v = atomic_exchange_explicit(p, v, o) + atomic_load_explicit(q, memory_order_relaxed) + e + T(done);
    v += atomic_fetch_add_explicit(p, v, o) + atomic_fetch_sub_explicit(q, v, o);
    return v + atomic_fetch_min_explicit(p, v, o) + atomic_fetch_max_explicit(q, v, o);
}
kernel void atomics(device atomic_int *i, device atomic_uint *u, device atomic_ulong *l, device atomic_float *f,
                    device atomic_bool *b, device float *y) {
    threadgroup atomic_int si; threadgroup atomic_uint su; threadgroup atomic_ulong sl; threadgroup atomic_float sf;
    y[0] = atomics_of(i, &si, 1, memory_order_relaxed) + atomics_of(u, &su, 1u, memory_order_acq_rel);
    y[0] += atomics_of(l, &sl, 1ul, memory_order_seq_cst) + atomics_of(f, &sf, 1.0f, memory_order_release);
    u[1].value += atomic_fetch_and_explicit(u, 1, memory_order_relaxed);
    u[2].value += atomic_fetch_or_explicit(u, 1, memory_order_acquire);
    atomic_fetch_xor_explicit(i, 1, memory_order_relaxed);
    bool old = false;
    atomic_store_explicit(b, true, memory_order_release);
    y[1] = atomic_load_explicit(b, memory_order_acquire) + atomic_exchange_explicit(b, false, memory_order_relaxed) +
           atomic_compare_exchange_weak_explicit(b, &old, true, memory_order_relaxed, memory_order_relaxed);
    atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
    atomic_thread_fence(mem_flags::mem_threadgroup, memory_order_acq_rel, thread_scope_threadgroup);
}
template <typename A, typename B> void product(device A *a, device B *b, device float *d) {
    simdgroup_matrix<A, 8> x; simdgroup_matrix<B, 8> y; simdgroup_matrix<float, 8> z(1.0f);
    simdgroup_load(x, a, 8); simdgroup_load(y, b, 8, ulong2(0, 8), true);
    simdgroup_multiply_accumulate(z, x, y, z);
    simdgroup_store(z, d, 8);
}
kernel void matrices(device half *h, device bfloat *b, device float *f) {
    product(h, h, f); product(b, b, f); product(f, f, f); product(h, f, f); product(b, h, f);
}
kernel void memory(device float *y, device const half *h, device const bfloat *b,
                   threadgroup float4 *one [[threadgroup(0)]], threadgroup uint *two [[threadgroup(3)]],
                   uint i [[thread_index_in_threadgroup]], uint3 size [[threads_per_threadgroup]],
                   ushort2 at [[thread_position_in_threadgroup]]) {
    threadgroup Shared shared;
    threadgroup float table[3][4], more[8];
    shared.v[i % 8] = one[i]; shared.h = half(y[i]); table[i % 3][i % 4] = float(h[i]); more[i % 8] = two[i];
    for (uint k = 0; k < size.x; k++) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        more[(i + k) % 8] += shared.v[k % 8].y + table[k % 3][i % 4] + float(b[i]) + more[at.x % 8];
        threadgroup_barrier(mem_flags::mem_device, thread_scope_device);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = more[i % 8] + float(bfloat(y[i])) + float(shared.h);
}
"""


@compiles
def test_features(tmp_path):
    """All that GPUs do otherwise, also to machine code: the assembler knows which instructions a GPU has."""
    (unit,) = units(build(tmp_path, FEATURES))
    nvrtc.compile_apart(unit, None, ARCHS[0], tmp_path / "out.cubin")
    code = ptx(tmp_path, unit.read_text(), ARCHS[1])
    assert_sound(code, ARCHS[1])
    for word in ("cvt.rn.f16.f32", "cvt.rn.bf16.f32", "redux.sync.add.s32", "redux.sync.max.u32", "fence.sc.gpu"):
        assert word in code, word
    for word in ("m16n8k8.row.col.f32.f16.f16.f32", "m16n8k8.row.col.f32.bf16.bf16.f32", "m8n8k4.row.col.f64"):
        assert f"mma.sync.aligned.{word}" in code, word
    barriers = len(re.findall(r"bar(?:rier)?\.(?:cta\.)?sync", code))
    assert barriers >= 2 and barriers % 2 == 0, "both of each iteration, also where the loop is unrolled"
    shared = sum(map(int, re.findall(r"^\s*\.shared .* \S*metallib_\w+\[(\d+)\];", code, re.MULTILINE)))
    assert shared == 4 + 4 + 8 + 4 + (144 + 48 + 32), "a variable of threadgroup memory each"


@compiles
def test_rounding_of_constants_is_that_of_the_instructions(tmp_path):
    """What NVRTC computes when it compiles: 16-bit floats and other constants of a shader."""
    values = "1.00390625f, 1.01171875f, 3.4e38f, 65520.0f, 65519.9f, 6e-8f, 2.9e-8f, 1e-40f"
    text = f"""
constant bfloat b[] = {{{", ".join(f"bfloat({v})" for v in values.split(", "))}}};
constant half h[] = {{{", ".join(f"half({v})" for v in values.split(", "))}}};
kernel void constants(device float *y, uint i [[thread_position_in_grid]]) {{ y[i] = float(b[i]) + float(h[i]); }}
"""
    (unit,) = units(build(tmp_path, text))
    code = ptx(tmp_path, unit.read_text(), "sm_90a")
    found = re.findall(r"^\.(?:global|const) .*\b\w*1[bh]E?\[16\] = \{([\d, ]+)\};", code, re.MULTILINE)
    x = np.array([np.float32(v.rstrip("f")) for v in values.split(", ")], np.float32)
    bits = x.view(np.uint32)
    bfloats = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):
        want = {bytes(bfloats.tobytes()), bytes(x.astype(np.float16).tobytes())}
    assert {bytes(map(int, each.split(","))).ljust(16, b"\0") for each in found} == want


@compiles
def test_what_nvrtc_refuses_is_one_line_with_its_place(tmp_path):
    text = '\nkernel void bad(device uint *y) { asm("nonsense %0;" : "=r"(y[0]) : "q"(1)); }\n'
    with pytest.raises(metalc.CompileError) as raised:
        build(tmp_path, text, archs=["sm_80"])
    assert re.match(r".*shader\.metal:4: ", str(raised.value).splitlines()[0])


@compiles
def test_kernels_are_compiled_ahead_by_name(tmp_path):
    kernels = "".join(f"kernel void {name}(device uint *y) {{ y[0] = 1; }}\n" for name in ("add_a", "add_b", "mul_a"))
    made = build(tmp_path, kernels, archs=["sm_80"], ahead=["add_*"])
    (unit,) = units(made)
    assert {path.name for path in (made / "cuda/sm_80").iterdir()} == {f"{unit.stem}-{n}.cubin" for n in (0, 1)}
    again = {path.name: path.read_bytes() for path in (made / "cuda/sm_80").iterdir()}
    shutil.rmtree(made)
    build(tmp_path, kernels, archs=["sm_80"], ahead=["add_*"])
    assert {path.name: path.read_bytes() for path in (made / "cuda/sm_80").iterdir()} == again


def test_architectures_and_a_missing_nvrtc_are_one_line(tmp_path, monkeypatch):
    kernel = "kernel void one(device uint *y) { y[0] = 1; }"
    with pytest.raises(metalc.CompileError, match=r"^metalc: unknown GPU architecture 'hopper'; name one such as"):
        build(tmp_path, kernel, archs=["hopper"])
    monkeypatch.setattr(nvrtc, "find", lambda: None)
    with pytest.raises(metalc.CompileError, match=r"^metalc: NVRTC is not installed; install it \(pip install"):
        build(tmp_path, kernel, archs=["sm_80"])


def test_the_kernels_that_are_compiled_ahead_exist(library, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import cuda_kernels

    assert set(cuda_kernels.HOT) <= set(library.functions)
    monkeypatch.setattr(nvrtc, "find", lambda: None)
    assert cuda_kernels.archs() == ()
    monkeypatch.setattr(nvrtc, "find", object)
    monkeypatch.setenv("OB_ARCHS", "sm_80, sm_90a")
    assert cuda_kernels.archs() == ("sm_80", "sm_90a")


def test_a_story_runs_kernels_that_are_compiled_ahead(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import cuda_kernels

    names: set[str] = set()
    monkeypatch.setattr(p.Device, "prepare", lambda device, kernels: names.update(kernels))
    device = p.open_device("checker", schedules=1)  # its kernels have the GPU's shape
    with p.open_checkpoint(short_storyteller(tmp_path / "model")) as checkpoint:
        generator = p.Generator(p.load_model(checkpoint, device=device))
    events = list(generator.run([p.Request(0, (0, 819), max_tokens=2)]))
    assert not [event for event in events if hasattr(event, "error")]
    assert len(names) > 10 and names <= set(cuda_kernels.HOT), names - set(cuda_kernels.HOT)
