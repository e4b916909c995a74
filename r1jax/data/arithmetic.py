"""A small world of sums: its questions, its vocabulary, and a corpus to pre-train a tiny base model on.

A question is a chain of one-digit sums, `7 + 3 - 5 + 2`. The corpus answers such questions in the styles that a
real pre-training corpus mixes: guesses that are mostly wrong, working without the tags that the format reward
asks for, working with them (with slips), and working that is checked and corrected. The shares of the styles
and the rates of errors are ours; the papers do not describe the base model's corpus at this level.

Every draw is positional: `question(spec, seed, i)` and `document(spec, seed, i)` depend on their arguments only.
Token budget: a question of n numbers has 2n - 1 words, its working 4n - 3, a whole worked response 4n + 2.
"""

import dataclasses
import hashlib
import random
from collections.abc import Iterator

from r1jax.data.questions import Question
from r1jax.errors import InputError

THINK = ("<think>", "</think>")
ANSWER = ("<answer>", "</answer>")
WORDS = ("+", "-", "=", "so", "maybe", "wait", "check")
STYLES = ("guess", "worked", "checked")


@dataclasses.dataclass(frozen=True)
class ArithmeticSpec:
  """The world of sums. All values are ours.

  fewest_terms, most_terms: how many numbers a question has, drawn uniformly.
  largest_term: numbers are 1..largest_term and differ within a question, so that the number last used shows
    where a working stands in its question.
  largest_total: every running total of a question lies in 0..largest_total.
  held_out_share: share of the question texts kept from training, pre-training included.
  guess, worked, checked: the shares of the corpus's styles; they sum to 1.
    guess: no working, the answer right at rate `guess_right`.  <think> maybe 9 </think> <answer> 9 </answer>
    worked: each step wrong at rate `slip`.                     <think> 7 + 3 = 10 - 5 = 5 </think> <answer> ...
    checked: a working with more slips, then "wait check" and the working again without.
  tidy: how often a response, whatever its style, is tagged as the format reward asks; the others lack the tags,
    some of them, or the last one.
  guess_right: how often a guess is right.
  slip: how often a step of a working is wrong; later steps go on from the wrong total.
  first_slip: the same for the first working of a checked document.
  """

  fewest_terms: int = 3
  most_terms: int = 6
  largest_term: int = 9
  largest_total: int = 20
  held_out_share: float = 0.1
  guess: float = 0.66
  worked: float = 0.24
  checked: float = 0.1
  tidy: float = 0.45
  guess_right: float = 0.15
  slip: float = 0.02
  first_slip: float = 0.15

  def __post_init__(self):
    if not 2 <= self.fewest_terms <= self.most_terms:
      raise InputError("ArithmeticSpec.fewest_terms, most_terms", (self.fewest_terms, self.most_terms),
                       "A question needs two numbers or more, and fewest_terms <= most_terms.")
    if self.most_terms > self.largest_term:
      raise InputError("ArithmeticSpec.most_terms", self.most_terms,
                       f"A question's numbers differ; largest_term allows {self.largest_term} of them.")
    if self.largest_total < self.largest_term:
      raise InputError("ArithmeticSpec.largest_total", self.largest_total,
                       f"Use largest_term ({self.largest_term}) or more, so that every sum can go on.")
    for name in ("held_out_share", *STYLES, "tidy", "guess_right", "slip", "first_slip"):
      if not 0 <= getattr(self, name) <= 1:
        raise InputError(f"ArithmeticSpec.{name}", getattr(self, name), "Use a share between 0 and 1.")
    total = sum(getattr(self, name) for name in STYLES)
    if abs(total - 1) > 1e-6:
      raise InputError("ArithmeticSpec: sum of the shares " + ", ".join(STYLES), total, "Make them sum to 1.")


@dataclasses.dataclass(frozen=True)
class Document:
  """One document of the corpus: a question's text, a response to it, and the style it was written in."""

  prompt: str
  response: str
  style: str


def vocabulary(spec: ArithmeticSpec) -> list[str]:
  """Every word that questions, documents and answers can contain, one token each; special tokens not included."""
  numbers = [str(i) for i in range(max(spec.largest_total, spec.largest_term) + 1)]
  return [*numbers, *WORDS, *THINK, *ANSWER]


def is_held_out(text: str, share: float) -> bool:
  """True for the `share` of all question texts that no training may see. Decided by the text's words alone."""
  digest = hashlib.sha256(" ".join(text.split()).encode()).digest()
  return int.from_bytes(digest[:8], "big") < share * 2**64


def question(spec: ArithmeticSpec, seed: int, index: int, held_out: bool = False) -> Question:
  """Draws question number `index` of the held-out or of the training split; equal texts have equal ids."""
  rng = random.Random(f"question/{seed}/{index}/{held_out}")
  return _draw_question(spec, rng, held_out)


def generate(spec: ArithmeticSpec, seed: int, count: int, held_out: bool = False) -> Iterator[Question]:
  """Yields `count` questions of one split, no text twice.

  Raises InputError when the world has too few different questions for `count`.
  """
  seen, index, last_new = set(), 0, 0
  while len(seen) < count:
    drawn = question(spec, seed, index, held_out)
    index += 1
    if drawn.text not in seen:
      seen.add(drawn.text)
      last_new = index
      yield drawn
    elif index - last_new > 1000:
      raise InputError("count", count, f"Only about {len(seen)} different questions; ask for fewer or use longer sums.")


def document(spec: ArithmeticSpec, seed: int, index: int) -> Document:
  """Draws document number `index` of the corpus. Its question is never a held-out one."""
  rng = random.Random(f"document/{seed}/{index}")
  asked = _draw_question(spec, rng, held_out=False)
  style = rng.choices(STYLES, [getattr(spec, name) for name in STYLES])[0]
  thought, answer = _THOUGHTS[style](spec, asked, rng)
  tidy = rng.random() < spec.tidy
  return Document(asked.text, _tidy(thought, answer) if tidy else _untidy(thought, answer, rng), style)


def _draw_question(spec: ArithmeticSpec, rng: random.Random, held_out: bool) -> Question:
  if spec.held_out_share == (0 if held_out else 1):
    raise InputError("ArithmeticSpec.held_out_share", spec.held_out_share, "Leave questions in both splits.")
  while True:
    text = _draw_text(spec, rng)
    if is_held_out(text, spec.held_out_share) == held_out:
      return Question(id=f"sum:{text.replace(' ', '')}", text=text, answer=str(_steps(text)[-1][2]))


def _draw_text(spec: ArithmeticSpec, rng: random.Random) -> str:
  terms = rng.sample(range(1, spec.largest_term + 1), rng.randint(spec.fewest_terms, spec.most_terms))
  total, words = terms[0], [str(terms[0])]
  for term in terms[1:]:
    signs = [s for s in (1, -1) if 0 <= total + s * term <= spec.largest_total]
    if not signs:
      return _draw_text(spec, rng)
    sign = rng.choice(signs)
    total += sign * term
    words += ["+" if sign > 0 else "-", str(term)]
  return " ".join(words)


def _steps(text: str) -> list[tuple[str, str, int]]:
  """The steps of a sum: (sign, number, running total) for each number after the first."""
  words = text.split()
  total, steps = int(words[0]), []
  for sign, term in zip(words[1::2], words[2::2], strict=True):
    total += int(term) if sign == "+" else -int(term)
    steps.append((sign, term, total))
  return steps


def _working(spec: ArithmeticSpec, text: str, slip: float, rng: random.Random) -> tuple[str, str]:
  """A working of the sum, each step wrong at rate `slip`, and the total it ends at."""
  words, total = [text.split()[0]], int(text.split()[0])
  for sign, term, _ in _steps(text):
    total += int(term) if sign == "+" else -int(term)
    total = min(max(total, 0), spec.largest_total)
    if rng.random() < slip:
      total = _off(spec, total, rng)
    words += [sign, term, "=", str(total)]
  return " ".join(words), str(total)


def _off(spec: ArithmeticSpec, total: int, rng: random.Random) -> int:
  """A wrong total near `total`."""
  return rng.choice([t for t in range(total - 3, total + 4) if t != total and 0 <= t <= spec.largest_total])


def _guess(spec: ArithmeticSpec, asked: Question, rng: random.Random) -> tuple[str, str]:
  right = rng.random() < spec.guess_right
  answer = asked.answer if right else str(_off(spec, int(asked.answer), rng))
  return f"maybe {answer}", answer


def _worked(spec: ArithmeticSpec, asked: Question, rng: random.Random) -> tuple[str, str]:
  return _working(spec, asked.text, spec.slip, rng)


def _checked(spec: ArithmeticSpec, asked: Question, rng: random.Random) -> tuple[str, str]:
  first, _ = _working(spec, asked.text, spec.first_slip, rng)
  again, answer = _working(spec, asked.text, 0.0, rng)
  return f"{first} wait check {again}", answer


_THOUGHTS = {"guess": _guess, "worked": _worked, "checked": _checked}


def _tidy(thought: str, answer: str) -> str:
  return f"{THINK[0]} {thought} {THINK[1]} {ANSWER[0]} {answer} {ANSWER[1]}"


def _untidy(thought: str, answer: str, rng: random.Random) -> str:
  return rng.choice([
    f"{thought} so {answer}",
    f"{thought} {ANSWER[0]} {answer} {ANSWER[1]}",
    f"{THINK[0]} {thought} {THINK[1]} so {answer}",
    f"{THINK[0]} {thought} {THINK[1]} {ANSWER[0]} {answer}",
  ])
