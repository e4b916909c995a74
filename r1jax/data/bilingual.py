"""A small world in two languages: sums to reason about, requests to be helpful with, and requests to refuse.

The sums are those of `r1jax.data.arithmetic` with words in place of signs, in English (`7 plus 3 minus 5`) or in a
language written in Chinese characters (`7 加 3 减 5`), one token a word, so that the language of a working shows in
Requests are in `r1jax.data.requests`. The corpus mixes guesses, workings and requests, tidy and sloppy, and many of its
workings mix the two languages; steps taken in English are wrong more often. So a policy that is rewarded for
answers alone has a reason to think in the other language, which R1-Zero is known for (R1, Nature, "DeepSeek-R1").

Every draw is positional, as in `r1jax.data.arithmetic`. All values are ours.
"""

import dataclasses
import random

from r1jax.data import requests
from r1jax.data.arithmetic import ANSWER, THINK, ArithmeticSpec, answer_of, draw_chain, slipped, steps_of, terms_of
from r1jax.data.questions import TRAIN, Question, split_of
from r1jax.errors import InputError
from r1jax.fields import Share, check_fields

LANGUAGES = ("en", "zh")
LEXICON = {  # symbol -> its word in each language
  "+": ("plus", "加"), "-": ("minus", "减"), "=": ("is", "得"), "so": ("so", "故"),
  "maybe": ("maybe", "约"), "wait": ("wait", "等"), "check": ("check", "验"),
}
STYLES = ("guess", "worked", "checked")


@dataclasses.dataclass(frozen=True)
class BilingualSpec:
  """The world of sums and requests in two languages.

  sums: the chains; of its corpus fields only the limits of chains and held_out are read.
  request_share: the share of documents that answer a request, see `requests.Quality`.
  chinese: the share of questions, and of requests, in the language of Chinese characters.
  guess, worked, checked: shares of the styles of documents about sums; they sum to 1.
  mixed: the share of thoughts whose words are in a language drawn again at each step; all others are in the question's.
  tidy_guess, tidy_working, guess_right: as in ArithmeticSpec.
  slip_en, slip_zh: how often a step in that language is wrong.
  quality: of the answers to requests.
  """

  sums: ArithmeticSpec = ArithmeticSpec()
  request_share: Share = 0.25
  chinese: Share = 0.5
  guess: Share = 0.6
  worked: Share = 0.32
  checked: Share = 0.08
  mixed: Share = 0.5
  tidy_guess: Share = 0.35
  tidy_working: Share = 0.6
  guess_right: Share = 0.15
  slip_en: Share = 0.08
  slip_zh: Share = 0.02
  quality: requests.Quality = requests.Quality()

  def __post_init__(self):
    check_fields(self, "BilingualSpec")
    total = sum(getattr(self, name) for name in STYLES)
    if abs(total - 1) > 1e-6:
      raise InputError("BilingualSpec: sum of the shares " + ", ".join(STYLES), total, "Make them sum to 1.")


@dataclasses.dataclass(frozen=True)
class Corpus:
  """The documents of a world and a seed, as a source for stages.sft.SFT."""

  spec: BilingualSpec = BilingualSpec()
  seed: int = 0

  def document(self, index: int) -> tuple[str, str]:
    """(question, response) number `index`; the question is never a held-out one."""
    rng = random.Random(f"bilingual/{self.seed}/{index}")
    language = LANGUAGES[rng.random() < self.spec.chinese]
    if rng.random() < self.spec.request_share:
      question = requests.draw_training(rng, language, self.spec.sums.held_out)
      return question.text, requests.respond(question, self.spec.quality, rng)
    text = draw_chain(self.spec.sums, rng)
    while split_of(translate(text, language), self.spec.sums.held_out) != TRAIN:
      text = draw_chain(self.spec.sums, rng)
    return translate(text, language), _response(self.spec, text, language, rng)


def vocabulary(spec: BilingualSpec) -> list[str]:
  """Every word of questions, documents and answers, one token each; special tokens are not included."""
  numbers = [str(i) for i in range(max(spec.sums.largest_total, spec.sums.largest_term) + 1)]
  return [*numbers, *THINK, *ANSWER, *(word for pair in LEXICON.values() for word in pair), *requests.words()]


def glossary() -> tuple[tuple[str, str], ...]:
  """(English, Chinese) for each word that thoughts are made of, requests' included: what a translator needs."""
  return (*LEXICON.values(), *requests.glossary())


def bilingual_chains(seed: int, count: int, **fields) -> list[Question]:
  """`count` distinct questions about sums, every other one in Chinese characters; fields: those of ArithmeticSpec. Their
  level is how many numbers they have."""
  spec, found, index, last_new = ArithmeticSpec(**fields), {}, 0, 0
  while len(found) < count:
    chain = draw_chain(spec, random.Random(f"bilingual question/{seed}/{index}"))
    language = LANGUAGES[index % 2]
    text = translate(chain, language)
    index += 1
    if text not in found:
      found[text] = Question(id=f"chain:{language}:{chain.replace(' ', '')}", text=text, answer=answer_of(chain),
                             language=language, level=terms_of(chain))
      last_new = index
    elif index - last_new > 1000:
      raise InputError(f"bilingual_chains: count={count}", f"only {len(found)} different questions were found",
                       "Ask for fewer, or for longer chains (most_terms).")
  return list(found.values())


def translate(symbols: str, language: str) -> str:
  """A text in symbols (`7 + 3 = 10`) in the words of a language."""
  which = LANGUAGES.index(language)
  return " ".join(LEXICON[word][which] if word in LEXICON else word for word in symbols.split())


def _response(spec: BilingualSpec, text: str, language: str, rng: random.Random) -> str:
  style = rng.choices(STYLES, [getattr(spec, name) for name in STYLES])[0]
  mixed = rng.random() < spec.mixed
  if style == "guess":
    right = rng.random() < spec.guess_right
    answer = answer_of(text) if right else str(slipped(spec.sums, int(answer_of(text)), rng))
    spoken = _language(language, mixed, rng)
    thought, tidy = translate(f"maybe {answer}", spoken), spec.tidy_guess
  else:
    thought, answer = _working(spec, text, language, mixed, rng)
    if style == "checked":
      spoken = _language(language, mixed, rng)
      again, answer = _working(spec, text, language, mixed, rng)
      thought = f"{thought} {translate('wait check', spoken)} {again}"
    tidy = spec.tidy_working
  if rng.random() < tidy:
    return requests.tagged(thought, answer)
  return requests.untidy(thought, answer, translate("so", _language(language, mixed, rng)), rng)


def _language(language: str, mixed: bool, rng: random.Random) -> str:
  return rng.choice(LANGUAGES) if mixed else language


def _working(spec: BilingualSpec, text: str, language: str, mixed: bool, rng: random.Random) -> tuple[str, str]:
  """A working of the sum and the total it ends at; a step is in one language, and wrong at that language's rate."""
  total = int(text.split()[0])
  words = [text.split()[0]]
  for sign, term in steps_of(text):
    spoken = _language(language, mixed, rng)
    total = min(max(total + (int(term) if sign == "+" else -int(term)), 0), spec.sums.largest_total)
    if rng.random() < (spec.slip_zh if spoken == "zh" else spec.slip_en):
      total = slipped(spec.sums, total, rng)
    words.append(translate(f"{sign} {term} = {total}", spoken))
  return " ".join(words), str(total)
