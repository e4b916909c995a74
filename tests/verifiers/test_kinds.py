"""One table of kinds: each judges by its own verifier, in the worker processes, and refuses bad references by line."""
import json

import pytest

from r1jax.errors import InputError
from r1jax.verifiers.kinds import KINDS, check_references, kind_of

CHOICE = json.dumps({"answer": "B", "options": {"A": "4 m", "B": "5 m"}})
LOGIC = json.dumps({"puzzle": "countdown", "numbers": [3, 5, 7], "target": 26, "use": "all"})
CODE = json.dumps({"tests": [{"stdin": "3\n", "stdout": "6\n"}]})


@pytest.mark.parametrize(("kind", "reference", "said"), [
  ("maths", r"\frac{1}{", "cannot be read as mathematics"),
  ("choice", "Ä", "Ä"),
  ("logic", '{"puzzle": "chess"}', "chess"),
  ("code", "print(1)", "no JSON"),
  ("code", '{"tests": "none"}', "tests"),
  ("code", "5", "no JSON object: '5'"), ("code", "[]", "no JSON object"), ("code", "null", "no JSON object"),
  ("code", "[" * 100_000, "no JSON"),
  ("code", '{"test": "def check(f):\\n  assert f(1)", "entry_point": "class"}', "'class'"),
  ("choice", "[" * 100_000, ""), ("choice", "[1]", ""), ("logic", "5", ""), ("logic", "[" * 100_000, ""),
  ("instructions", "[]", ""), ("instructions", "null", ""), ("instructions", "[" * 100_000, ""),
  ("poems", "roses", "maths, choice, logic, code"),
])
def test_a_bad_reference_is_refused_by_its_line(kind, reference, said):
  good = ("a.jsonl:1", "maths", "4")
  with pytest.raises(InputError) as caught:
    check_references([good, ("a.jsonl:2", kind, reference)])
  assert caught.value.where.startswith("a.jsonl:2") and said in str(caught.value)


def test_all_references_that_cannot_judge_are_counted_and_named():
  golds = ["4", "N/A", "proof", "7", "$x=2$, the minimum of the function", "nan", *["None"] * 20]
  with pytest.raises(InputError, match="a:2.*24 of 26") as caught:
    check_references([(f"a:{line}", "maths", gold) for line, gold in enumerate(golds, start=1)])
  assert "a:3, a:5, a:6" in str(caught.value) and "..." in str(caught.value) and "drop" in caught.value.remedy


def test_good_references_pass():
  check_references([("a:1", "maths", "1/2"), ("a:2", "choice", CHOICE), ("a:3", "logic", LOGIC)])


def test_an_unknown_kind_is_refused():
  assert kind_of("maths") is KINDS["maths"]
  with pytest.raises(InputError, match="'poems'"):
    kind_of("poems")


def test_without_a_sandbox_code_is_refused_unless_asked_for(monkeypatch, capfd):
  monkeypatch.setenv("PATH", "")
  with pytest.raises(InputError, match="bwrap|bubblewrap"):
    check_references([("a:1", "code", CODE)])
  monkeypatch.setenv("R1JAX_UNSAFE_CODE", "1")
  check_references([("a:1", "code", CODE)])
  assert "sandbox" in capfd.readouterr().err.lower()
