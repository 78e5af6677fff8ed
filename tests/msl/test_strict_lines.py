"""Strict MSL by single lines: every mistake is refused at its line, and nothing that Metal takes is refused. Each group
is one shader, so that Clang reads the standard library once for all of its lines."""

import itertools

import pytest
from support.paths import TESTS
from support.strict import HEAD, check, needs_clang

FRAME = """kernel void {name}(device float *x [[buffer(0)]], device uint *u [[buffer(1)]],
    device ulong *l [[buffer(2)]], device half *h [[buffer(3)]], device bfloat *b [[buffer(4)]],
    device int *n [[buffer(5)]], device atomic_float *af [[buffer(6)]], device atomic_uint *au [[buffer(7)]],
    device atomic_int *ai [[buffer(8)]], device atomic_ulong *al [[buffer(9)]], device atomic_bool *ab [[buffer(10)]],
    constant float4 *c [[buffer(11)]], threadgroup atomic_uint *ta [[threadgroup(0)]],
    threadgroup float *t [[threadgroup(1)]], uint i [[thread_position_in_grid]]) {{"""


def read(name):
    """{heading: lines} of a file of lines."""
    groups = (TESTS / "msl" / "lines" / f"{name}.txt").read_text().split("\n== ")[1:]
    return {group.split("\n")[0]: group.strip().split("\n")[1:] for group in groups}


MISTAKES, LEGAL = read("mistakes"), read("legal")
SCALARS = "float half char uchar short ushort int uint".split()
WHOLE = "char uchar short ushort int uint".split()
VECTORS = [f"{scalar}{n}" for scalar in SCALARS for n in (2, 3, 4)]
REDUCTIONS = "sum product min max prefix_inclusive_sum prefix_exclusive_sum prefix_inclusive_product".split()
SHUFFLES = "broadcast shuffle shuffle_xor shuffle_up shuffle_down shuffle_rotate_up shuffle_rotate_down".split()


def every_type():
    """Lanes functions and atomics with each type that they take."""
    for group, kind in itertools.product(("simd", "quad"), SCALARS + VECTORS):
        reductions = " ".join(f"{group}_{name}({kind}(1));" for name in (*REDUCTIONS, "broadcast_first"))
        yield reductions + " ".join(f" {group}_{name}({kind}(1), 1);" for name in SHUFFLES)
        yield " ".join(f"{group}_shuffle_and_fill_{way}({kind}(1), {kind}(0), 1);" for way in ("up", "down"))
    for group, kind in itertools.product(("simd", "quad"), WHOLE):
        yield " ".join(f"{group}_{name}({kind}{n}(1));" for name in ("and", "or", "xor") for n in ("", 2, 3, 4))
    for pointer, value in (("au", "1u"), ("ai", "-1"), ("ta", "1u")):
        names = ("add", "sub", "min", "max", "and", "or", "xor")
        yield " ".join(f"atomic_fetch_{name}_explicit({pointer}, {value}, memory_order_relaxed);" for name in names)


def shader(lines):
    """A kernel for each line, and {its line in the text: the line}."""
    text, places = HEAD, {}
    for number, line in enumerate(lines):
        text += FRAME.format(name=f"k{number}") + "\n"
        places[text.count("\n") + 1] = line
        text += f"    {line}\n}}\n"
    return text.removeprefix(HEAD), places


@needs_clang
@pytest.mark.parametrize("group", MISTAKES)
def test_every_mistake_is_refused_at_its_line(tmp_path, group):
    text, places = shader(MISTAKES[group])
    found = check(tmp_path, text)
    told = {diagnostic.line for diagnostic in found}
    assert [line for place, line in places.items() if place not in told] == []
    assert told <= places.keys(), "\n".join(map(str, found))


@needs_clang
def test_every_mistake_of_a_declaration_is_refused_at_its_line(tmp_path):
    (lines,) = read("mistakes_of_declarations").values()
    told = {diagnostic.line for diagnostic in check(tmp_path, "\n".join(lines))}
    assert [line for place, line in enumerate(lines, 3) if place not in told] == []


@needs_clang
@pytest.mark.parametrize("group", LEGAL)
def test_what_metal_takes_is_not_refused(tmp_path, group):
    assert list(map(str, check(tmp_path, shader(LEGAL[group])[0]))) == []


@needs_clang
def test_every_type_that_a_function_takes_is_not_refused(tmp_path):
    assert list(map(str, check(tmp_path, shader(every_type())[0]))) == []


@needs_clang
def test_declarations_that_metal_takes_are_not_refused(tmp_path):
    (lines,) = read("legal_declarations").values()
    assert list(map(str, check(tmp_path, "\n".join(lines)))) == []


def test_there_are_enough_lines():
    legal = [*LEGAL.values(), *read("legal_declarations").values()]
    assert sum(map(len, MISTAKES.values())) >= 80 and sum(map(len, legal)) >= 250 and len(list(every_type())) >= 140


@needs_clang
def test_the_message_names_the_function_and_the_type(tmp_path):
    (found,) = check(tmp_path, shader(["l[i] = simd_sum(l[i]);"])[0])
    assert found.rule == "type" and found.message == "simd_sum takes no ulong" and "at most 32 bits" in found.fix
    (found,) = check(tmp_path, shader(["atomic_fetch_max_explicit(af, 1.0f, memory_order_relaxed);"])[0])
    assert found.rule == "type" and found.message == "atomic_fetch_max_explicit takes no float"
