"""Rules about single words: those that C++ has and Metal has not, and attributes that nobody knows."""

import re

from ..metalc.tokens import Token
from .diagnostic import ReportToken
from .expressions import VECTORS
from .lower import Lowered

__all__ = ["KNOWN", "POSITIONS", "RESOURCES", "VALUES", "check"]

_WORDS = {
    "double": ("double", "Metal has no double", "use float"),
    "goto": ("goto", "Metal has no goto", "use a loop or a condition"),
    "new": ("dynamic-allocation", "Metal has no dynamic allocation", "use an array of fixed size or a buffer"),
    "delete": ("dynamic-allocation", "Metal has no dynamic allocation", "use an array of fixed size or a buffer"),
    "try": ("exception", "Metal has no exceptions", "return a status"),
    "catch": ("exception", "Metal has no exceptions", "return a status"),
    "throw": ("exception", "Metal has no exceptions", "return a status"),
    "virtual": ("virtual-function", "Metal has no virtual functions", "use a template"),
    "typeid": ("rtti", "Metal has no type information at run time", "use a template or an enum"),
    "dynamic_cast": ("rtti", "Metal has no type information at run time", "use a template or an enum"),
    "thread_local": ("storage", "Metal has no thread_local", "use a local variable"),
    "register": ("storage", "Metal has no register variables", "leave the word out"),
}
_LONG_DOUBLE = re.compile(r"(?!0[xX])(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?[lL]")
_ALLOCATORS = frozenset(("malloc", "calloc", "realloc", "free", "alloca"))

# Types of numbers, and what may stand before them.
VALUES = (
    frozenset(
        "const volatile unsigned bool char uchar short ushort int uint long ulong size_t float half bfloat".split()
    )
    | VECTORS
)
POSITIONS = frozenset(
    "thread_position_in_grid threadgroup_position_in_grid threads_per_grid threadgroups_per_grid grid_size grid_origin "
    "thread_position_in_threadgroup thread_index_in_threadgroup thread_index_in_simdgroup thread_index_in_quadgroup "
    "simdgroup_index_in_threadgroup quadgroup_index_in_threadgroup threads_per_threadgroup threads_per_simdgroup "
    "dispatch_threads_per_threadgroup thread_execution_width simdgroups_per_threadgroup "
    "dispatch_simdgroups_per_threadgroup quadgroups_per_threadgroup dispatch_quadgroups_per_threadgroup "
    "stage_in_grid_origin stage_in_grid_size".split()
)
RESOURCES = frozenset(
    "buffer texture sampler threadgroup stage_in function_constant imageblock_data threadgroup_imageblock payload "
    "visible_function_table intersection_function_table acceleration_structure object_data".split()
)
KNOWN = (
    POSITIONS
    | RESOURCES
    | frozenset(
        "kernel host_name max_total_threads_per_threadgroup required_threads_per_threadgroup visible stitchable "
        "intersection extern_intersection mesh object vertex fragment tile patch early_fragment_tests position color "
        "depth stencil user_annotation "
        "sample_mask sample_id point_size point_coord clip_distance vertex_id instance_id base_vertex base_instance "
        "primitive_id front_facing barycentric_coord render_target_array_index viewport_array_index amplification_id "
        "amplification_count patch_id control_point_index_buffer attribute raster_order_group user id flat "
        "center_perspective center_no_perspective centroid_perspective centroid_no_perspective sample_perspective "
        "sample_no_perspective invariant shared primitive indices maybe_unused nodiscard fallthrough deprecated "
        "noreturn likely unlikely always_inline noinline unroll loop_unroll clang gnu access packed triangle_data "
        "world_space_data "
        "instancing triangle bounding_box curve curve_data max_levels primitive_data distance opaque_primitive origin "
        "direction min_distance max_distance accept_intersection continue_search geometry_id "
        "geometry_intersection_function_table_offset user_instance_id "
        "instance_intersection_function_table_offset imageblock pixel_position_in_tile pixels_per_tile "
        "tile_index alias_implicit_imageblock intersection_result intersection_params_table loop dont_unroll".split()
    )
)


def check(lowered: Lowered, report: ReportToken) -> None:
    """Reports each word that Metal refuses."""
    tokens = lowered.tokens
    for index, token in enumerate(tokens):
        if token.kind != "word":
            if token.kind == "number" and _LONG_DOUBLE.fullmatch(token.text):
                report(token, "double", "Metal has no long double", "write f for float or h for half")
            if _opens(tokens, index) and index in lowered.pairs:
                _attributes(lowered, index, report)
            continue
        _type(tokens, index, report)
        before = tokens[index - 1].text if index else ""
        after = tokens[index + 1].text if index + 1 < len(tokens) else ""
        if token.text in _WORDS and before not in (".", "->", "::"):
            if token.text == "delete" and before == "=":
                continue
            if token.text == "new" and before == "operator":
                continue
            report(token, *_WORDS[token.text])
        elif (
            token.text in _ALLOCATORS
            and after == "("
            and before not in (".", "->")
            and tokens[index - 1].kind != "word"
        ):
            report(
                token, "dynamic-allocation", "Metal has no dynamic allocation", "use an array of fixed size or a buffer"
            )
        elif token.text in ("asm", "__asm__") and before in ("", "{", "}", ";"):
            report(token, "inline-assembly", "Metal has no inline assembly", "use a function of the standard library")
        elif token.text == "std" and after == "::":
            report(token, "std", "Metal has no C++ standard library", "use what <metal_stdlib> has in namespace metal")
    for variable in lowered.variables:
        name = variable.name.text
        if variable.initialised:
            report(
                variable.name,
                "threadgroup-variable",
                f"threadgroup variable '{name}' has an initialiser that is no constant",
                "let one thread write it, then call threadgroup_barrier",
            )
        if not variable.kernel:
            report(
                variable.name,
                "threadgroup-variable",
                f"threadgroup variable '{name}' is not in a kernel",
                "declare it in the kernel and pass a threadgroup pointer",
            )


def _type(tokens: list[Token], index: int, report: ReportToken) -> None:
    """Reports types that C++ has or a template would make, and Metal has not."""
    texts = [token.text for token in tokens[index : index + 6]]
    if texts[:2] == ["long", "long"]:
        report(tokens[index], "long-long", "Metal has no long long", "write long, which has 64 bits")
    elif texts[:2] in (["vec", "<"], ["packed_vec", "<"]) and texts[3:4] == [","] and texts[5:6] == [">"]:
        if texts[4].isdecimal() and int(texts[4]) not in (2, 3, 4):
            report(
                tokens[index],
                "vector-width",
                f"a vector has 2, 3 or 4 elements, not {texts[4]}",
                "use an array or array<T, N>",
            )


def _opens(tokens: list[Token], index: int) -> bool:
    return (
        tokens[index].text == "["
        and index + 1 < len(tokens)
        and tokens[index + 1].text == "["
        and tokens[index].end == tokens[index + 1].start
    )


def _attributes(lowered: Lowered, index: int, report: ReportToken) -> None:
    tokens, end = lowered.tokens, lowered.pairs[index] - 1
    at = index + 2
    while at < end:
        token = tokens[at]
        if token.kind == "word" and tokens[at + 1].text == "::":
            at += 3
            continue
        if token.kind == "word" and token.text not in KNOWN:
            report(token, "attribute", f"unknown attribute [[{token.text}]]", "check its spelling")
        at += 1
        if tokens[at].text == "(":
            at = lowered.pairs[at] + 1
        while at < end and tokens[at].text == ",":
            at += 1
