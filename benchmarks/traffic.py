"""Bytes between a chip and its main memory, counted in the text of a compiled program.

The compiler's own count takes the body of a loop once, and what a TPU keeps in its fast memory
(``S(1)`` in the text) like all else. Here a loop counts as often as it runs, where the text says so
(a counter against a constant), and main memory alone. A loop whose length depends on data counts
once.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

INSTRUCTION = re.compile(r"^\s+(ROOT )?%(?P<name>\S+) = (?P<rest>.*)$")
BEGINNING = re.compile(r"^(ENTRY )?%(?P<name>\S+) \(.*\{\s*$")
ARRAY = re.compile(r"(?P<kind>[a-z]+(?P<bits>\d*)\w*)\[(?P<dims>[\d,]*)\](?P<layout>\{[^}]*\})?")
CALLED = re.compile(
    r"(calls|body|condition|to_apply|branch_computations|true_computation|false_computation)="
    r"(\{[^}]*\}|%[^\s,]+)"
)
# What moves nothing by itself; the second half of a transfer, whose first is counted.
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"),
    *("copy-done", "async-done", "slice-done", "all-reduce-done", "opt-barrier", "partition-id"),
}
PARTS = {"dynamic-slice", "slice", "gather"}  # which read no more than they return
COUNTER = {"parameter", "get-tuple-element", "constant", "compare", "fusion", "copy", "bitcast"}


class Instruction(NamedTuple):
    """A line of a computation."""

    name: str
    shape: str
    opcode: str
    operands: list[str]
    line: str

    @property
    def called(self) -> dict[str, list[str]]:
        """Computations that it calls, by what for."""
        found = CALLED.findall(self.line)
        return {kind: re.findall(r"%([^\s,}]+)", names) for kind, names in found}


def memory_traffic(text: str) -> tuple[float, int]:
    """Bytes read from and written to main memory, and how many loops counted once."""
    computations, entry = _parse(text)
    unknown: list[str] = []

    def of_computation(name: str) -> float:
        lines = computations[name]
        shapes = {line.name: line.shape for line in lines}
        return sum(of_line(line, shapes) for line in lines)

    def of_line(line: Instruction, shapes: Mapping[str, str]) -> float:
        if line.opcode in FREE:
            return 0
        if line.opcode == "while":
            trips = _trips(computations[line.called["condition"][0]])
            if trips is None:
                unknown.append(line.name)
            return (trips or 1) * of_computation(line.called["body"][0])
        if line.opcode in ("conditional", "call"):
            return max(of_computation(x) for names in line.called.values() for x in names)
        if line.opcode.endswith("-start"):  # (to, from, ...)
            return sum(_size(array[0]) for array in list(ARRAY.finditer(line.shape))[:2])
        written, given = _size(line.shape), [shapes.get(x, "") for x in line.operands]
        if line.opcode in PARTS:
            return written + min(_size(given[0]), _full_size(line.shape))
        if line.opcode == "dynamic-update-slice":
            return min(_size(given[0]), _full_size(given[1])) + _size(given[1])
        if line.opcode == "fusion":
            return _of_fusion(computations, line, given)
        return written + sum(map(_size, given))

    return of_computation(entry), len(unknown)


def _of_fusion(
    computations: Mapping[str, Sequence[Instruction]],
    line: Instruction,
    given: Sequence[str],
) -> float:
    """Its result, and its operands: of one that is only taken parts of, the parts."""
    inside = computations[line.called["calls"][0]]
    shapes, total = {x.name: x.shape for x in inside}, _size(line.shape)
    updates = {x.operands[0]: x.operands[1] for x in inside if x.opcode == "dynamic-update-slice"}
    for i, (parameter, operand) in enumerate(zip(_parameters(inside), given, strict=True)):
        users = [x for x in inside if parameter in x.operands]
        if parameter in updates and len(users) == 1:  # in place: nothing but the update moves
            total += 2 * min(_full_size(shapes[updates[parameter]]), _size(operand))
            total -= _size(line.shape)
        else:
            total += min(_taken(computations, line, i), _size(operand))
    return total


def _taken(
    computations: Mapping[str, Sequence[Instruction]], line: Instruction, number: int
) -> float:
    """How much a fusion takes of an operand: of one that only parts are taken of, those."""
    inside, total = computations[line.called["calls"][0]], 0.0
    parameter = _parameters(inside)[number]
    for user in inside:
        if parameter not in user.operands:
            continue
        if user.opcode in PARTS and user.operands[0] == parameter:
            total += _full_size(user.shape)
        elif user.opcode == "fusion":
            places = [i for i, x in enumerate(user.operands) if x == parameter]
            total += max(_taken(computations, user, i) for i in places)
        else:
            return float("inf")  # all of it
    return total


def _parameters(lines: Sequence[Instruction]) -> list[str]:
    """Names of a computation's parameters, in order."""
    found = [(x.line.split("parameter(")[1], x.name) for x in lines if x.opcode == "parameter"]
    return [name for _, name in sorted(found, key=lambda x: int(x[0].split(")")[0]))]


def _parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    computations: dict[str, list[Instruction]] = {}
    entry = name = ""
    for line in text.splitlines():
        if begins := BEGINNING.match(line):
            name = begins["name"]
            computations[name] = []
            entry = name if line.startswith("ENTRY") else entry
        elif (match := INSTRUCTION.match(line)) and name:
            computations[name].append(_instruction(match["name"], match["rest"]))
    return computations, entry


def _instruction(name: str, rest: str) -> Instruction:
    shape = _balanced(rest) if rest.startswith("(") else rest.split(" ", 1)[0]
    opcode, _, after = rest[len(shape) :].strip().partition("(")
    operands = re.findall(r"%([^\s,)]+)", _balanced("(" + after))
    return Instruction(name, shape, opcode, operands, rest)


def _balanced(text: str) -> str:
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[: i + 1]
    return text


def _trips(condition: Sequence[Instruction]) -> int | None:
    """How often a loop runs whose condition compares a counter from zero with a constant."""
    numbers = [re.search(r"constant\((\d+)\)", x.line) for x in condition if x.opcode == "constant"]
    if len(numbers) != 1 or numbers[0] is None or {x.opcode for x in condition} - COUNTER:
        return None
    return int(numbers[0][1])


def _bytes(array: re.Match[str]) -> int:
    bits = 0 if array["kind"] == "token" else int(array["bits"] or 8)  # a pred takes a byte
    count = 1
    for size in filter(None, array["dims"].split(",")):
        count *= int(size)
    return count * bits // 8


def _size(shape: str) -> int:
    """Bytes in main memory."""
    return sum(_bytes(x) for x in ARRAY.finditer(shape) if "S(" not in (x["layout"] or ""))


def _full_size(shape: str) -> int:
    return sum(map(_bytes, ARRAY.finditer(shape)))
