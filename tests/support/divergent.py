"""Random kernels whose lanes part in branches and loops, and what a GPU makes of them: a model that runs all lanes of a
simdgroup in lockstep, each statement with the lanes that are there. Branches end where their arms meet; a lane that
leaves a turn, a loop or a function waits at its end.

A program is a tree of tuples. `text` writes it as Metal; `Lockstep` computes it. The two share nothing but the tree.
"""

import random

import numpy as np

WIDTH, THREADS = 32, 64
VARIABLES = ("a", "b", "c")
HEADER = "#include <metal_stdlib>\nusing namespace metal;\n"
KERNEL = """kernel void {name}(device const uint *x [[buffer(0)]], device uint *y [[buffer(1)]],
    uint i [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {{
    threadgroup uint shared[{threads}];
    threadgroup atomic_uint tally[{tallies}];
    if (i < {tallies}) atomic_store_explicit(&tally[i], 0, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint a = x[i], b = i, c = x[i] ^ lane;
"""
TALLIES = 4  # counters of the threadgroup


class Generator:
    """Draws programs. Loops end: each has a count of its own."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.count = 0

    def program(self):
        """(helpers, statements): each helper is a function of two values that may meet other lanes. Lanes leave the
        kernel only behind the last barrier."""
        self.helpers = []
        for number in range(self.draw.randrange(3)):
            self.helpers.append((f"helper{number}", self._block(2, loop=False, returns=True, calls=False)))
        body = []
        for _ in range(self.draw.randrange(2, 5)):
            body += self._segment()
            if self.draw.random() < 0.3:
                rounds = [*self._segment(), self._exchange()]
                body.append(("rounds", self._new(), self.draw.randrange(2, 4), rounds))
        for slot in range(TALLIES):
            body.append(("count", self.draw.choice(VARIABLES), slot))
        return self.helpers, body + self._block(0, loop=False, returns=False, calls=True, leaves=True)

    def _segment(self):
        """Statements at which all lanes come together again."""
        body = self._block(0, loop=False, returns=False, calls=True, tallies=True)
        if self.draw.random() < 0.5:
            body.append(self._exchange())
        if self.draw.random() < 0.3:
            kind = self.draw.choice(("xor", "down", "up"))
            body.append(
                ("shuffle", kind, self.draw.choice(VARIABLES), self.draw.choice(VARIABLES), 1 << self.draw.randrange(5))
            )
        return body

    def _exchange(self):
        return ("exchange", self.draw.choice(VARIABLES), self.draw.randrange(1, THREADS))

    def _block(self, depth, **where):
        return [self._statement(depth, **where) for _ in range(self.draw.randrange(1, 4))]

    def _statement(self, depth, **where):
        kinds = ["set"] * 2 + ["meet"] * 4
        if depth < 4:
            kinds += ["if"] * 3 + ["for"] * 2 + ["while", "do", "switch", "switch", "waterfall", "forever", "stride"]
            kinds += ["choose"]
        if where["loop"]:
            kinds += ["continue"] * 2
        if where["loop"] is True:
            kinds += ["break"] * 2
        if where.get("tallies"):
            kinds += ["tally"]
        if where.get("leaves"):
            kinds += ["leave"]
        if where["returns"]:
            kinds += ["return"]
        if where["calls"] and self.helpers:
            kinds += ["call"]
        return getattr(self, "_" + self.draw.choice(kinds))(depth + 1, **where)

    def _number(self):
        """(number, operands): an expression of variables without other lanes."""
        kind = self.draw.choice(("variable", "variable", "constant", "lane", "+", "*", "^", "&", ">>"))
        if kind == "variable":
            return ("variable", self.draw.choice(VARIABLES))
        if kind == "constant":
            return ("constant", self.draw.randrange(16))
        if kind == "lane":
            return ("lane",)
        if kind == ">>":
            return (">>", self._leaf(), ("constant", self.draw.randrange(1, 6)))
        return (kind, self._leaf(), self._leaf())

    def _leaf(self):
        return self.draw.choice(
            (("variable", self.draw.choice(VARIABLES)), ("lane",), ("constant", self.draw.randrange(8)))
        )

    def _condition(self):
        kind = self.draw.choice(("bits", "less", "modulo"))
        return (kind, self._number(), self.draw.randrange(1, 4), self.draw.randrange(3))

    def _meeting(self):
        """A function of the lanes that are there."""
        name = self.draw.choice(
            ("simd_sum", "simd_max", "simd_min", "simd_xor", "simd_or", "simd_and", "simd_prefix_exclusive_sum")
            + ("simd_prefix_inclusive_sum", "simd_broadcast_first", "quad_sum", "quad_max", "ballot", "active", "first")
            + ("all", "any")
        )
        if name in ("ballot", "all", "any"):
            return (name, self._condition())
        return (name,) if name in ("active", "first") else (name, self._number())

    def _set(self, depth, **where):
        return ("set", self.draw.choice(VARIABLES), self._number())

    def _meet(self, depth, **where):
        return ("meet", self.draw.choice(VARIABLES), self._meeting())

    def _call(self, depth, **where):
        return ("call", self.draw.choice(VARIABLES), self.draw.randrange(len(self.helpers)), self._leaf(), self._leaf())

    def _if(self, depth, **where):
        condition = self._condition()
        if self.draw.random() < 0.3:
            condition = (self.draw.choice(("and any", "or any")), condition, self._condition())
        other = self._block(depth, **where) if self.draw.random() < 0.5 else []
        return ("if", condition, self._block(depth, **where), other)

    def _new(self):
        self.count += 1
        return f"k{self.count}"

    def _for(self, depth, **where):
        return ("for", self._new(), self._number(), self._inside(depth, where))

    def _while(self, depth, **where):
        return ("while", self._new(), self._condition(), self._inside(depth, where))

    def _do(self, depth, **where):
        return ("do", self._new(), self._condition(), self._inside(depth, where))

    def _forever(self, depth, **where):
        return ("forever", self._new(), self._condition(), self._inside(depth, where))

    def _waterfall(self, depth, **where):
        """Lanes with the first lane's key leave together."""
        return ("waterfall", self._new(), self.draw.choice(VARIABLES), self._meet(depth), self._inside(depth, where))

    def _switch(self, depth, **where):
        """Each case says whether it falls through to the next. A break would leave the switch, a continue the turn."""
        inside = {**where, "loop": "continue" if where["loop"] else False}
        cases = [(self._block(depth, **inside), self.draw.random() < 0.4) for _ in range(self.draw.randrange(2, 5))]
        return ("switch", self._number(), cases)

    def _stride(self, depth, **where):
        """A loop whose lanes begin and step differently."""
        return ("stride", self._new(), self._leaf(), self._leaf(), self._inside(depth, where))

    def _choose(self, depth, **where):
        """`first += condition ? (second += met) : (third ^= number)`."""
        names = self.draw.sample(VARIABLES, 3)
        return ("choose", self._condition(), names, self._meeting(), self._number())

    def _tally(self, depth, **where):
        return ("tally", self.draw.randrange(TALLIES), self._leaf())

    def _leave(self, depth, **where):
        return ("if", self._condition(), [("leave", self._leaf())], [])

    def _inside(self, depth, where):
        return self._block(depth, **{**where, "loop": True})

    def _continue(self, depth, **where):
        return ("if", self._condition(), [("continue",)], [])

    def _break(self, depth, **where):
        return ("if", self._condition(), [("break",)], [])

    def _return(self, depth, **where):
        return ("if", self._condition(), [("return", self._leaf())], [])


# Metal

# At an end of the simdgroup, a lane gets its own value: Metal leaves that of the plain ones open.
SHUFFLES = {"xor": "simd_shuffle_xor", "down": "simd_shuffle_rotate_down", "up": "simd_shuffle_rotate_up"}


def text(name, program):
    """The kernel `name`, with its helpers."""
    helpers, body = program
    parts = []
    for helper, statements in helpers:
        parts.append(f"uint {name}_{helper}(uint a, uint b, uint lane) {{\n    uint c = a + b;\n")
        parts.append(_texts(name, helpers, statements, 1) + "    return c;\n}\n")
    parts.append(KERNEL.format(name=name, threads=THREADS, tallies=TALLIES) + _texts(name, helpers, body, 1))
    return "".join(parts) + "    y[i] = a + 3 * b + 7 * c;\n}\n"


def _number_text(node):
    kind, *rest = node
    if kind in ("variable", "constant"):
        return f"{rest[0]}{'u' if kind == 'constant' else ''}"
    return "lane" if kind == "lane" else f"({_number_text(rest[0])} {kind} {_number_text(rest[1])})"


def _condition_text(node):
    kind, first, *rest = node
    if kind in ("and any", "or any"):
        sign = {"and any": "&&", "or any": "||"}[kind]
        return f"{_condition_text(first)} {sign} simd_any({_condition_text(rest[0])})"
    value = _number_text(first)
    return {
        "bits": f"({value} & {rest[0]}u) == {rest[1]}u",
        "less": f"({value} & 15u) < {4 * rest[0]}u",
        "modulo": f"{value} % {rest[0] + 1}u == {rest[1]}u",
    }[kind]


def _meeting_text(node):
    kind, *rest = node
    if kind in ("ballot", "active"):
        vote = f"simd_ballot({_condition_text(rest[0])})" if rest else "simd_active_threads_mask()"
        return f"uint(ulong(simd_vote::vote_t({vote})))"
    if kind in ("all", "any"):
        return f"uint(simd_{kind}({_condition_text(rest[0])}))"
    return "uint(simd_is_first())" if kind == "first" else f"{kind}({_number_text(rest[0])})"


def _texts(name, helpers, statements, indent):
    return "".join(_statement_text(name, helpers, each, indent) for each in statements)


def _statement_text(name, helpers, node, indent):
    space, kind, rest = "    " * indent, node[0], node[1:]

    def inside(statements):
        return _texts(name, helpers, statements, indent + 1)

    if kind == "set":
        return f"{space}{rest[0]} = {_number_text(rest[1])};\n"
    if kind == "meet":
        return f"{space}{rest[0]} += {_meeting_text(rest[1])};\n"
    if kind == "call":
        called, first, second = helpers[rest[1]][0], _number_text(rest[2]), _number_text(rest[3])
        return f"{space}{rest[0]} += {name}_{called}({first}, {second}, lane);\n"
    if kind == "if":
        other = f"{space}}} else {{\n{inside(rest[2])}" if rest[2] else ""
        return f"{space}if ({_condition_text(rest[0])}) {{\n{inside(rest[1])}{other}{space}}}\n"
    if kind == "for":
        k, bound = rest[0], f"({_number_text(rest[1])} & 3u) + 1"
        return f"{space}for (uint {k} = 0; {k} < {bound}; {k}++) {{\n{inside(rest[2])}{space}}}\n"
    if kind == "while":
        k, condition = rest[0], _condition_text(rest[1])
        return f"{space}uint {k} = 0;\n{space}while ({k}++ < 4 && {condition}) {{\n{inside(rest[2])}{space}}}\n"
    if kind == "do":
        k, condition = rest[0], _condition_text(rest[1])
        return f"{space}uint {k} = 0;\n{space}do {{\n{inside(rest[2])}{space}}} while (++{k} < 4 && {condition});\n"
    if kind == "forever":
        k, condition = rest[0], _condition_text(rest[1])
        stop = f"{space}    if ({k} == 4 || {condition}) break;\n"
        return f"{space}for (uint {k} = 0;; {k}++) {{\n{stop}{inside(rest[2])}{space}}}\n"
    if kind == "waterfall":
        k, variable = rest[0], rest[1]
        head = f"{space}bool {k} = false; uint {k}_key = {variable} & 3u;\n{space}while (!{k}) {{\n"
        head += f"{space}    if (simd_broadcast_first({k}_key) == {k}_key) {{\n{space}        {k} = true;\n"
        meet = _texts(name, helpers, [rest[2]], indent + 2)
        return f"{head}{meet}{space}    }}\n{inside(rest[3])}{space}}}\n"
    if kind == "switch":
        labels = [f"case {n}" for n in range(len(rest[1]) - 1)] + ["default"]
        ends = ["" if falls else f"{space}    break;\n" for _, falls in rest[1]]
        bodies = [f"{{\n{inside(each)}{end}{space}}}\n" for (each, _), end in zip(rest[1], ends)]
        cases = "".join(f"{space}{label}: {body}" for label, body in zip(labels, bodies))
        return f"{space}switch ({_number_text(rest[0])} & 3u) {{\n{cases}{space}}}\n"
    if kind == "stride":
        k, start, step = rest[0], _number_text(rest[1]), _number_text(rest[2])
        head = f"for (uint {k} = {start} & 3u; {k} < 5; {k} += 1 + ({step} & 1u))"
        return f"{space}{head} {{\n{inside(rest[3])}{space}}}\n"
    if kind == "choose":
        first, second, third = rest[1]
        chosen = f"({second} += {_meeting_text(rest[2])}) : ({third} ^= {_number_text(rest[3])})"
        return f"{space}{first} += {_condition_text(rest[0])} ? {chosen};\n"
    if kind == "tally":
        add = f"atomic_fetch_add_explicit(&tally[{rest[0]}], {_number_text(rest[1])}, memory_order_relaxed)"
        return f"{space}{add};\n"
    if kind == "count":
        barrier = "threadgroup_barrier(mem_flags::mem_threadgroup);"
        return f"{space}{barrier}\n{space}{rest[0]} += atomic_load_explicit(&tally[{rest[1]}], memory_order_relaxed);\n"
    if kind == "shuffle":
        return f"{space}{rest[1]} += {SHUFFLES[rest[0]]}({rest[2]}, ushort({rest[3]}));\n"
    if kind == "rounds":
        return f"{space}for (uint {rest[0]} = 0; {rest[0]} < {rest[1]}; {rest[0]}++) {{\n{inside(rest[2])}{space}}}\n"
    if kind == "leave":
        return f"{space}{{ y[i] = {_number_text(rest[0])}; return; }}\n"
    if kind == "exchange":
        barrier = "threadgroup_barrier(mem_flags::mem_threadgroup);"
        read = f"{rest[0]} += shared[(i + {rest[1]}u) % {THREADS}u];"
        return f"{space}shared[i] = {rest[0]};\n{space}{barrier}\n{space}{read}\n{space}{barrier}\n"
    if kind == "return":
        return f"{space}return {_number_text(rest[0])};\n"
    return f"{space}{kind};\n"


# The model


class Lockstep:
    """One simdgroup: variables are arrays of lanes, a mask says which of them are there."""

    def __init__(self, helpers, variables, tally):
        self.helpers, self.lanes, self.tally = helpers, variables, tally
        self.there, self.given = np.ones(WIDTH, bool), np.zeros(WIDTH, np.uint32)  # not left; what those who left gave
        self.lane = np.arange(WIDTH, dtype=np.uint32)

    def run(self, statements, mask):
        """Runs statements with the lanes of `mask`; returns those that come to their end."""
        for statement in statements:
            if not mask.any():
                break
            mask = getattr(self, "_" + statement[0])(mask, *statement[1:])
        return mask

    def _value(self, node):
        kind, *rest = node
        if kind == "variable":
            return self.lanes[rest[0]]
        if kind == "constant":
            return np.full(WIDTH, rest[0], np.uint32)
        if kind == "lane":
            return self.lane
        first, second = map(self._value, rest)
        return {"+": np.add, "*": np.multiply, "^": np.bitwise_xor, "&": np.bitwise_and, ">>": np.right_shift}[kind](
            first, second
        )

    def _holds(self, node, mask):
        kind, first, *rest = node
        if kind == "and any":
            holds = self._holds(first, mask)
            return holds & bool((self._holds(rest[0], mask & holds) & mask & holds).any())
        if kind == "or any":
            holds = self._holds(first, mask)
            others = mask & ~holds
            return holds | bool((self._holds(rest[0], others) & others).any())
        value = self._value(first)
        if kind == "bits":
            return (value & rest[0]) == rest[1]
        return (value & 15) < 4 * rest[0] if kind == "less" else value % (rest[0] + 1) == rest[1]

    def _store(self, name, values, mask):
        self.lanes[name] = np.where(mask, values, self.lanes[name]).astype(np.uint32)

    def _set(self, mask, name, node):
        self._store(name, self._value(node), mask)
        return mask

    def _meet(self, mask, name, node):
        self._store(name, self.lanes[name] + self._met(node, mask), mask)
        return mask

    def _met(self, node, mask):
        kind, *rest = node
        if kind in ("ballot", "active", "all", "any"):
            holds = self._holds(rest[0], mask) & mask if rest else mask
            bits = sum(1 << lane for lane in range(WIDTH) if holds[lane])
            known = {"all": int((holds == mask).all()), "any": int(holds.any())}
            return np.full(WIDTH, known.get(kind, bits), np.uint32)
        if kind == "first":
            return (self.lane == np.flatnonzero(mask)[0]).astype(np.uint32)
        values, result = self._value(rest[0]), np.zeros(WIDTH, np.uint32)
        for lane in np.flatnonzero(mask):
            there = mask.copy()
            if kind.startswith("quad_"):
                there &= self.lane // 4 == lane // 4
            if "prefix" in kind:
                there &= self.lane < lane if "exclusive" in kind else self.lane <= lane
            chosen = values[there]
            if "sum" in kind:
                result[lane] = np.sum(chosen, dtype=np.uint32)
            elif kind == "simd_broadcast_first":
                result[lane] = chosen[0]
            else:
                name = kind.split("_")[1]
                folds = {"max": np.maximum, "min": np.minimum, "xor": np.bitwise_xor}
                result[lane] = {**folds, "or": np.bitwise_or, "and": np.bitwise_and}[name].reduce(chosen)
        return result

    def _call(self, mask, name, number, first, second):
        a, b = self._value(first), self._value(second)
        inner = Lockstep(self.helpers, {"a": a.copy(), "b": b.copy(), "c": a + b}, self.tally)
        inner.result = np.zeros(WIDTH, np.uint32)
        ended = inner.run(self.helpers[number][1], mask.copy())
        result = np.where(ended, inner.lanes["c"], inner.result)
        self._store(name, self.lanes[name] + result, mask)
        return mask

    def _return(self, mask, node):
        self.result = np.where(mask, self._value(node), self.result)
        return np.zeros(WIDTH, bool)

    def _if(self, mask, condition, body, other):
        holds = self._holds(condition, mask)
        return self.run(body, mask & holds) | self.run(other, mask & ~holds)

    def _switch(self, mask, node, cases):
        number = np.minimum(self._value(node) & 3, len(cases) - 1)
        ended, fallen = np.zeros(WIDTH, bool), np.zeros(WIDTH, bool)
        for n, (body, falls) in enumerate(cases):
            done = self.run(body, mask & (number == n) | fallen)
            fallen = done if falls else np.zeros(WIDTH, bool)
            ended |= np.zeros(WIDTH, bool) if falls else done
        return ended | fallen

    def _choose(self, mask, condition, names, meeting, node):
        first, second, third = names
        holds = self._holds(condition, mask)
        chosen, other = mask & holds, mask & ~holds
        if chosen.any():
            self._store(second, self.lanes[second] + self._met(meeting, chosen), chosen)
        self._store(third, self.lanes[third] ^ self._value(node), other)
        self._store(first, self.lanes[first] + np.where(holds, self.lanes[second], self.lanes[third]), mask)
        return mask

    def _tally(self, mask, slot, node):
        self.tally[slot] += np.sum(self._value(node)[mask], dtype=np.uint32)
        return mask

    def _leave(self, mask, node):
        self.given = np.where(mask, self._value(node), self.given)
        self.there &= ~mask
        return np.zeros(WIDTH, bool)

    def _shuffle(self, mask, kind, name, value, by):
        lane = {"xor": self.lane ^ by, "down": (self.lane + by) % WIDTH, "up": (self.lane - by) % WIDTH}[kind]
        self._store(name, self.lanes[name] + self.lanes[value][lane], mask)
        return mask

    def _continue(self, mask):
        self.waiting[-1][0][:] |= mask
        return np.zeros(WIDTH, bool)

    def _break(self, mask):
        self.waiting[-1][1][:] |= mask
        return np.zeros(WIDTH, bool)

    waiting = None

    def _turn(self, body, mask):
        """One turn: the lanes that go on to the next, and those that left the loop."""
        if self.waiting is None:
            self.waiting = []
        self.waiting.append((np.zeros(WIDTH, bool), np.zeros(WIDTH, bool)))
        ended = self.run(body, mask)
        continued, left = self.waiting.pop()
        return ended | continued, left

    def _for(self, mask, k, bound, body):
        count, left = 0, np.zeros(WIDTH, bool)
        while True:
            go = mask & (count < (self._value(bound) & 3) + 1)
            left |= mask & ~go
            if not go.any():
                return left
            mask, out = self._turn(body, go)
            left |= out
            count += 1

    def _stride(self, mask, k, start, step, body):
        at, left = self._value(start) & 3, np.zeros(WIDTH, bool)
        while True:
            go = mask & (at < 5)
            left |= mask & ~go
            if not go.any():
                return left
            mask, out = self._turn(body, go)
            left |= out
            at = at + 1 + (self._value(step) & 1)

    def _while(self, mask, k, condition, body):
        count, left = 0, np.zeros(WIDTH, bool)
        while True:
            go = mask & self._holds(condition, mask) if count < 4 else np.zeros(WIDTH, bool)
            left |= mask & ~go
            if not go.any():
                return left
            mask, out = self._turn(body, go)
            left |= out
            count += 1

    def _do(self, mask, k, condition, body):
        count, left = 0, np.zeros(WIDTH, bool)
        while True:
            mask, out = self._turn(body, mask)
            left |= out
            count += 1
            go = mask & self._holds(condition, mask) if count < 4 else np.zeros(WIDTH, bool)
            left |= mask & ~go
            mask = go
            if not mask.any():
                return left

    def _forever(self, mask, k, condition, body):
        count, left = 0, np.zeros(WIDTH, bool)
        while True:
            stop = mask & (self._holds(condition, mask) if count < 4 else np.ones(WIDTH, bool))
            left |= stop
            if not (mask & ~stop).any():
                return left
            mask, out = self._turn(body, mask & ~stop)
            left |= out
            count += 1

    def _waterfall(self, mask, k, variable, meet, body):
        key, left, done = self.lanes[variable] & 3, np.zeros(WIDTH, bool), np.zeros(WIDTH, bool)
        while True:
            go = mask & ~done
            left |= mask & done
            if not go.any():
                return left
            same = go & (key == key[np.flatnonzero(go)[0]])
            done = done | same
            if same.any():
                self.run([meet], same)
            mask, out = self._turn(body, go)
            left |= out


def expected(program, x):
    """What y holds after the kernel ran with THREADS threads on x."""
    helpers, body = program
    groups, tally = [], np.zeros(TALLIES, np.uint32)
    for start in range(0, THREADS, WIDTH):
        i, lane = np.arange(start, start + WIDTH, dtype=np.uint32), np.arange(WIDTH, dtype=np.uint32)
        values = x[start : start + WIDTH]
        groups.append(Lockstep(helpers, {"a": values.copy(), "b": i, "c": values ^ lane}, tally))
    with np.errstate(over="ignore"):
        _run_together(groups, body)
        results = [g.lanes["a"] + np.uint32(3) * g.lanes["b"] + np.uint32(7) * g.lanes["c"] for g in groups]
        return np.concatenate([np.where(g.there, result, g.given) for g, result in zip(groups, results)])


def _run_together(groups, body):
    """Runs what all simdgroups come to, statement by statement."""
    for kind, *rest in body:
        if kind == "rounds":
            for _ in range(rest[1]):
                _run_together(groups, rest[2])
        elif kind == "exchange":
            name, step = rest
            moved = np.roll(np.concatenate([group.lanes[name] for group in groups]), -step)
            for number, group in enumerate(groups):
                group.lanes[name] = group.lanes[name] + moved[number * WIDTH : (number + 1) * WIDTH]
        elif kind == "count":
            for group in groups:
                group.lanes[rest[0]] = group.lanes[rest[0]] + group.tally[rest[1]]
        else:
            for group in groups:
                group.run([(kind, *rest)], group.there.copy())
