"""The form of LiveCodeBench: contest problems with public and private tests, of programs or of one function.

Private tests may be packed (base64 of zlib of a pickled text). A pickle can name any function to be called when it is
opened; here every name in it is refused.
"""
import base64
import io
import json
import pickle
import zlib
from collections.abc import Mapping

from r1jax.errors import InputError

LARGEST = 1 << 28  # bytes of one problem's tests, unpacked; ours
# R1 asks for Python that reads stdin and writes stdout (V2, Table 32); the words are ours.
STDIN = "\n\nWrite a Python program that reads standard input and writes standard output. Give it in a ```python block."
STARTER = "\n\nComplete this Python code. Give all of it in a ```python block.\n\n```python\n{starter}\n```"


def tests_of(row: Mapping, where: str) -> tuple[str, str]:
  """(question with what is asked for, JSON of its tests as r1jax.verifiers.code reads them). InputError naming `where`."""
  asked = row.get("question_content")
  if not isinstance(asked, str) or not asked.strip():
    raise InputError(where, "no question_content in it", "Correct the row.")
  try:
    cases = [case for name in ("public_test_cases", "private_test_cases") for case in _cases(row.get(name))]
    metadata = row.get("metadata") or {}
    function = (json.loads(metadata) if isinstance(metadata, str) else metadata).get("func_name")
    by_input = all(case.get("testtype", "stdin") == "stdin" for case in cases)
    tests = ({"tests": [{"stdin": case["input"], "stdout": case["output"]} for case in cases]} if by_input else
             {"test_list": [_assert(case, function) for case in cases]})
  except (ValueError, KeyError, TypeError, AttributeError, zlib.error, pickle.UnpicklingError, EOFError) as error:
    raise InputError(f"{where}, test cases", f"cannot be read ({error})", "Copy the file again.") from None
  if not cases:
    raise InputError(f"{where}, test cases", "there are none", "Remove the row.")
  starter = row.get("starter_code") or ""
  return asked + (STARTER.format(starter=starter) if starter.strip() else STDIN), json.dumps(tests)


def _assert(case: Mapping, function: str | None) -> str:
  """The assert of a test of a function: its arguments are JSON, one a line."""
  if not isinstance(function, str) or not function.isidentifier():
    raise ValueError(f"metadata names no function: {function!r:.40}")
  arguments = ", ".join(repr(json.loads(line)) for line in case["input"].split("\n") if line.strip())
  return f"assert Solution().{function}({arguments}) == {json.loads(case['output'])!r}"


def _cases(value) -> list[Mapping]:
  """Test cases as a list, as JSON, or packed; [] of none."""
  if not value or isinstance(value, list):
    return value or []
  try:
    return json.loads(value)
  except ValueError:
    packed = base64.b64decode(value)
  unpacker = zlib.decompressobj()
  content = unpacker.decompress(packed, LARGEST)
  if unpacker.unconsumed_tail:
    raise ValueError(f"more than {LARGEST} bytes")
  return json.loads(_TextOnly(io.BytesIO(content)).load())


class _TextOnly(pickle.Unpickler):
  """Opens pickled texts, lists and numbers; refuses all that has a name."""

  def find_class(self, module: str, name: str):
    raise pickle.UnpicklingError(f"it names {module}.{name}")
