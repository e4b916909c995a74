"""Asserts judged from another process than the one that holds the solution. Runs in sandboxes, like `inside`.

Two sandboxes joined by two pipes: the judge holds the tests, the solution holds the program. The judge sends calls as JSON
and gets results as JSON, of which it builds plain data itself. So the program never sees an expected value, and whatever
it does to its own interpreter (builtins, frames, `__eq__`, exit, atexit) reaches no comparison: it can only answer calls.

JSON as it is carries None, bool, int, float, str and list; under a tag tuple, set, frozenset, dict, bytes, complex, range,
Decimal, Fraction, deque, dates and builtin types; of a subclass what it extends, of an iterator what it yields. Any other
result stays where it is, and the judge gets a `Handle`: it can be called, its attributes read and set, it can be passed
back (which is how tests build the trees that a solution's class is for), and it is equal to nothing. A list, dict, set or
deque that a call changed in place is changed in the judge too, if the call returned None; otherwise a program could empty
the list that it is to be compared with. Tests that hand over anything else, a function say, cannot be judged.
"""

import builtins
import json
import os
import sys

PASSED, FAILED, GONE, UNPARSABLE, BROKEN = b"passed", b"failed", b"gone", b"unparsable", b"broken"  # a judge's verdicts

_MESSAGE_BYTES = 16 << 20  # of one call or one result; ours
_NOT_PYTHON = (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError)
_SHORT = 1 << 63  # longer whole numbers are written in hexadecimal digits, which takes linear time
_ENDS_LOOPS = (StopIteration, StopAsyncIteration, GeneratorExit)  # a loop of the tests would take them for its end
_TAGGED = {  # type -> arguments that make an equal value
  "builtins.tuple": lambda value: [list(value)],
  "builtins.set": lambda value: [list(value)],
  "builtins.frozenset": lambda value: [list(value)],
  "builtins.dict": lambda value: [[[key, item] for key, item in value.items()]],
  "builtins.bytes": lambda value: [list(value)],
  "builtins.bytearray": lambda value: [list(value)],
  "builtins.complex": lambda value: [value.real, value.imag],
  "builtins.range": lambda value: [value.start, value.stop, value.step],
  "decimal.Decimal": lambda value: [str(value)],
  "fractions.Fraction": lambda value: [value.numerator, value.denominator],
  "collections.deque": lambda value: [list(value), value.maxlen],
  "datetime.date": lambda value: [value.year, value.month, value.day],
  "datetime.datetime": lambda value: [
    value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond],
  "datetime.timedelta": lambda value: [value.days, value.seconds, value.microseconds],
}


def run_solution(job: dict) -> None:
  """job: `source`, `prompt` (what a completion continues, or ""), `reader` and `writer` (descriptors). Answers calls."""
  reader, writer = job["reader"], job["writer"]
  os.dup2(2, 1)
  module = type(sys)("solution")  # not __main__: what a response runs as a script is no part of its solution
  module.__file__ = "/tmp/solution.py"
  sys.modules["solution"] = module
  try:
    units = _units(job["prompt"], job["source"])
  except _NOT_PYTHON:
    return _send(writer, ["unparsable"])
  try:
    for unit in units:
      exec(unit, vars(module))
  except BaseException:  # SystemExit too: a solution that leaves has no function to call
    return _send(writer, ["failed"])
  _send(writer, ["ready"])
  owned = [module]  # what the judge knows by number
  while True:
    request = _receive(reader)
    try:
      _send(writer, ["ok", *_perform(owned, *request)])
    except BaseException as error:  # SystemExit, or a result that cannot be written down: a cycle, a broken subclass
      _send(writer, ["raised", [cls.__name__ for cls in type(error).__mro__], _text(error)])


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


def _perform(owned: list, kind: str, number: int, *rest) -> tuple:
  """(result, [place, value] of each argument of a call that changed in place) of one request, as encoded."""
  target = owned[number]
  if kind == "get":
    return _encode(getattr(target, rest[0]), owned), []
  rest = [_decode(each, owned.__getitem__) for each in rest]
  if kind == "set":
    return setattr(target, *rest), []
  args, kwargs = rest
  before = {i: _encode(arg, []) for i, arg in enumerate(args) if hasattr(arg, "clear")}
  value = target(*args, **kwargs)
  changed = [[i, after] for i, old in before.items() if (after := _encode(args[i], [])) != old] if value is None else []
  return _encode(value, owned), changed


def _text(error: BaseException) -> str:
  try:
    return str(error)[:1000]
  except BaseException:  # a hostile __str__
    return ""


def run_judge(job: dict) -> None:
  """job: `setup`, `test`, `entry_point` and `prompt` (each may be ""), `names` that the solution has, `unknown` ones that it
  must not give, `reader` and `writer`. Writes a verdict to fd 1."""
  verdicts = os.dup(1)
  os.dup2(2, 1)  # what the tests print is no verdict
  channel = _Channel(job["reader"], job["writer"])
  try:
    verdict = _judge(job, channel)
  except _Unjudgeable:
    verdict = BROKEN
  except _Gone:
    verdict = GONE
  os.write(verdicts, GONE if channel.gone else verdict)


def _judge(job: dict, channel: "_Channel") -> bytes:
  try:
    setup, test = _compile(job["setup"]), _compile(job["test"])
  except _NOT_PYTHON:
    return BROKEN
  state = channel.receive()[0]
  if state != "ready":
    return UNPARSABLE if state == "unparsable" else FAILED
  entry, namespace = job["entry_point"], {"__name__": "judge"}
  try:
    # Helpers of the question come from the question: the solution's own might say yes to everything.
    if job["unknown"] and (prompt := _compiled(job["prompt"])):
      exec(prompt, namespace)
    for name in job["unknown"]:
      if name not in namespace and name not in sys.stdlib_module_names:
        return BROKEN
      namespace.setdefault(name, __import__(name) if name in sys.stdlib_module_names else None)
    for name in job["names"]:
      namespace[name] = channel.ask("get", 0, name)
    exec(setup, namespace)
    exec(test, namespace)
    if entry and callable(namespace.get("check")):
      namespace["check"](namespace[entry])
  except Exception:
    return FAILED
  return PASSED


class _Gone(BaseException):
  """The other process died or broke the protocol. No Exception, so that a test's `except` does not catch it."""


class _Unjudgeable(BaseException):
  """The tests hand over what JSON cannot carry."""


class _Channel:
  """The judge's end: asks, and believes nothing but the form of an answer."""

  def __init__(self, reader: int, writer: int):
    self.reader, self.writer, self.gone = reader, writer, False

  def receive(self) -> list:
    try:
      message = _receive(self.reader)
      if type(message) is not list or not message:
        raise ValueError("no message")
      return message
    except Exception:  # whatever a hostile message does to the decoder
      self.gone = True
      raise _Gone from None

  def ask(self, kind: str, number: int, *rest):
    """What the solution answers; raises what it raised."""
    if kind != "get":
      rest, args = [_encode(each) for each in rest], rest[0]
    try:
      _send(self.writer, [kind, number, *rest])
    except OSError:
      self.gone = True
      raise _Gone from None
    reply = self.receive()
    try:
      kind_of_reply, value, more = reply
      if kind_of_reply == "raised":
        error = _exception(value, more)
      else:
        value, error = _decode(value, lambda number: Handle(self, number)), None
        # Only then: or it could answer, and change what its answer is compared with.
        changed = [(args[place], _decode(new, None)) for place, new in more] if value is None else []
    except Exception:
      self.gone = True
      raise _Gone from None
    if error is not None:
      raise error
    for old, new in changed:
      old.clear()
      old.update(new) if isinstance(old, dict | set) else old.extend(new)
    return value


class Handle:
  """Stand-in for an object of the solution."""

  __slots__ = ("_channel", "_number")

  def __init__(self, channel: _Channel, number: int):
    object.__setattr__(self, "_channel", channel)
    object.__setattr__(self, "_number", number)

  def __call__(self, *args, **kwargs):
    return self._channel.ask("call", self._number, list(args), kwargs)

  def __getattr__(self, name):
    if name.startswith("__"):
      raise AttributeError(name)
    return self._channel.ask("get", self._number, name)

  def __setattr__(self, name, value):
    self._channel.ask("set", self._number, name, value)

  def __bool__(self):
    raise TypeError("an object of the solution is neither true nor false")


def _exception(names: list, text: str) -> Exception:
  """The builtin exception that is nearest to the one raised, by the names of its classes."""
  for name in names:
    cls = vars(builtins).get(name)
    if isinstance(cls, type) and issubclass(cls, Exception) and not issubclass(cls, _ENDS_LOOPS):
      try:
        return cls(text)
      except TypeError:  # UnicodeDecodeError wants five arguments
        continue
  return RuntimeError(text)


def _send(writer: int, message: list) -> None:
  """Raises what json.dumps raises, and then nothing was sent."""
  data = json.dumps(message).encode()
  data = len(data).to_bytes(8, "big") + data
  while data:
    data = data[os.write(writer, data):]


def _receive(reader: int):
  length = int.from_bytes(_read(reader, 8), "big")
  if length > _MESSAGE_BYTES:
    raise ValueError("too long")
  return json.loads(_read(reader, length))


def _read(reader: int, length: int) -> bytes:
  data = bytearray()
  while len(data) < length:
    chunk = os.read(reader, min(length - len(data), 1 << 16))
    if not chunk:
      raise EOFError
    data += chunk
  return bytes(data)


def _encode(value, owned: list | None = None):
  """What JSON carries for a value. owned: where objects that stay here are put; None raises _Unjudgeable for them."""
  kind = type(value)
  if kind is Handle:
    return {"handle": value._number}
  if isinstance(value, int) and not -_SHORT < value < _SHORT:
    return {"int": hex(value)}
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if isinstance(value, list):
    return [_encode(item, owned) for item in value]
  for cls in kind.__mro__:
    if (name := f"{cls.__module__}.{cls.__qualname__}") in _TAGGED and getattr(value, "tzinfo", None) is None:
      return {name: _encode(_TAGGED[name](value), owned)}
  if isinstance(value, type) and vars(builtins).get(value.__name__) is value:
    return {"type": value.__name__}
  if kind.__module__ == "numpy" and getattr(value, "shape", None) == ():
    return _encode(value.item(), owned)
  if hasattr(kind, "__next__"):
    return {"iterator": _encode(list(value), owned)}
  if owned is None:
    raise _Unjudgeable
  owned.append(value)
  return {"handle": len(owned) - 1}


def _decode(data, handle):
  """The value of what _encode gave. Builds plain data and handles, nothing else, whatever the data are."""
  if isinstance(data, list):
    return [_decode(item, handle) for item in data]
  if not isinstance(data, dict):
    return data
  ((tag, parts),) = data.items()
  if tag == "handle":
    return handle(parts)
  if tag == "int":
    return int(parts, 16)
  if tag == "type":
    cls = vars(builtins)[parts]
    if not isinstance(cls, type):  # never a function: `eval` is one
      raise ValueError("no type")
    return cls
  parts = _decode(parts, handle)
  if tag == "iterator":
    return iter(parts)
  if tag not in _TAGGED:
    raise ValueError("unknown tag")
  module, _, name = tag.rpartition(".")
  return getattr(__import__(module), name)(*parts)
