r"""Language consistency: the share of the target language's words in the chain of thought.

R1 (Nature, equation 7) adds Num(Words_target) / Num(Words) to the reward. The papers say neither how words are counted
nor how the target is set; this is ours:

* A word is a Chinese character or a run of letters of another script, since Chinese words cannot be told apart without a
  dictionary.
* Left out, as of no language: formulas and code (between dollars, backticks, \(..\), \[..\], environments and fences), LaTeX
  commands with their first argument, addresses, digits, single Latin, Greek or Cyrillic letters (which are variables) and
  names of functions such as sin. What stands between such marks is taken line by line for what it is: words in a row are
  words, whatever surrounds them, and so are Chinese characters everywhere. Quotations and `<answer>` blocks count.
* Chinese ("zh") and English ("en") are told by script: Han characters are Chinese, Latin words English, all else is
  neither. So English cannot be told from French, nor the Han characters of Japanese from Chinese.
* Any other target is asked of pycld2, an optional package, sentence by sentence, English and Chinese among them then;
  sentences that it is not sure of are left out.
* A thought of formulas alone is worth NEUTRAL, half a reward. 1 would pay a policy for writing no words at all, which is no
  consistency, and 0 would punish it for working a sum in symbols, which every language shares: half is less than any
  thought in the right language earns, and more than one in the wrong language. An empty thought, without a letter or
  digit, is worth 0: nothing was thought in any language.

Linear in the length of any text. No worker process is needed.
"""

import re
from bisect import bisect_left
from functools import cache

from r1jax.errors import InputError
from r1jax.verifiers.tags import ANSWER_OPEN, THINK_CLOSE, THINK_OPEN

NEUTRAL = 0.5  # the value where no word tells a language; ours
MAX_ARGUMENT = 200  # characters of the argument of a LaTeX command; ours
MAX_INLINE = 500  # characters between two dollars or backticks on one line; two amounts of money are no formula. Ours.
BY_SCRIPT = ("zh", "en")

_HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
_LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_WORD = re.compile(rf"(?P<zh>[{_HAN}]+)|(?P<en>[{_LATIN}]+(?:['\u2019][{_LATIN}]+)*)|(?P<other>[^\W\d_{_HAN}{_LATIN}]+)")
_SMALL_SCRIPTS = re.compile("[\u0370-\u052f]")  # Greek and Cyrillic, whose single letters are variables as Latin ones are
_FUNCTIONS = frozenset(
  ["sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "log", "ln", "lg", "exp", "lim", "max", "min"]
  + ["mod", "gcd", "lcm", "det", "deg", "sqrt", "frac"]
)
_KEYWORDS = frozenset(
  ["and", "def", "elif", "else", "except", "false", "float", "for", "from", "import", "input", "int", "lambda", "len"]
  + ["list", "map", "none", "not", "print", "range", "return", "self", "set", "str", "sum", "true", "try", "while", "with"]
)
_SYMBOLS = _FUNCTIONS | _KEYWORDS  # words that formulas and code are made of
_CLOSING = {"```": "```", "$$": "$$", "\\(": "\\)", "\\[": "\\]"}
_OPENER = re.compile(
  r"```|`|\$\$|\$|\\\(|\\\[|\\begin\{([a-z]{1,20}\*?)\}|\\[A-Za-z]{1,40}|https?://[!-~]*|</?(?:answer|think)>"
)
_END = re.compile(r"\\end\{[a-z]{1,20}\*?\}")
_COMMAND = re.compile(r"\\(?:begin|end)\{[a-z]{1,20}\*?\}|\\[A-Za-z]{1,40}|[{}]")
_FENCE_LABEL = re.compile(r"\w{0,20}(?=\n)")
_PROSE = re.compile(rf"[(\"'\u201c]*(?P<word>[{_LATIN}'\u2019-]{{3,}})[)\"'\u201d.,;:!?]*")
_LONG = re.compile(rf"[{_LATIN}'\u2019-]{{3}}")
_LETTERS = re.compile(rf"[{_LATIN}\u0370-\u03ff]+")  # of variables and names in formulas and code
_SOMETHING = re.compile(r"[^\W_]")
_SENTENCE = re.compile(r"[^.!?;\n\u3002\uff01\uff1f\uff1b]+")


def language_reward(question: str, response: str, prefill: str = "", target: str | None = None,
                    neutral: float = NEUTRAL) -> float:
  """The share of the target language's words in a response's chain of thought, in [0, 1]; `neutral` where there are no
  words, as in a thought of formulas alone or for a question without any; 0 for an empty thought.

  target: a language's code; by default the question's language, "zh" or "en". Raises InputError as `check_target`.
  """
  thought = thought_of(response, prefill)
  if not _SOMETHING.search(thought):
    return 0.0
  target = target_of(question) if target is None else target
  return neutral if target is None else consistency(thought, target, neutral)


def thought_of(response: str, prefill: str = "") -> str:
  """The chain of thought of `prefill + response`: what the think tags hold. Without a closing tag all that follows the
  opening one (the response was cut); without any tag what stands before the answer."""
  text = prefill + response
  start, end = _thought(text)
  return text[start:] if end is None else text[start:end]


def after_thought(response: str) -> str:
  """What follows the chain of thought: after the last `</think>`; without one from `<answer>` on; nothing where neither
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
  """The text without what is of no language: LaTeX, code, addresses. Linear: a kind of bracket that is never closed is not
  looked for again."""
  kept: list[str] = []
  place, hopeless, ends = 0, set(), _ends(text)
  while match := _OPENER.search(text, place):
    kept.append(text[place : match.start()])
    inside, place = _inside(text, match, hopeless, ends)
    kept.append(f" {_words_of_notation(inside)} " if inside else "  ")
  kept.append(text[place:])
  return "".join(kept)


def _words_of_notation(text: str) -> str:
  """What of formulas or code is language: lines of words, and of other lines what is neither Latin nor Greek."""
  text = _COMMAND.sub(" ", text) if "\\" in text or "{" in text or "}" in text else text
  if not _LONG.search(text):
    return _LETTERS.sub(" ", text)  # of such lines none is prose
  lines = []
  for line in text.split("\n"):
    tokens = line.split()
    prose = sum(1 for token in tokens if (found := _PROSE.fullmatch(token)) and found["word"].casefold() not in _SYMBOLS)
    symbols = len(tokens) - prose
    lines.append(_LETTERS.sub(" ", line) if prose <= symbols + (symbols > 0) else line)  # `left = right` is a formula
  return "\n".join(lines)


def _ends(text: str) -> dict[str, list[int]]:
  r"""The places of each \end{..}: names differ without end, and a search for each would be quadratic."""
  found: dict[str, list[int]] = {}
  for match in _END.finditer(text):
    found.setdefault(match[0], []).append(match.start())
  return found


def _inside(text: str, match: re.Match, hopeless: set[str], ends: dict[str, list[int]]) -> tuple[str, int]:
  """(what the match opens and closes again, the place behind it); ("", the end of the match) where nothing is closed."""
  mark = match[0]
  if mark in ("$", "`"):
    end = text.find(mark, match.end(), match.end() + MAX_INLINE)
    inside = text[match.end() : max(end, match.end())]
    return ("", match.end()) if end < 0 or "\n" in inside else (inside, end + 1)
  if match[1]:
    close = f"\\end{{{match[1]}}}"
    places = ends.get(close, ())
    index = bisect_left(places, match.end())
    return (text[match.end() : places[index]], places[index] + len(close)) if index < len(places) else ("", match.end())
  if mark in _CLOSING:
    close = _CLOSING[mark]
  elif mark.startswith("\\") and text.startswith("{", match.end()):
    # A command, with its first argument where that holds no braces: \boxed{42}, \text{cm}.
    end = text.find("}", match.end() + 1, match.end() + MAX_ARGUMENT)
    inside = text[match.end() + 1 : max(end, match.end() + 1)]
    return ("", match.end()) if end < 0 or "{" in inside else (inside, end + 1)
  else:
    return "", match.end()  # an address, a tag
  end = -1 if close in hopeless else text.find(close, match.end())
  if end < 0:
    hopeless.add(close)
    return "", match.end()
  label = _FENCE_LABEL.match(text, match.end()) if mark == "```" else None
  return text[label.end() if label else match.end() : end], end + len(close)


def _count(text: str) -> dict[str, int]:
  """Number of the words that tell a language, by script: zh, en, other."""
  counts = {"zh": 0, "en": 0, "other": 0}
  for match in _WORD.finditer(text):
    script, word = match.lastgroup, match[0]
    if script == "zh":
      counts["zh"] += len(word)
    elif not (len(word) == 1 and (script == "en" or _SMALL_SCRIPTS.match(word)) or word.casefold() in _FUNCTIONS):
      counts[script] += 1
  return counts


def _by_script(text: str) -> dict[str, int]:
  """Number of words by script, of what is language."""
  return _count(without_notation(text))


def _by_pycld2(text: str, target: str) -> dict[str, int]:
  """Number of words by language code, of the sentences whose language pycld2 is sure of."""
  detect = _require_language(target)
  counts: dict[str, int] = {}
  for match in _SENTENCE.finditer(without_notation(text)):
    words = sum(_count(match[0]).values())
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
