"""Asserts judged from another process than the one that holds the solution. Runs in sandboxes, like `inside`.

Two sandboxes joined by two pipes: the judge holds the tests, the solution holds the program. Only calls, their
arguments and their results cross, as plain data that the receiver builds itself. So the program never sees an expected
value, and whatever it does to its own interpreter (builtins, frames, `__eq__`, exit, atexit) reaches no comparison:
all it can do is to answer calls.

By value cross None, bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, range, builtin
types, Decimal, Fraction, deque, date, datetime without zone and timedelta; of a subclass, what it extends. Any other
object stays where it is, and the other side gets a stand-in that can be called, read, iterated and passed back, and
that is equal to nothing but itself. A list, dict, set, bytearray or deque that a call changed in place is changed in
the judge too, if the call returned None; otherwise a program could empty the list that it is to be compared with.
The judge takes from the solution the entry point and the names that only it can have: what the tests call and
neither they, nor the question's code, nor Python define.
"""

import os
import sys
from _ast import PyCF_ONLY_AST  # not from `ast`, which takes 4 ms to import

PASSED, FAILED, GONE, UNPARSABLE, BROKEN = b"passed", b"failed", b"gone", b"unparsable", b"broken"  # a judge's verdicts

_MESSAGE_BYTES = 16 << 20  # of one call or one result; ours
_BUILTINS = vars(__import__("builtins"))
_NOT_PYTHON = (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError)
_REBUILT = {  # type -> arguments that make an equal value
  "decimal.Decimal": lambda value: (str(value),),
  "fractions.Fraction": lambda value: (value.numerator, value.denominator),
  "collections.deque": lambda value: (list(value), value.maxlen),
  "datetime.date": lambda value: (value.year, value.month, value.day),
  "datetime.datetime": lambda value: (
    value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond),
  "datetime.timedelta": lambda value: (value.days, value.seconds, value.microseconds),
}


def run_solution(job: dict) -> None:
  """job: `source`, `prompt` (what a completion continues, or ""), `reader` and `writer` (descriptors). Answers calls."""
  channel = Channel(job["reader"], job["writer"])
  os.dup2(2, 1)
  module = type(sys)("solution")  # not __main__: what a response runs as a script is no part of its solution
  sys.modules["solution"] = module
  channel.owned.append(module)
  try:
    units = _units(job["prompt"], job["source"])
  except _NOT_PYTHON:
    return channel.send("unparsable")
  try:
    for unit in units:
      exec(unit, vars(module))
  except BaseException:  # SystemExit too: a solution that leaves has no function to call
    return channel.send("failed")
  channel.send("ready")
  while True:
    channel.serve(channel.receive())


def _units(prompt: str, source: str) -> list:
  """Code objects to run in turn: a program after the prompt's own imports and helpers, or the prompt completed."""
  program = _compiled(source)
  if program is None:
    return [_compile(prompt + source)]
  before = _compiled(prompt)
  return [before, program] if before else [program]


def _compile(text: str):
  return compile(text, "<program>", "exec", dont_inherit=True)


def _compiled(text: str):
  """None for what is no Python: a question in words."""
  try:
    return _compile(text)
  except _NOT_PYTHON:
    return None


def run_judge(job: dict) -> None:
  """job: `setup`, `test`, `entry_point` and `prompt` (each may be ""), `reader` and `writer`. Writes a verdict to fd 1."""
  verdicts = os.dup(1)
  os.dup2(2, 1)  # what the tests print is no verdict
  channel = Channel(job["reader"], job["writer"])
  try:
    verdict = _judge(job, channel)
  except Gone:
    verdict = GONE
  os.write(verdicts, GONE if channel.gone else verdict)


def _judge(job: dict, channel: "Channel") -> bytes:
  try:
    setup, test = _compile(job["setup"]), _compile(job["test"])
    names = _Names(job["setup"] + "\n" + job["test"])
  except _NOT_PYTHON:
    return BROKEN
  (state, *_) = channel.receive()
  if state != "ready":
    return UNPARSABLE if state == "unparsable" else FAILED
  entry = job["entry_point"]
  solution, namespace = Remote(channel, 0), {"__name__": "judge"}
  try:
    # Helpers of the question come from the question: the solution's own might be other ones.
    if entry and names.unknown - {entry} and (prompt := _compiled(job["prompt"])):
      exec(prompt, namespace)
    unknown = {name for name in names.unknown if name not in namespace}
    for name in [name for name in unknown if name in sys.stdlib_module_names and name not in names.called]:
      namespace[name] = __import__(name)
      unknown.remove(name)
    for name in ({entry} if entry else set()) | unknown or names.first_called:
      namespace[name] = getattr(solution, name)
    exec(setup, namespace)
    exec(test, namespace)
    if entry and callable(namespace.get("check")):
      namespace["check"](namespace[entry])
  except Exception:
    return FAILED
  return PASSED


class _Names:
  """Names in a text of tests: `unknown` to it and to Python; `called`; `first_called` in asserts, builtin or not."""

  def __init__(self, text: str):
    loaded, bound, self.called, self.first_called = set(), set(), set(), set()
    todo = [compile(text, "<tests>", "exec", PyCF_ONLY_AST, dont_inherit=True)]
    while todo:
      node = todo.pop()
      kind = type(node).__name__
      if kind == "Name":
        (loaded if type(node.ctx).__name__ == "Load" else bound).add(node.id)
      elif kind in ("FunctionDef", "ClassDef"):
        bound.add(node.name)
      elif kind == "arg":
        bound.add(node.arg)
      elif kind == "alias":
        bound.add(node.asname or node.name.partition(".")[0])
      elif kind == "ExceptHandler" and node.name:
        bound.add(node.name)
      elif kind == "Call" and type(node.func).__name__ == "Name":
        self.called.add(node.func.id)
      elif kind == "Assert":
        first = node.test
        while type(first).__name__ in ("Compare", "UnaryOp"):
          first = first.left if type(first).__name__ == "Compare" else first.operand
        if type(first).__name__ == "Call" and type(first.func).__name__ == "Name":
          self.first_called.add(first.func.id)
      for field in node._fields:
        value = getattr(node, field, None)
        todo.extend(item for item in (value if isinstance(value, list) else [value]) if hasattr(item, "_fields"))
    self.unknown = {name for name in loaded - bound if name not in _BUILTINS}


class Gone(BaseException):
  """The other process died or broke the protocol. No Exception, so that a test's `except` does not catch it."""


class Channel:
  """Messages to and from the other process, and the objects here that it knows by number."""

  def __init__(self, reader: int, writer: int):
    self.reader, self.writer = reader, writer
    self.owned: list = []
    self.gone = False

  def send(self, *message) -> None:
    """Raises what encode() raises, and then nothing was sent."""
    data = encode(message, self.owned)
    data = len(data).to_bytes(8, "big") + data
    try:
      while data:
        data = data[os.write(self.writer, data):]
    except OSError:
      self.gone = True
      raise Gone from None

  def receive(self) -> tuple:
    try:
      length = int.from_bytes(self._read(8), "big")
      if length > _MESSAGE_BYTES:
        raise ValueError("too long")
      message = decode(self._read(length), self)
      if type(message) is not tuple or not message:
        raise ValueError("no message")
      return message
    except Exception:  # whatever a hostile message does to the decoder
      self.gone = True
      raise Gone from None

  def _read(self, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
      chunk = os.read(self.reader, min(length - len(data), 1 << 16))
      if not chunk:
        raise EOFError
      data += chunk
    return bytes(data)

  def ask(self, *message):
    """What the other side answers to (kind, target, ...); raises what it raised. Serves its calls meanwhile."""
    self.send(*message)
    while (reply := self.receive())[0] == "call":
      # Only what a test handed over. A builtin type could build a class here whose __eq__ asks the solution.
      if not any(item is reply[1] for item in self.owned):
        self.gone = True
        raise Gone
      self.serve(reply)
    if len(reply) != 3 or reply[0] not in ("ok", "raised"):
      self.gone = True
      raise Gone
    kind, value, rest = reply
    if kind == "raised":
      raise _exception(value, rest)
    if message[0] == "call" and value is None:
      for place, new in rest:
        _overwrite(message[2][place], new)
    return value

  def serve(self, message: tuple) -> None:
    """Does what the other side asks for, and answers."""
    try:
      self.send("ok", *_perform(*message))
    except Gone:
      raise
    except BaseException as error:  # SystemExit, or a result that cannot be written down: a cycle, a broken subclass
      self.send("raised", [cls.__name__ for cls in type(error).__mro__], _text(error))


class Remote:
  """Stand-in for an object of the other process."""

  __slots__ = ("_channel", "_number")

  def __init__(self, channel: Channel, number: int):
    object.__setattr__(self, "_channel", channel)
    object.__setattr__(self, "_number", number)

  def __call__(self, *args, **kwargs):
    return self._channel.ask("call", self, args, kwargs)

  def __getattr__(self, name):
    if name.startswith("__"):
      raise AttributeError(name)
    return self._channel.ask("get", self, name)

  def __setattr__(self, name, value):
    self._channel.ask("set", self, name, value)

  def __getitem__(self, key):
    return self._channel.ask("item", self, key)

  def __len__(self):
    return self._channel.ask("len", self)

  def __iter__(self):
    iterator = self._channel.ask("iter", self)
    while True:
      try:
        item = self._channel.ask("next", iterator)
      except StopIteration:
        return
      yield item


class _Iterator:
  """Around an iterator, so that it crosses as a stand-in even where the iterator is plain data."""

  def __init__(self, iterable):
    self.iterator = iter(iterable)


def _perform(kind: str, target, *rest) -> tuple:
  """(result, (place, value) of each argument of a call that changed in place) of one request."""
  if kind == "call":
    args, kwargs = rest
    before = {i: encode(arg, []) for i, arg in enumerate(args) if hasattr(arg, "clear")}
    value = target(*args, **kwargs)
    return value, [(i, args[i]) for i, data in before.items() if encode(args[i], []) != data]
  if kind == "get":
    return getattr(target, *rest), ()
  if kind == "set":
    return setattr(target, *rest), ()
  if kind == "item":
    return target[rest[0]], ()
  if kind == "len":
    return len(target), ()
  if kind == "iter":
    return _Iterator(target), ()
  if kind == "next":
    return next(target.iterator), ()
  raise ValueError(kind)


def _overwrite(old, new) -> None:
  old.clear()
  if isinstance(old, dict | set):
    old.update(new)
  else:
    old.extend(new)


def _exception(names, text) -> Exception:
  """The builtin exception that is nearest to the one raised, by the names of its classes."""
  for name in names:
    cls = _BUILTINS.get(name)
    if isinstance(cls, type) and issubclass(cls, Exception):
      try:
        return cls(text)
      except TypeError:  # UnicodeDecodeError wants five arguments
        continue
  return RuntimeError(text)


def _text(error: BaseException) -> str:
  try:
    return str(error)[:1000]
  except BaseException:  # a hostile __str__
    return ""


# The wire. A tag of one byte and what belongs to it; numbers are text that ends with ";".


def encode(value, owned: list) -> bytes:
  """Plain data by value, other objects by their place in `owned`, to which they are added."""
  out: list[bytes] = []
  _encode(value, out, owned)
  return b"".join(out)


def _encode(value, out: list, owned: list) -> None:
  kind = type(value)
  if kind is Remote:
    out.append(b"h%d;" % object.__getattribute__(value, "_number"))
  elif value is None or value is True or value is False:
    out.append(b"N" if value is None else b"T" if value else b"F")
  elif isinstance(value, int):
    value = int(value)
    out.append((b"i%x;" if value >= 0 else b"i-%x;") % abs(value))  # hexadecimal takes linear time
  elif isinstance(value, str):
    data = str.encode(value, "utf-8", "surrogatepass")
    out.append(b"s%d;" % len(data) + data)
  elif isinstance(value, float):
    out.append(b"f" + float.__repr__(value).encode() + b";")
  elif isinstance(value, complex):
    out.append(b"c")
    _encode((value.real, value.imag), out, owned)
  elif isinstance(value, bytes | bytearray):
    out.append((b"b%d;" if isinstance(value, bytes) else b"a%d;") % len(value) + bytes(value))
  elif isinstance(value, dict):
    out.append(b"d%d;" % len(value))
    for key, item in dict.items(value):
      _encode(key, out, owned)
      _encode(item, out, owned)
  elif isinstance(value, list | tuple | set | frozenset):
    tag = next(tag for base, tag in _SEQUENCES.items() if isinstance(value, base))
    out.append(tag + b"%d;" % len(value))
    for item in value:
      _encode(item, out, owned)
  elif kind is range:
    out.append(b"r")
    _encode((value.start, value.stop, value.step), out, owned)
  elif isinstance(value, type) and _BUILTINS.get(value.__name__) is value:
    out.append(b"x")
    _encode(value.__name__, out, owned)
  elif (name := f"{kind.__module__}.{kind.__qualname__}") in _REBUILT and getattr(value, "tzinfo", None) is None:
    out.append(b"o")
    _encode((name, _REBUILT[name](value)), out, owned)
  else:
    owned.append(value)
    out.append(b"p%d;" % (len(owned) - 1))


_SEQUENCES = {list: b"l", tuple: b"t", set: b"e", frozenset: b"z"}


def decode(data: bytes, channel: Channel):
  """The value of encode(). Builds plain data, stand-ins and objects of this side, nothing else, whatever the bytes are."""
  value, end = _decode(data, 0, channel)
  if end != len(data):
    raise ValueError("more than one value")
  return value


def _decode(data: bytes, at: int, channel: Channel):
  tag, at = data[at:at + 1], at + 1
  if tag in _CONSTANTS:
    return _CONSTANTS[tag], at
  if tag in b"crxo" and tag:
    parts, at = _decode(data, at, channel)
    return _rebuild(tag, parts), at
  end = data.index(b";", at)
  text, at = data[at:end], end + 1
  if tag == b"i":
    return int(text, 16), at
  if tag == b"f":
    return float(text), at
  count = int(text)
  if tag in b"sba" and tag:
    if not 0 <= count <= len(data) - at:
      raise ValueError("cut short")
    part, at = data[at:at + count], at + count
    return part.decode("utf-8", "surrogatepass") if tag == b"s" else part if tag == b"b" else bytearray(part), at
  if tag == b"p":
    return Remote(channel, count), at
  if tag == b"h":
    return channel.owned[count], at
  if tag not in (b"d", b"l", b"t", b"e", b"z"):
    raise ValueError("unknown tag")
  items = []
  for _ in range(count * 2 if tag == b"d" else count):
    item, at = _decode(data, at, channel)
    items.append(item)
  if tag == b"d":
    return dict(zip(items[::2], items[1::2], strict=True)), at
  return items if tag == b"l" else {b"t": tuple, b"e": set, b"z": frozenset}[tag](items), at


_CONSTANTS = {b"N": None, b"T": True, b"F": False}


def _rebuild(tag: bytes, parts):
  if tag == b"c":
    return complex(*parts)
  if tag == b"r":
    return range(*parts)
  if tag == b"x":
    value = _BUILTINS[parts]
    if not isinstance(value, type):  # never a function: `eval` is one
      raise ValueError("no type")
    return value
  name, arguments = parts
  if name not in _REBUILT:
    raise ValueError("unknown type")
  module, _, kind = name.rpartition(".")
  return getattr(__import__(module), kind)(*arguments)
