r"""Verifiable instructions: does a response do what it was told ("no commas", "at least 300 words")? The rules of IFEval.

Zhou et al. 2023, arXiv 2311.07911: 25 rules, each a check of the text alone. They are kept as their authors wrote them,
quirks included, so that scores compare: keywords are regular expressions, and a text whose language cannot be told follows a
rule about language. tests/verifiers/test_instructions.py compares the verdicts.

A reference is JSON: {"instructions": [{"id": "punctuation:no_comma"}, {"id": "length_constraints:number_words", "relation":
"at least", "num_words": 300}], "loose": false}. A response is right if it follows all of them; "loose" forgives, as the
authors do, a first or last line too many and asterisks. What is read is what follows the chain of thought: the last
`<answer>` block of it where there is one.

What some rules need, and `check_reference` refuses to do without:
* the language of a text (`language:response_language`, `change_case:english_...`): the package langdetect, seeded, so that a
  verdict does not change from run to run as it may in the original;
* sentences (`length_constraints:number_sentences`): the package nltk and its English sentence model `punkt_tab`;
* capitalised words (`change_case:capital_word_frequency`): nltk's word tokenizer, which needs no model.
The original draws a random letter where `letter_frequency` names none of a to z (two of its prompts want `#` and `!`); here
the character that was asked for is counted.
"""
import importlib.util
import json
import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache

from r1jax.errors import InputError
from r1jax.verifiers.tags import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from r1jax.verifiers.verdict import SCORED, UNPARSABLE, Verdict

RELATIONS = ("less than", "at least")
YES_NO_MAYBE = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FIRST_WORD_ENDS = re.compile(r"[.,?!'\"]")
_JSON_FENCES = ("```json", "```Json", "```JSON", "```")


# ---- what rules read of a text


def _languages(text: str) -> str | None:
  """The likeliest language of a text (ISO 639-1), None where it has no letters to tell by."""
  import langdetect

  langdetect.DetectorFactory.seed = 0  # it samples, and would not repeat itself
  try:
    return langdetect.detect(text)
  except langdetect.LangDetectException:
    return None


@cache
def _sentence_tokenizer():
  from nltk.tokenize import PunktTokenizer

  return PunktTokenizer("english")


def _capital_words(text: str) -> int:
  from nltk.tokenize import NLTKWordTokenizer

  return sum(word.isupper() for word in NLTKWordTokenizer().tokenize(text))


def _compared(count: int, relation: str, threshold: int) -> bool:
  return count < threshold if relation == RELATIONS[0] else count >= threshold


def _in_english(text: str) -> bool:
  return _languages(text) in ("en", None)


# ---- the rules: (text, *arguments) -> followed


def _paragraphs(text: str, num_paragraphs: int) -> bool:
  """Between dividers `***`; one that is empty is forgiven at both ends only."""
  parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
  return all(parts[1:-1]) and sum(map(bool, parts)) == num_paragraphs


def _nth_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
  """Paragraphs between blank lines; the nth is counted with the empty ones before it."""
  parts = [part.strip() for part in text.split("\n\n")]
  filled = sum(map(bool, parts))
  if nth_paragraph > filled or not parts[nth_paragraph - 1]:
    return False
  word = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
  return filled == num_paragraphs and _FIRST_WORD_ENDS.split(word)[0].lower() == first_word.lower()


def _highlights(text: str, num_highlights: int) -> bool:
  single = [found for found in re.findall(r"\*[^\n\*]*\*", text) if found.strip("*").strip()]
  double = [found for found in re.findall(r"\*\*[^\n\*]*\*\*", text) if found[2:-2].strip()]
  return len(single) + len(double) >= num_highlights


def _bullets(text: str, num_bullets: int) -> bool:
  starred, dashed = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE), re.findall(r"^\s*-.*$", text, re.MULTILINE)
  return len(starred) + len(dashed) == num_bullets


def _postscript(text: str, postscript_marker: str) -> bool:
  marker = postscript_marker.strip()
  pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, marker.lower())
  return re.search(pattern, text.lower()) is not None


def _json(text: str) -> bool:
  text = text.strip()
  for fence in _JSON_FENCES:
    text = text.removeprefix(fence)
  try:
    json.loads(text.removesuffix("```").strip())
  except (ValueError, RecursionError):
    return False
  return True


def _two_responses(text: str) -> bool:
  parts = [part.strip() for part in text.split("******")]
  filled = [part for part in parts if part]
  return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def _quoted(text: str) -> bool:
  text = text.strip()
  return len(text) > 1 and text[0] == text[-1] == '"'


def _title(text: str) -> bool:
  return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", text))


_RULES: dict[str, tuple[Callable[..., bool], tuple[str, ...]]] = {
  "keywords:existence": (lambda text, words: all(re.search(word, text, re.I) for word in words), ("keywords",)),
  "keywords:forbidden_words": (
    lambda text, words: not any(re.search(rf"\b{word}\b", text, re.I) for word in words), ("forbidden_words",)),
  "keywords:frequency": (
    lambda text, word, relation, n: _compared(len(re.findall(word.strip(), text, re.I)), relation, n),
    ("keyword", "relation", "frequency")),
  "keywords:letter_frequency": (
    lambda text, letter, relation, n: _compared(text.lower().count(letter.strip().lower()), relation, n),
    ("letter", "let_relation", "let_frequency")),
  "language:response_language": (lambda text, language: _languages(text) in (language, None), ("language",)),
  "length_constraints:number_sentences": (
    lambda text, relation, n: _compared(len(_sentence_tokenizer().tokenize(text)), relation, n),
    ("relation", "num_sentences")),
  "length_constraints:number_words": (
    lambda text, relation, n: _compared(len(re.findall(r"\w+", text)), relation, n), ("relation", "num_words")),
  "length_constraints:number_paragraphs": (_paragraphs, ("num_paragraphs",)),
  "length_constraints:nth_paragraph_first_word": (_nth_first_word, ("num_paragraphs", "nth_paragraph", "first_word")),
  "detectable_content:number_placeholders": (
    lambda text, n: len(re.findall(r"\[.*?\]", text)) >= n, ("num_placeholders",)),
  "detectable_content:postscript": (_postscript, ("postscript_marker",)),
  "detectable_format:number_bullet_lists": (_bullets, ("num_bullets",)),
  "detectable_format:constrained_response": (lambda text: any(option in text for option in YES_NO_MAYBE), ()),
  "detectable_format:number_highlighted_sections": (_highlights, ("num_highlights",)),
  "detectable_format:multiple_sections": (
    lambda text, mark, n: len(re.findall(rf"\s?{mark.strip()}\s?\d+\s?", text)) >= n, ("section_spliter", "num_sections")),
  "detectable_format:json_format": (_json, ()),
  "detectable_format:title": (_title, ()),
  "combination:two_responses": (_two_responses, ()),
  "combination:repeat_prompt": (
    lambda text, prompt: text.strip().lower().startswith(prompt.strip().lower()), ("prompt_to_repeat",)),
  "startend:end_checker": (
    lambda text, phrase: text.strip().strip('"').lower().endswith(phrase.strip().lower()), ("end_phrase",)),
  "startend:quotation": (_quoted, ()),
  "change_case:capital_word_frequency": (
    lambda text, relation, n: _compared(_capital_words(text), relation, n), ("capital_relation", "capital_frequency")),
  "change_case:english_capital": (lambda text: text.isupper() and _in_english(text), ()),
  "change_case:english_lowercase": (lambda text: text.islower() and _in_english(text), ()),
  "punctuation:no_comma": (lambda text: "," not in text, ()),
}
_NUMBERS = ("frequency", "num_", "nth_")  # arguments that are numbers have this in their names
_NEEDS = {"language:response_language": "langdetect", "change_case:english_capital": "langdetect",
          "change_case:english_lowercase": "langdetect", "change_case:capital_word_frequency": "nltk",
          "length_constraints:number_sentences": "punkt_tab"}


# ---- references and verdicts


def reference(ids: list[str], arguments: list[Mapping], loose: bool = False) -> str:
  """The reference of a row of IFEval, of its `instruction_id_list` and `kwargs`. Ids may carry a language
  ("en:punctuation:no_comma"); arguments that are None are left out."""
  instructions = [{"id": name.removeprefix("en:"), **{key: value for key, value in given.items() if value is not None}}
                  for name, given in zip(ids, arguments, strict=True)]
  return json.dumps({"instructions": instructions, "loose": loose}, ensure_ascii=False)


def check_reference(text: str) -> None:
  """InputError for a reference that `judge` cannot use, or a package or model that one of its rules needs and has not."""
  try:
    instructions, _ = _read(text)
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
    raise InputError("instructions", f"{text!r:.200}: {error}",
                     'Give {"instructions": [{"id": "punctuation:no_comma"}, ..]}.') from None
  for name, given in instructions:
    _check_arguments(name, given)
    need = _NEEDS.get(name)
    if need is not None and not _is_there(need):
      how = "python -m nltk.downloader punkt_tab" if need == "punkt_tab" else "pip install 'r1jax[ifeval]'"
      raise InputError(f"instruction {name}", f"needs {need}, which is not installed", f"Install it ({how}).")


def _check_arguments(name: str, given: Mapping) -> None:
  if name not in _RULES:
    raise InputError("instruction", repr(name), f"Known rules: {', '.join(_RULES)}.")
  names = _RULES[name][1]
  for key in names:
    value = given.get(key)
    wanted = int if any(part in key for part in _NUMBERS) else list if key in ("keywords", "forbidden_words") else str
    fits = isinstance(value, wanted) and not isinstance(value, bool) and value != "" and value != []
    if not fits or (key.endswith("relation") and value not in RELATIONS):
      raise InputError(f"instruction {name}, argument {key!r}", repr(value), f"It takes {', '.join(names)}.")
    for pattern in value if wanted is list else [value] if key in ("keyword", "section_spliter") else []:
      try:
        re.compile(pattern)
      except (re.error, TypeError) as error:
        raise InputError(f"instruction {name}, argument {key!r}", f"{pattern!r} ({error})",
                         "Give a regular expression.") from None


@cache
def _is_there(need: str) -> bool:
  if importlib.util.find_spec("langdetect" if need == "langdetect" else "nltk") is None:
    return False
  if need == "punkt_tab":
    try:
      _sentence_tokenizer()
    except LookupError:
      return False
  return True


@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[tuple[tuple[str, dict], ...], bool]:
  """((rule, its arguments), ...), and whether it is judged loosely."""
  row = json.loads(text)
  found = tuple((item["id"], {key: value for key, value in item.items() if key != "id"}) for item in row["instructions"])
  if not found:
    raise ValueError("no instruction")
  return found, bool(row.get("loose"))


def answer_of(response: str) -> str:
  """What is judged: what follows the last `</think>`, and of that the last `<answer>` block; all of a response without such
  tags, nothing of one whose thought never ends."""
  thought, closed, text = response.rpartition(THINK_CLOSE)
  if not closed and THINK_OPEN in response:
    return ""
  last_close = text.rfind(ANSWER_CLOSE)
  start = text.rfind(ANSWER_OPEN, 0, last_close) if last_close >= 0 else -1
  return text if start < 0 else text[start + len(ANSWER_OPEN):last_close]


def followed(answer: str, name: str, arguments: Mapping, loose: bool = False) -> bool:
  """Whether a text follows one rule. An empty text follows none."""
  rule, names = _RULES[name]
  values = [arguments[key] for key in names]
  return any(text.strip() and rule(text, *values) for text in (_forgiven(answer) if loose else [answer]))


def _forgiven(text: str) -> list[str]:
  """The text; without its first, its last, or both lines; and these without asterisks."""
  lines = text.split("\n")
  cut = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
  return cut + [part.replace("*", "") for part in cut]


def judge(response: str, reference: str) -> Verdict:
  """(all rules are followed, "scored"); "unparsable" where nothing follows the chain of thought."""
  instructions, loose = _read(reference)
  answer = answer_of(response)
  if not answer.strip():
    return False, UNPARSABLE
  return all(followed(answer, name, given, loose) for name, given in instructions), SCORED
