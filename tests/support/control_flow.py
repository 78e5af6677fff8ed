"""Random kernels of branches and loops around simdgroup functions, and what they compute: lanes that part at a
branch come together where its branches do. A turn of a loop has no branches but breaks: the
checker knows where lanes are, not in which turn."""

import random

LANES = 32
MASK = 0xFFFFFFFF


class Program:
    """A random kernel: its text, and its result for the lanes of one simdgroup."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.name = f"program_{seed}"
        self.loops = 0
        self.helpers = [self._block(2, False, False) for _ in range(2)]
        self.body = self._block(4, False, True)

    # Statements: ("sum",), ("any",), ("if", condition, then, else), ("loop", condition, block), ("break",), ...

    def _block(self, depth, in_loop, in_kernel):
        return [self._statement(depth, in_loop, in_kernel) for _ in range(self.random.randint(1, 3))]

    def _statement(self, depth, in_loop, in_kernel):
        kinds = ["sum", "sum", "any"]
        if in_loop:
            kinds += ["leave"]
        elif depth > 0:
            kinds += ["if", "if"] + (["loop", "call"] if in_kernel else [])
        kind = self.random.choice(kinds)
        condition = (self.random.randint(2, 5), self.random.randint(0, 3))
        if kind == "if":
            other = self._block(depth - 1, in_loop, in_kernel) if self.random.random() < 0.6 else []
            return kind, condition, self._block(depth - 1, in_loop, in_kernel), other
        if kind == "loop":
            return kind, condition, self._block(depth - 1, True, in_kernel)
        if kind == "leave":
            return kind, condition, "break"
        if kind == "call":
            return kind, self.random.randrange(len(self.helpers))
        return (kind,)

    # As Metal

    def text(self) -> str:
        helpers = "".join(
            f"static uint {self.name}_{number}(uint v, uint lane) {{\n{self._text(block, 1)}    return v;\n}}\n"
            for number, block in enumerate(self.helpers)
        )
        return (
            f"{helpers}kernel void {self.name}(device uint *y [[buffer(0)]], "
            "uint lane [[thread_index_in_simdgroup]]) {\n"
            f"    uint v = lane;\n{self._text(self.body, 1)}    y[lane] = v;\n}}\n"
        )

    def _text(self, block, depth) -> str:
        return "".join(self._line(statement, depth) for statement in block)

    def _line(self, statement, depth) -> str:
        pad = "    " * depth
        match statement:
            case ("sum",):
                return f"{pad}v = v * 3 + simd_sum(v);\n"
            case ("any",):
                return f"{pad}v += simd_any(v % 3 == 0) ? 7 : 11;\n"
            case ("call", number):
                return f"{pad}v = {self.name}_{number}(v, lane);\n"
            case ("if", (modulus, rest), then, other):
                text = f"{pad}if ((v ^ lane) % {modulus} > {rest}) {{\n{self._text(then, depth + 1)}{pad}}}"
                return text + (f" else {{\n{self._text(other, depth + 1)}{pad}}}\n" if other else "\n")
            case ("loop", (modulus, rest), block):
                self.loops += 1
                k = f"k{self.loops}"
                head = f"{pad}for (uint {k} = 0; {k} < (v ^ lane) % {modulus} && {k} < {rest + 1}; {k}++) {{\n"
                return f"{head}{self._text(block, depth + 1)}{pad}}}\n"
            case ("leave", (modulus, rest), word):
                return f"{pad}if ((v + lane) % {modulus} > {rest}) {word};\n"
        raise ValueError(statement)

    # As numbers

    def run(self) -> list[int]:
        self.v = list(range(LANES))
        self._run(self.body, set(range(LANES)))
        return self.v

    def _run(self, block, active):
        """Returns the lanes that reach the end; those that broke or continued are noted with the loop."""
        for statement in block:
            if not active:
                break
            active = self._step(statement, active)
        return active

    def _step(self, statement, active):
        v = self.v
        match statement:
            case ("sum",):
                total = sum(v[lane] for lane in active)
                for lane in active:
                    v[lane] = (v[lane] * 3 + total) & MASK
            case ("any",):
                more = 7 if any(v[lane] % 3 == 0 for lane in active) else 11
                for lane in active:
                    v[lane] = (v[lane] + more) & MASK
            case ("call", number):
                self._run(self.helpers[number], set(active))
            case ("if", (modulus, rest), then, other):
                taken = {lane for lane in active if (v[lane] ^ lane) % modulus > rest}
                return self._run(then, set(taken)) | self._run(other, active - taken)
            case ("loop", (modulus, rest), block):
                self._loop(modulus, rest, block, set(active))
            case ("leave", (modulus, rest), word):
                leaving = {lane for lane in active if (v[lane] + lane) % modulus > rest}
                self.left[word] |= leaving
                return active - leaving
        return active

    def _loop(self, modulus, rest, block, active):
        outer = getattr(self, "left", None)
        for k in range(rest + 1):
            active = {lane for lane in active if k < (self.v[lane] ^ lane) % modulus}
            self.left = {"break": set(), "continue": set()}
            active = self._run(block, active) | self.left["continue"]
        self.left = outer
