"""A small world of sums: its questions, its vocabulary, and a corpus to pre-train a tiny base model on.

A question is a chain of one-digit sums, `7 + 3 - 5 + 2`. The corpus answers such questions in the styles that
a real pre-training corpus mixes: guesses that are mostly wrong, working with slips, and working that is checked
and corrected; each of them with the tags that the format reward asks for, or sloppily without. The shares of
the styles and the rates of errors are ours; the papers do not describe the base model's corpus at this level.

Every draw is positional: `document(spec, seed, i)` depends on its arguments only, `generate` likewise.
Token budget: a question of n numbers has 2n - 1 words, its working 4n - 3; a tidy response with its stop token
has 4n + 3 when worked, 8n + 2 when checked, 8 when guessed.
"""

import dataclasses
import random

from r1jax.data.questions import TRAIN, Question, split_of
from r1jax.errors import InputError
from r1jax.fields import Count, PartialShare, Share, check_fields

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
  held_out: share of the question texts kept from training, pre-training included.
  guess, worked, checked: the shares of the corpus's styles; they sum to 1.
    guess: no working, the answer right at rate `guess_right`; thinks "maybe 9".
    worked: each step wrong at rate `slip`; thinks "7 + 3 = 10 - 5 = 5".
    checked: a working with more slips, then "wait check" and the working again without.
  tidy_guess, tidy_working: how often a guess, or a worked or checked response, is tagged as the format reward
    asks; the others lack the tags, some of them, or the last one.
  guess_right: how often a guess is right.
  slip: how often a step of a working is wrong; later steps go on from the wrong total.
  first_slip: the same for the first working of a checked document.
  """

  fewest_terms: Count = 3
  most_terms: Count = 6
  largest_term: Count = 9
  largest_total: Count = 20
  held_out: PartialShare = 0.1
  guess: Share = 0.62
  worked: Share = 0.27
  checked: Share = 0.11
  tidy_guess: Share = 0.35
  tidy_working: Share = 0.6
  guess_right: Share = 0.15
  slip: Share = 0.02
  first_slip: Share = 0.15

  def __post_init__(self):
    check_fields(self, "ArithmeticSpec")
    if not 2 <= self.fewest_terms <= self.most_terms:
      raise InputError("ArithmeticSpec.fewest_terms, most_terms", (self.fewest_terms, self.most_terms),
                       "A question needs two numbers or more, and fewest_terms <= most_terms.")
    if self.most_terms > self.largest_term:
      raise InputError("ArithmeticSpec.most_terms", self.most_terms,
                       f"A question's numbers differ; largest_term allows {self.largest_term} of them.")
    if self.largest_total < self.largest_term:
      raise InputError("ArithmeticSpec.largest_total", self.largest_total,
                       f"Use largest_term ({self.largest_term}) or more, so that every sum can go on.")
    total = sum(getattr(self, name) for name in STYLES)
    if abs(total - 1) > 1e-6:
      raise InputError("ArithmeticSpec: sum of the shares " + ", ".join(STYLES), total, "Make them sum to 1.")


@dataclasses.dataclass(frozen=True)
class Document:
  """One document of the corpus: a question's text, a response to it, and the style it was written in."""

  prompt: str
  response: str
  style: str


@dataclasses.dataclass(frozen=True)
class Corpus:
  """The documents of a world and a seed, as a source for stages.sft.SFT."""

  spec: ArithmeticSpec = ArithmeticSpec()
  seed: int = 0

  def document(self, index: int) -> tuple[str, str]:
    """(question, response) number `index`."""
    drawn = document(self.spec, self.seed, index)
    return drawn.prompt, drawn.response


def vocabulary(spec: ArithmeticSpec) -> list[str]:
  """Every word of questions, documents and answers, one token each; special tokens are not included."""
  numbers = [str(i) for i in range(max(spec.largest_total, spec.largest_term) + 1)]
  return [*numbers, *WORDS, *THINK, *ANSWER]


def chains(seed: int, count: int, **fields) -> list[Question]:
  """`generate` in the form of builders.GENERATORS: the fields of the spec as keyword arguments."""
  names = {field.name for field in dataclasses.fields(ArithmeticSpec)}
  for name in fields.keys() - names:
    raise InputError(f"chains.{name}", fields[name], f"Use fields of ArithmeticSpec: {', '.join(sorted(names))}.")
  return generate(ArithmeticSpec(**fields), seed, count)


def generate(spec: ArithmeticSpec, seed: int, count: int) -> list[Question]:
  """The first `count` different questions of a seed, of both splits (questions.split_of tells which). Their level is how
  many numbers they have.

  Raises InputError when the world has too few different questions for `count`.
  """
  found, index, last_new = {}, 0, 0
  while len(found) < count:
    text = draw_chain(spec, random.Random(f"question/{seed}/{index}"))
    index += 1
    if text not in found:
      found[text] = Question(id=f"chain:{text.replace(' ', '')}", text=text, answer=answer_of(text), level=terms_of(text))
      last_new = index
    elif index - last_new > 1000:
      raise InputError(f"generate: count={count}", f"only {len(found)} different questions were found",
                       "Ask for fewer, or for longer chains (most_terms).")
  return list(found.values())


def document(spec: ArithmeticSpec, seed: int, index: int) -> Document:
  """Document number `index` of the corpus of a seed. Its question is never a held-out one."""
  rng = random.Random(f"document/{seed}/{index}")
  text = draw_chain(spec, rng)
  while split_of(text, spec.held_out) != TRAIN:
    text = draw_chain(spec, rng)
  style = rng.choices(STYLES, [getattr(spec, name) for name in STYLES])[0]
  thought, answer = _THOUGHTS[style](spec, text, rng)
  tidy = rng.random() < (spec.tidy_guess if style == "guess" else spec.tidy_working)
  return Document(text, _tidy(thought, answer) if tidy else _untidy(thought, answer, rng), style)


def draw_chain(spec: ArithmeticSpec, rng: random.Random) -> str:
  """The text of a question, `7 + 3 - 5 + 2`."""
  terms = rng.sample(range(1, spec.largest_term + 1), rng.randint(spec.fewest_terms, spec.most_terms))
  total, words = terms[0], [str(terms[0])]
  for term in terms[1:]:
    signs = [s for s in (1, -1) if 0 <= total + s * term <= spec.largest_total]
    if not signs:
      return draw_chain(spec, rng)
    sign = rng.choice(signs)
    total += sign * term
    words += ["+" if sign > 0 else "-", str(term)]
  return " ".join(words)


def steps_of(text: str) -> list[tuple[str, str]]:
  """The (sign, number) of each number after the first."""
  words = text.split()
  return list(zip(words[1::2], words[2::2], strict=True))


def terms_of(text: str) -> str:
  """How many numbers a chain has."""
  return str(1 + len(steps_of(text)))


def answer_of(text: str) -> str:
  """The right answer to a chain."""
  total = int(text.split()[0])
  for sign, term in steps_of(text):
    total += int(term) if sign == "+" else -int(term)
  return str(total)


def _working(spec: ArithmeticSpec, text: str, slip: float, rng: random.Random) -> tuple[str, str]:
  """A working of the sum, each step wrong at rate `slip`, and the total it ends at."""
  words, total = [text.split()[0]], int(text.split()[0])
  for sign, term in steps_of(text):
    total += int(term) if sign == "+" else -int(term)
    total = min(max(total, 0), spec.largest_total)
    if rng.random() < slip:
      total = slipped(spec, total, rng)
    words += [sign, term, "=", str(total)]
  return " ".join(words), str(total)


def slipped(spec: ArithmeticSpec, total: int, rng: random.Random) -> int:
  """A wrong total near `total`."""
  return rng.choice([t for t in range(total - 3, total + 4) if t != total and 0 <= t <= spec.largest_total])


def _guess(spec: ArithmeticSpec, text: str, rng: random.Random) -> tuple[str, str]:
  right = rng.random() < spec.guess_right
  answer = answer_of(text) if right else str(slipped(spec, int(answer_of(text)), rng))
  return f"maybe {answer}", answer


def _worked(spec: ArithmeticSpec, text: str, rng: random.Random) -> tuple[str, str]:
  return _working(spec, text, spec.slip, rng)


def _checked(spec: ArithmeticSpec, text: str, rng: random.Random) -> tuple[str, str]:
  first, _ = _working(spec, text, spec.first_slip, rng)
  again, answer = _working(spec, text, 0.0, rng)
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
