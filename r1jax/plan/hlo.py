"""What the compiler's final text of a program says: its collectives, its copies and the bytes that it moves.

The text is what libtpu dumps as *after_codegen.txt. Loops carry no trip count there: the bound stands in a loop's condition,
the step in its body.
"""
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute",
               "collective-broadcast", "send")
BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4,
         "u32": 4, "f64": 8, "s64": 8, "u64": 8, "f8e4m3fn": 1, "f8e5m2": 1, "f8e4m3b11fnuz": 1}
ARRAY = re.compile(rf"\b({'|'.join(sorted(BYTES, key=len, reverse=True))})\[([\d,]*)\](\{{[^}}]*\}})?")
CALLED = re.compile(r"\b(?:calls|to_apply|called_computations|true_computation|false_computation)=\{?%?([\w.\-]+)")
RAW = re.compile(rf"^  (?:ROOT )?%[\w.\-]+ = .*? ({'|'.join(COLLECTIVES)})(?:-start)?\((?=[%)])", re.M)
# Operations that move nothing by themselves.
FREE = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant", "while", "conditional", "call", "after-all",
        "copy-done", "partition-id", "replica-id", "opt-barrier", "async-start", "async-done", "async-update"}


class ParseError(ValueError):
  """The text is not as this reader expects it: what it would count cannot be believed."""


@dataclass(frozen=True)
class Array:
  """An array in the text. hbm: it lies in the device's main memory, not in one of its faster ones."""

  dtype: str
  shape: tuple[int, ...]
  hbm: bool

  @property
  def bytes(self) -> float:
    return BYTES[self.dtype] * math.prod(self.shape)

  def __str__(self):
    return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Instruction:
  """name = type opcode(operands), attributes."""

  name: str
  results: tuple[Array, ...]
  opcode: str
  operands: tuple[str, ...]
  attributes: str

  @property
  def where(self) -> str:
    """The place in the program that it comes from, as jax names it."""
    found = re.search(r'op_name="([^"]*)"', self.attributes)
    return found.group(1) if found else ""

  @property
  def bytes(self) -> float:
    return sum(x.bytes for x in self.results)

  @property
  def called(self) -> list[str]:
    """The computations that it runs, loops apart."""
    branches = re.search(r"branch_computations=\{([^}]*)\}", self.attributes)
    return CALLED.findall(self.attributes) + (re.findall(r"[\w.\-]+", branches.group(1)) if branches else [])


@dataclass(frozen=True)
class Collective:
  """times: how often it runs in one call of the program; bytes: of the whole array on one device, each time. loop: inside
  one. gathers: it brings together what is split, in whatever form. elements, shape: of its largest array."""

  kind: str
  bytes: float
  elements: int
  times: int
  loop: bool
  gathers: bool
  shape: str
  where: str


@dataclass(frozen=True)
class Place:
  """How a computation is reached: how often, and inside which loops."""

  times: int = 0
  loops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Module:
  """A program's computations. steps: iterations of a loop whose end the data decide."""

  computations: dict[str, list[Instruction]] = field(repr=False)
  entry: str
  steps: int = 1

  @cached_property
  def places(self) -> dict[str, Place]:
    """computation -> how often it runs; of several ways to it, the sum."""
    found: dict[str, Place] = defaultdict(Place)

    def walk(name: str, times: int, loops: tuple[str, ...]) -> None:
      if name not in self.computations:
        return
      found[name] = Place(found[name].times + times, max(found[name].loops, loops, key=len))
      for one in self.computations[name]:
        if one.opcode == "while":
          condition, body = (re.search(rf"\b{part}=%?([\w.\-]+)", one.attributes).group(1) for part in ("condition", "body"))
          walk(body, times * (self.trips(condition, body) or self.steps), (*loops, body))
        elif one.opcode not in ("all-reduce", "reduce-scatter", "reduce"):
          for called in one.called:
            walk(called, times, loops)

    walk(self.entry, 1, ())
    return dict(found)

  def trips(self, condition: str, body: str) -> int | None:
    """Iterations of a loop that counts from 0; None where something else ends it."""
    tests = [one for one in self._everything(condition) if one.opcode == "compare" and "direction=LT" in one.attributes]
    constants = self._constants(condition)
    counter = self._indices(condition)
    for test in tests:
      bounds = [constants[x] for x in test.operands if x in constants]
      indices = [counter[x] for x in test.operands if x in counter]
      if bounds:
        return -(-bounds[0] // (self._step(body, indices[0]) if indices else 1))
    return None

  def _everything(self, name: str) -> Iterator[Instruction]:
    """The instructions of a computation and of what it calls."""
    for one in self.computations.get(name, ()):
      yield one
      for called in one.called:
        yield from self._everything(called)

  def _constants(self, name: str) -> dict[str, int]:
    """The integers of a computation, and by the parameters that they are given to, those of what it calls."""
    found = {}
    for one in self.computations.get(name, ()):
      number = re.match(r"(-?\d+)\)", one.attributes) if one.opcode == "constant" else None
      if number:
        found[one.name] = int(number.group(1))
    for one in self.computations.get(name, ()):
      for called in one.called:
        parameters = self._parameters(called)
        found |= self._constants(called) | {parameters[i]: found[x] for i, x in enumerate(one.operands) if x in found}
    return found

  def _indices(self, name: str) -> dict[str, int]:
    """The elements of a loop's carry that a computation takes out: name -> index."""
    found = {one.name: int(re.search(r"index=(\d+)", one.attributes).group(1))
             for one in self.computations.get(name, ()) if one.opcode == "get-tuple-element"}
    for one in self.computations.get(name, ()):
      for called in one.called:
        parameters = self._parameters(called)
        found |= {parameters[i]: found[x] for i, x in enumerate(one.operands) if x in found}
    return found

  def _parameters(self, name: str) -> dict[int, str]:
    return {int(re.match(r"(\d+)", one.attributes).group(1)): one.name
            for one in self.computations.get(name, ()) if one.opcode == "parameter"}

  def _step(self, body: str, index: int) -> int:
    """What an element of the carry grows by in an iteration; 1 where it cannot be told."""
    ones = {one.name: one for one in self.computations[body]}
    constants = self._constants(body)
    root = next((one for one in reversed(self.computations[body]) if one.opcode == "tuple"), None)
    at, total = ones.get(root.operands[index]) if root and index < len(root.operands) else None, 0
    while at is not None and at.opcode in ("add", "copy", "bitcast"):
      total += sum(constants.get(x, 0) for x in at.operands) if at.opcode == "add" else 0
      at = next((ones[x] for x in at.operands if x not in constants and x in ones), None)
    return total if total > 0 else 1

  def collectives(self) -> list[Collective]:
    """Every collective that runs, the largest traffic first.

    One that is spread over several fusions, so that it runs beside their products, stands in each of them: it counts once.
    """
    found, spread = [], {}
    for name, place in self.places.items():
      for one in self.computations[name]:
        kind = one.opcode.removesuffix("-start")
        if kind not in COLLECTIVES:
          continue
        made = self._collective(one, kind, name, place)
        channel = re.search(r"channel_id=(\d+)", one.attributes)
        if "async_collective_fusion_config" in one.attributes and channel:
          before = spread.get(channel.group(1))
          if before is None or made.times < before.times:
            spread[channel.group(1)] = made
        else:
          found.append(made)
    return sorted([*found, *spread.values()], key=lambda c: -c.bytes * c.times)

  def _collective(self, one: Instruction, kind: str, computation: str, place: Place) -> Collective:
    # What a start returns holds its operands too; what is scattered was as large as the operands.
    size = max((x.bytes for x in one.results), default=0) if one.opcode.endswith("-start") else one.bytes
    if kind == "reduce-scatter":
      size = max(size, sum(x.bytes for x in self.computations[computation] if x.name in one.operands))
    if computation.startswith("all-reduce-scatter"):
      kind = "reduce-scatter"
    gathers = kind == "all-gather" or (kind == "all-reduce" and any(
      self._updates(computation, x) for x in one.operands)) or (kind == "collective-permute" and len(place.loops) > 0)
    largest = max(one.results, key=lambda x: x.bytes, default=Array("pred", (), True))
    return Collective(kind, size, math.prod(largest.shape), place.times, bool(place.loops), gathers, str(largest), one.where)

  def _updates(self, computation: str, name: str) -> bool:
    """Whether a value is a part written into a larger array: an all-gather in another form."""
    one = next((x for x in self.computations[computation] if x.name == name), None)
    return one is not None and (one.opcode == "dynamic-update-slice" or (one.opcode == "fusion" and any(
      x.opcode == "dynamic-update-slice" for x in self._everything(one.called[0]))))

  def arrays(self, least: float) -> list[tuple[Array, Instruction]]:
    """Arrays of at least so many elements that are written to memory, with the instruction that makes each."""
    return [(array, one) for name in self.places if not self._is_fused(name) for one in self.computations[name]
            if one.opcode not in FREE for array in one.results if math.prod(array.shape) >= least]

  def copies(self, smallest: float) -> list[tuple[Instruction, Place]]:
    """Results of at least so many bytes in main memory that are another array, or a part of one, moved and nothing else."""
    movers = {"copy", "copy-start", "dynamic-slice", "slice", "transpose", "concatenate", "pad", "gather"}
    found = []
    for name, place in self.places.items():
      if self._is_fused(name):
        continue
      for one in self.computations[name]:
        inside = list(self._everything(one.called[0])) if one.opcode == "fusion" else [one]
        opcodes = {x.opcode for x in inside} - FREE - {"fusion"}
        made = one.results[:2] if one.opcode == "copy-start" else one.results  # (copy, what it is of, a flag)
        large = all(x.hbm for x in made) and any(x.bytes >= smallest for x in made)
        if large and opcodes and opcodes <= movers:
          found.append((one, place))
    return sorted(found, key=lambda x: -x[0].bytes * x[1].times)

  @cached_property
  def _fused(self) -> set[str]:
    return {called for ones in self.computations.values() for one in ones if one.opcode == "fusion" for called in one.called}

  def _is_fused(self, name: str) -> bool:
    return name in self._fused

  def traffic(self) -> dict[str, float]:
    """Bytes read from and written to main memory in one call: {"all": ..., "loops": of those inside loops}."""
    total = {"all": 0.0, "loops": 0.0}
    for name, place in self.places.items():
      if self._is_fused(name):
        continue
      types = {one.name: one for one in self.computations[name]}
      moved = place.times * sum(self._moved(one, types) for one in self.computations[name] if one.opcode not in FREE)
      total["all"] += moved
      total["loops"] += moved if place.loops else 0
    return total

  def _moved(self, one: Instruction, types: dict[str, Instruction]) -> float:
    """Bytes that an instruction reads and writes. Of an array that it takes a part of, or writes a part of, the part."""
    fused = self.computations.get(one.called[0], []) if one.opcode == "fusion" and one.called else None
    if fused is None:
      return _alone(one, types)
    parameters, total = self._parameters(one.called[0]), 0.0
    updates = [x for x in self._everything(one.called[0]) if x.opcode == "dynamic-update-slice"]
    shapes = {x.name: x for x in fused}
    for i, name in enumerate(one.operands):
      if name not in types:
        continue
      users = [x for x in fused if parameters.get(i) in x.operands]
      whole = sum(x.bytes for x in types[name].results if x.hbm)
      parts = [x for x in users if x.opcode in ("dynamic-slice", "slice", "gather") and x.operands[0] == parameters.get(i)]
      targets = [x for x in users if x.opcode == "dynamic-update-slice" and x.operands[0] == parameters.get(i)]
      if users and len(parts) + len(targets) == len(users):
        total += min(whole, sum(x.bytes for x in parts))
      else:
        total += whole
    written = sum(x.bytes for x in one.results if x.hbm)
    if updates and written:
      part = sum(shapes[x.operands[1]].bytes for x in updates if x.operands[1] in shapes)
      written = min(written, part) if part else written
    return total + written


def _alone(one: Instruction, types: dict[str, Instruction]) -> float:
  """Of an instruction that is in no fusion."""
  written = sum(x.bytes for x in (one.results[:1] if one.opcode == "copy-start" else one.results) if x.hbm)
  if one.opcode in ("dynamic-slice", "slice", "gather"):
    return 2 * written
  if one.opcode == "dynamic-update-slice":
    return 2 * sum(x.bytes for x in types[one.operands[1]].results) if one.operands[1] in types else 0.0
  return written + sum(x.bytes for name in one.operands if name in types for x in types[name].results if x.hbm)


def parse(text: str, steps: int = 1) -> Module:
  """A program's text. steps: iterations of a loop whose end the data decide.

  Raises:
    ParseError: no entry, or a collective of the text that was not read.
  """
  computations: dict[str, list[Instruction]] = {}
  current, entry = None, None
  for line in text.splitlines():
    if line and not line[0].isspace() and line.rstrip().endswith("{") and "(" in line and not line.startswith("HloModule"):
      name = line.split("(")[0].removeprefix("ENTRY").strip().lstrip("%").strip()
      current = computations[name] = []
      entry = name if line.startswith("ENTRY") else entry
    elif line == "}":  # not "}}": what a kernel carries along has lines of its own
      current = None
    elif current is not None and line.startswith("  ") and " = " in line:
      current.append(_instruction(line.strip()))
  if entry is None:
    raise ParseError("no entry computation")
  seen = len(RAW.findall(text))
  read = sum(one.opcode.removesuffix("-start") in COLLECTIVES for ones in computations.values() for one in ones)
  if seen != read:
    raise ParseError(f"{seen} collectives in the text, {read} read")
  return Module(computations, entry, steps)


def _instruction(line: str) -> Instruction:
  left, _, rest = line.partition(" = ")
  end = _closing(rest) + 1 if rest.startswith("(") else rest.find(" ")
  kind, rest = rest[:end], rest[end:].lstrip()
  opcode, _, tail = rest.partition("(")
  operands = tail[:_closing("(" + tail) - 1] if ")" in tail else ""
  return Instruction(left.removeprefix("ROOT ").lstrip("%"), tuple(_arrays(kind)), opcode,
                     tuple(re.findall(r"%([\w.\-]+)", operands)), tail)


def _closing(text: str) -> int:
  """Where the bracket closes that the text begins with."""
  depth = 0
  for i, letter in enumerate(text):
    depth += (letter == "(") - (letter == ")")
    if depth == 0:
      return i
  return len(text)


def _arrays(kind: str) -> Iterator[Array]:
  for dtype, shape, layout in ARRAY.findall(kind):
    yield Array(dtype, tuple(int(n) for n in shape.split(",") if n), "S(" not in layout)
