r"""Language consistency: the share of the target language's words in the chain of thought.

R1 (Nature, equation 7) adds Num(Words_target) / Num(Words) to the reward. The papers say neither how words are counted
nor how the target is set; this is ours:

* A word is a Chinese character or a run of letters of another script, since Chinese words cannot be told apart without a
  dictionary.
* Left out, as of no language: LaTeX (delimited formulas, commands with their first argument, \boxed{..}), code in
  backticks, `<answer>` blocks, quotations of at most MAX_QUOTED characters on one line, addresses, digits, single Latin,
  Greek or Cyrillic letters (which are variables) and names of functions such as sin.
* Chinese ("zh") and English ("en") are told by script: Han characters are Chinese, Latin words English, all else is
  neither. So English cannot be told from French, nor the Han characters of Japanese from Chinese.
* Any other target is asked of pycld2, an optional package, sentence by sentence, English and Chinese among them then;
  sentences that it is not sure of are left out.
* Where nothing is left the language is undecidable, and the value is NEUTRAL: neither a whole reward for writing no words
  at all, nor none for a thought that is all formulas.

Linear in the length of the text, whatever it holds. No worker process is needed.
"""

import re
from functools import cache

from r1jax.errors import InputError
from r1jax.verifiers.tags import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN

NEUTRAL = 0.5  # the value where no word tells a language; ours
MAX_QUOTED = 200  # characters of a quotation that is left out; a longer one counts. Ours.
MAX_INLINE = 500  # characters between two dollars or backticks on one line; two amounts of money are no formula. Ours.
BY_SCRIPT = ("zh", "en")

_HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
_LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_WORD = re.compile(rf"(?P<zh>[{_HAN}])|(?P<en>[{_LATIN}]+(?:['\u2019][{_LATIN}]+)*)|(?P<other>[^\W\d_{_HAN}{_LATIN}]+)")
_SMALL_SCRIPTS = re.compile("[\u0370-\u052f]")  # Greek and Cyrillic, whose single letters are variables as Latin ones are
_FUNCTIONS = frozenset(
  ["sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "log", "ln", "lg", "exp", "lim", "max", "min"]
  + ["mod", "gcd", "lcm", "det", "deg", "sqrt", "frac"]
)
_CLOSING = {"```": "```", "$$": "$$", "\\(": "\\)", "\\[": "\\]", ANSWER_OPEN: ANSWER_CLOSE}
_QUOTES = {"\u201c": "\u201d", '"': '"', "\u300c": "\u300d", "\u300e": "\u300f", "\u00ab": "\u00bb"}
_ON_ONE_LINE = {  # opening -> (closing, characters at most)
  **{mark: (close, MAX_QUOTED) for mark, close in _QUOTES.items()},
  "$": ("$", MAX_INLINE),
  "`": ("`", MAX_INLINE),
}
_OPENER = re.compile(
  r"```|`|\$\$|\$|\\\(|\\\[|" + re.escape(ANSWER_OPEN) + r"|\\begin\{([a-z]{1,20}\*?)\}|\\[A-Za-z]{1,40}|https?://[!-~]*"
  r"|[\u201c\"\u300c\u300e\u00ab]"
)
_SENTENCE = re.compile(r"[^.!?;\n\u3002\uff01\uff1f\uff1b]+")


def language_reward(question: str, response: str, prefill: str = "", target: str | None = None,
                    neutral: float = NEUTRAL) -> float:
  """The share of the target language's words in a response's chain of thought, in [0, 1]; `neutral` where
  undecidable.

  target: a language's code; by default the question's language, "zh" or "en". Raises InputError as `check_target`.
  """
  target = target_of(question) if target is None else target
  return neutral if target is None else consistency(thought_of(response, prefill), target, neutral)


def thought_of(response: str, prefill: str = "") -> str:
  """The chain of thought of `prefill + response`: what the think tags hold. Without a closing tag all that follows the
  opening one (the response was cut); without any tag what stands before the answer."""
  text = prefill + response
  start, end = _thought(text)
  return text[start:] if end is None else text[start:end]


def after_thought(response: str) -> str:
  """What follows the chain of thought: behind the last `</think>`; without one from `<answer>` on; nothing where neither
  tells where the thought ends."""
  _, end = _thought(response)
  return "" if end is None else response[end:].removeprefix(THINK_CLOSE)


def _thought(text: str) -> tuple[int, int | None]:
  """Where the chain of thought begins and ends; None: nobody can tell where."""
  start = text.find(THINK_OPEN)
  start = 0 if start < 0 else start + len(THINK_OPEN)
  end = text.rfind(THINK_CLOSE, start)
  if end < 0:
    end = text.find(ANSWER_OPEN, start)
  return start, None if end < 0 else end


def target_of(question: str) -> str | None:
  """The language of a question by script: "zh" where it has more Chinese words than others, else "en"; None without
  words. A Chinese word is taken for two characters here, so that names and terms do not outweigh a question."""
  counts = _by_script(question)
  chinese, english = counts["zh"] / 2, counts["en"]
  if not chinese and not english:
    return None
  return "zh" if chinese > english else "en"


def consistency(thought: str, target: str, neutral: float = NEUTRAL) -> float:
  """The share of the target language's words in a text, in [0, 1]; `neutral` where undecidable. Raises InputError for a
  target that is no language's code, or that needs pycld2 where it is not installed."""
  counts = _by_script(thought) if target in BY_SCRIPT else _by_pycld2(thought, target)
  total = sum(counts.values())
  return counts.get(target, 0) / total if total else neutral


def check_target(target: str) -> None:
  """Raises InputError for a target language that cannot be judged here. For the start of a run."""
  if target not in BY_SCRIPT:
    _require_language(target)


def without_notation(text: str) -> str:
  """The text with a space for all that is of no language: LaTeX, code, answers, quotations, addresses. Linear: a kind of
  bracket that is never closed is not looked for again."""
  kept: list[str] = []
  place, hopeless = 0, set()
  while match := _OPENER.search(text, place):
    kept.append(text[place : match.start()])
    end = _end(text, match, hopeless)
    kept.append(" ")
    place = match.end() if end is None else end
  kept.append(text[place:])
  return "".join(kept)


def _end(text: str, match: re.Match, hopeless: set[str]) -> int | None:
  """Where what the match opens ends; None when it ends with the match itself."""
  mark = match[0]
  if mark in _ON_ONE_LINE:
    close, length = _ON_ONE_LINE[mark]
    line = text[match.end() : match.end() + length].partition("\n")[0]
    end = line.find(close)
    return None if end < 0 else match.end() + end + 1
  if match[1]:
    close = f"\\end{{{match[1]}}}"
  elif mark in _CLOSING:
    close = _CLOSING[mark]
  elif mark.startswith("\\"):
    # A command, with its first argument where that holds no braces: \boxed{42}, \text{cm}.
    end = text.find("}", match.end(), match.end() + MAX_QUOTED) if text.startswith("{", match.end()) else -1
    return None if end < 0 or "{" in text[match.end() + 1 : end] else end + 1
  else:
    return None  # an address
  if close in hopeless:
    return None
  end = text.find(close, match.end())
  if end < 0:
    hopeless.add(close)
    return None
  return end + len(close)


def _words(text: str) -> list[tuple[str, str]]:
  """(script, word) of the words that tell a language."""
  found = []
  for match in _WORD.finditer(text):
    script, word = match.lastgroup, match[0]
    if script != "zh" and len(word) == 1 and (script == "en" or _SMALL_SCRIPTS.match(word)):
      continue
    if script == "en" and word.casefold() in _FUNCTIONS:
      continue
    found.append((script, word))
  return found


def _by_script(text: str) -> dict[str, int]:
  """Number of words by script: zh, en, other."""
  counts = {"zh": 0, "en": 0, "other": 0}
  for script, _ in _words(without_notation(text)):
    counts[script] += 1
  return counts


def _by_pycld2(text: str, target: str) -> dict[str, int]:
  """Number of words by language code, of the sentences whose language pycld2 is sure of."""
  detect = _require_language(target)
  counts: dict[str, int] = {}
  for match in _SENTENCE.finditer(without_notation(text)):
    words = len(_words(match[0]))
    code = detect(match[0]) if words else None
    if code is not None:
      counts[code] = counts.get(code, 0) + words
  return counts


def _require_language(target: str):
  """The function text -> language code or None. InputError where pycld2 is missing or does not know the target."""
  pycld2 = _load_pycld2()
  if pycld2 is None:
    raise InputError(
      f"language consistency, target language {target!r}",
      "pycld2 is not installed, and only zh and en are told by script",
      "Install it (pip install 'r1jax[language]'), or choose zh or en.",
    )
  if target not in _codes():
    raise InputError("language consistency, target language", repr(target), "Give a code that pycld2 knows: zh, en, fr, ...")

  def detect(sentence: str) -> str | None:
    # It refuses control characters and surrogates.
    clean = "".join(c for c in sentence if c.isprintable()).encode("utf-8", "ignore")
    reliable, _, details = pycld2.detect(clean)
    return details[0][1] if reliable and details[0][1] != "un" else None

  return detect


@cache
def _load_pycld2():
  try:
    import pycld2
  except ImportError:
    return None
  return pycld2


@cache
def _codes() -> frozenset[str]:
  return frozenset(code for _, code in _load_pycld2().LANGUAGES)
