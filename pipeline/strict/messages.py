"""Clang's errors as rules of Metal; and those that are no errors in Metal, left out."""

import re

from .engine import Finding, reworded

__all__ = ["classify", "errors", "false_alarm"]

# (rule, expression for Clang's message, what to do)
_RULES = (
    (
        "memory-order",
        r"an atomic takes memory_order_relaxed alone",
        "write memory_order_relaxed, and order other memory with atomic_thread_fence",
    ),
    ("matrix", r"static assertion.*a (simdgroup_)?matrix has", "use float, half or bfloat, and a size that there is"),
    ("threadgroup-memory", r"static assertion.*threadgroup memory", "make the threadgroup array smaller"),
    (
        "function-pointer",
        r"pointers to functions|function pointers?\b|taking address of (a )?function",
        "use a template parameter or a switch",
    ),
    ("variadic", r"variadic|passing .* through '\.\.\.'", "use a template"),
    ("virtual-function", r"virtual", "use a template"),
    ("dynamic-allocation", r"'(default )?new'|'delete'", "use an array of fixed size or a buffer"),
    ("exception", r"exceptions? (disabled|handling)|cannot use '(try|throw)'", "return a status"),
    ("rtti", r"typeid|dynamic_cast|-frtti", "use a template or an enum"),
    ("storage", r"thread_local|thread-local", "use a local variable"),
    (
        "global-state",
        r"(program scope|static (local|data member)) variable",
        "declare it constant, or pass it as an argument",
    ),
    ("narrowing", r"cannot be narrowed", "convert it: T(x)"),
    (
        "variable-length-array",
        r"array size is not a constant expression|variable length array",
        "give it a constant size",
    ),
    ("address-space", r"address space", "keep the address space of the argument"),
    (
        "read-only",
        r"const-qualified|read-only|not assignable|drops? '?const|discards qualifiers",
        "take the argument as device without const",
    ),
    ("recursion", r"recursive template instantiation exceeded", "use a loop"),
)
# A template that its header keeps from a type, and what such a function takes.
_UNFIT = re.compile(r"candidate template ignored: requirement .* was not satisfied \[with T = ([^\]]*)\]")
_WHOLE = "give it integers of at most 32 bits, or their vectors"
_TYPED = (
    *((f"{group}_{name}", _WHOLE) for group in ("simd", "quad") for name in ("and", "or", "xor")),
    *((f"{g}_", "give it numbers of at most 32 bits, but bool and bfloat, or their vectors") for g in ("simd", "quad")),
    ("atomic_fetch_add", "add to an int or a uint, or to a float in device memory"),
    ("atomic_fetch_sub", "subtract from an int or a uint, or from a float in device memory"),
    ("atomic_fetch_", "use an int or a uint"),
    (
        "atomic_m",
        "use a ulong in device memory; other types have atomic_fetch_min_explicit and atomic_fetch_max_explicit",
    ),
    ("atomic_", "use an int, a uint or a bool, or a float in device memory"),
)
_SPACE = re.compile(r"__(global|local|constant|private|generic)\b")
_SPACES = re.compile(r"address space|cannot deduce a type for .* equal '[^']*__")
_TYPES = re.compile(r"'([^']*)'")
_BOOLS = re.compile(r"invalid vector element type 'bool'")
_FALSE = (
    # Vectors of different types convert where they are constructed.
    re.compile(r"from vector .* to vector .* of different size"),
    re.compile(r"invalid conversion between ext-vector type"),
    re.compile(
        r"(static_cast|C-style cast|functional-style cast|cast) from '[^']*(ext_vector|\d).*' .* is not allowed"
    ),
    re.compile(r"excess elements in (scalar|vector) initializer"),
    re.compile(r"scalar operand type has greater rank than the type of the vector element"),
    re.compile(r"too few elements in vector initialization"),
    _BOOLS,
    # A function as the argument of a template.
    re.compile(
        r"reference to overloaded function could not be resolved|explicit instantiation of .* does not refer to a"
    ),
    # p += c, c an object that converts to an integer.
    re.compile(r"invalid operands to binary expression \('[^']*\*[^']*'.* and '[A-Za-z_][\w:<>, ]*'( \(aka .*\))?\)"),
    # A member may be declared in its type and defined outside.
    re.compile(r"variable in constant address space must be initialized"),
    # Declarations stand for functions here, so little is constant.
    re.compile(
        r"must be initialized by a constant expression|not an integral constant expression"
        r"|no return statement in constexpr"
    ),
    re.compile(r"cast from '[^'*]*(half|bfloat|__bf16)'.* to '[^'*]*(half|bfloat|__bf16)'.* is not allowed"),
)
# Objects are copied out of constant memory.
_COPY = re.compile(r"implicit (copy|move) (constructor|assignment operator)\) not viable: .*__constant\b")
_NOTE_TEMPORARY = re.compile(
    r"cannot bind reference in default address space|'this' object is in default address space"
    r"|cannot convert initializer list argument to "
    r"'(const |__private |\w+::)*([a-z]+[234]|vec<[^']*>|[^']*ext_vector[^']*)'"
)
_NOTE_FAILED = re.compile(
    r"invalid explicitly-specified argument|candidate template ignored: substitution failure( \[with [^\]]*\])?$"
)
_NOTE_DEDUCED = re.compile(r"cannot deduce a type for .* equal '([^']*)'")
_CONSTANT = re.compile(r"cannot be used to construct an object in address space '__constant'")
_CANDIDATE = re.compile(r"^candidate ")


def errors(findings: list[Finding]) -> list[Finding]:
    """The errors of Clang that Metal has, too."""
    bools = any(_BOOLS.search(finding.text) for finding in findings)
    return [f for f in findings if not (false_alarm(f) or bools and "subscripted value" in f.text)]


def false_alarm(finding: Finding) -> bool:
    """Whether Metal accepts what Clang refuses."""
    text = finding.text
    if any(pattern.search(text) for pattern in _FALSE):
        return True
    if "cannot bind to a temporary object because of address space mismatch" in text:
        return True
    if text.startswith("cannot initialize object parameter"):
        named = _TYPES.findall(text)
        return len(named) == 2 and not _SPACE.search(named[1].split("<")[0])
    candidates = [note.text for note in finding.notes if _CANDIDATE.match(note.text)]
    if text.startswith(("no matching constructor", "no viable overloaded '='", "no viable conversion")):
        return any(_COPY.search(note) or _CONSTANT.search(note) for note in candidates)
    if text.startswith("no matching"):
        return any(
            _NOTE_TEMPORARY.search(note)
            or _NOTE_FAILED.search(note)
            or (deduced := _NOTE_DEDUCED.search(note))
            and not _SPACE.search(deduced[1])
            for note in candidates
        )
    if text.startswith(("incompatible operand types", "conditional expression is ambiguous")):
        types = {
            re.sub(r"\bconst\b|\b__(private|generic|global|local|constant)\b", "", name).strip()
            for name in _TYPES.findall(text)
        }
        return len(types) == 1
    return False


def classify(finding: Finding) -> tuple[str, str, str]:
    """(rule, message, fix) of a finding."""
    message = reworded(finding.text)
    reasons = [note.text for note in finding.notes if _CANDIDATE.match(note.text)]
    everything = " ".join((finding.text, *reasons))
    for rule, pattern, fix in _RULES:
        if re.search(pattern, finding.text):
            if rule == "threadgroup-memory":
                message = _memory(finding)
            return rule, message, fix
    unfit = next((found for found in map(_UNFIT.search, reasons) if found), None)
    function = re.search(r"call to '(\w+)'", finding.text)
    if unfit and function and finding.text.startswith("no matching function"):
        fixes = (fix for prefix, fix in _TYPED if function[1].startswith(prefix))
        return "type", f"{function[1]} takes no {reworded(unfit[1])}", next(fixes, "give it a type that it takes")
    if _drops_const(finding.text):
        return "read-only", message, "take the argument as device without const"
    if finding.text.startswith("cannot initialize object parameter"):
        return "address-space", message, "copy the object into a thread variable first"
    if any(_mixes(text) for text in (finding.text, *reasons)) or _SPACES.search(everything):
        return "address-space", message + _reason(finding), "keep the address space of the argument"
    if re.search(r"lose const|drops? .*const|would lose const|but .* is const", everything):
        return "read-only", message + _reason(finding), "take the argument as device without const"
    return "invalid", message + _reason(finding), "Metal's compiler refuses this"


def _memory(finding: Finding) -> str:
    declared = re.search(r"sizeof\((.*)\) <=", finding.text)
    size = next((m[1] for note in finding.notes if (m := re.search(r"'(\d+) <= ", note.text))), "")
    name = f" of type {reworded(declared[1])}" if declared else ""
    return f"threadgroup variable{name} takes {int(size or 0):,} bytes; 32,768 is the most"


def _mixes(text: str) -> bool:
    """Whether a message names two pointers into different address spaces."""
    spaces: set[str] = set()
    for name in _TYPES.findall(text):
        if re.search(r"[*&\[]", name):
            space = _SPACE.findall(re.split(r"[*&\[]", name)[0])
            spaces.add(space[0] if space and space[0] not in ("private", "generic") else "thread")
    return len(spaces) > 1


def _drops_const(text: str) -> bool:
    """Whether a message names two pointers that differ in const alone."""
    types = [name for name in _TYPES.findall(text) if "*" in name or "&" in name]
    bare = {re.sub(r"\bconst\b|\b__(private|generic)\b|\s", "", name) for name in types}
    return len(set(types)) > 1 and len(bare) == 1


def _reason(finding: Finding) -> str:
    """The first candidate's reason, for calls that match nothing."""
    if not finding.text.startswith(("no matching", "no viable", "call to")):
        return ""
    for note in finding.notes:
        if _CANDIDATE.match(note.text) and ": " in note.text:
            return f" ({reworded(note.text.split(': ', 1)[1])})"
    return ""
