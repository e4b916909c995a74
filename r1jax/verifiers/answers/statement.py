r"""The answer that prose states: "Jenna has 70 gold coins." is 70, "so 54 / 2 = 27 pens" is 27.

It is the number or formula of the last clause. What contradicts it makes it no answer: a negation, a second candidate, "or",
an interval, a question, a word that changes the number.
"""

import re
from collections.abc import Callable
from itertools import pairwise, takewhile

from r1jax.verifiers.answers.boxes import boxes, with_boxes, with_formulas
from r1jax.verifiers.answers.text import in_ascii
from r1jax.verifiers.answers.units import is_changing, is_han_unit, is_unit

MAX_CANDIDATES = 32  # numbers in the clause that states the answer; more state nothing; ours
REACH = 80  # characters before a number that say what it is of; ours

_MARK = "\ue000{}\ue001"
_FORMULA = r"-?\s*\ue000(?P<formula>\d+)\ue001"
_MONEY = r"(?:\\?[$€£¥]\s?)"
_NUMBER = (
  r"\d{1,9}(?:\s?:\s?\d{1,9}){1,3}(?:\s?[ap]\.?m\b\.?)?|"
  rf"(?:-\s?)?{_MONEY}?(?:-\s?)?(?:(?:\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
  r"(?:\s?/\s?\d+(?![\d.])|\s\d+/\d+)?(?:\s?\\?%|\s?\\?[$€£¥](?!\s?\d))?|-?\\frac\{-?\d+\}\{\d+\}"
)
_RUN = re.compile(r"\ue000\d+\ue001(?:\s*(?:,\s*(?:and|or)?|;|and|or|和|或|、)\s*\ue000\d+\ue001)+")
_CANDIDATE = re.compile(rf"{_FORMULA}|(?<![\w.^\ue000{{}}\\])(?<!\d,)(?:{_NUMBER})(?!\d|\ue001|\.\d|,\d)", re.ASCII)
_SENTENCE = re.compile(r"(?<=[.])\s+|(?<![\d})\ue001])!+|[?。！？;；\n]+|\.$")

# What comes before the claim, after it, or in its place.
_REASON = re.compile(r",?\s+(?:because|since)\s|,\s+as\s", re.IGNORECASE)
_PROSE = re.compile(r"(?<![A-Za-z])(?!(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt)(?![a-z]))[A-Za-z]{2,}|"
  r"[\u4e00-\u9fff]|:|\ue000")
_EXPLAINED = re.compile(r"(?<=[.!\n])\s*(?:This is because|Because|The reason is)\b.*", re.DOTALL)
_CONDITION = re.compile(r"\s*(?:if|since|as|because|when|given|with|after|while|although|for)\b[^,]*,\s", re.IGNORECASE)
_IF = re.compile(r"\s*if\b", re.IGNORECASE)
_THEREFORE = re.compile(
  r"(?:,|\band)?\s*\b(?:so|therefore|thus|hence|then|finally|which means(?: that)?|meaning|which (?:is|gives(?: us)?|"
  r"equals|makes|leaves)"
  r"|resulting in|giving(?: us)?|leaving|totall?ing|for a total of|and (?:that|this|it) (?:is|makes|equals|gives))\b|"
  r":(?!\d)|[,，](?=[\u4e00-\u9fff])",
  re.IGNORECASE,
)
# Statements that state nothing.
_DOUBT = re.compile(
  r"\b(?:maybe|perhaps|possibly|might|could be|may be|unless|either|neither|nor|wrong|incorrect|false|untrue|"
  r"impossible|doubt\w*|"
  r"unlikely|can(?:no|')t be|guess\w*|unsure|unknown|whether|suppose|assume|fails? to be|used to be|differs? from|far from|"
  r"avoid|contradict\w*|some (?:say|think|claim)|one of -?\d+)\b|不对|不是|错|可能|也许|或|吗",
  re.IGNORECASE,
)
_NO = re.compile(r"\b(?:not|no|never|none|cannot|without|\w+n't)\b|\\neq?(?![A-Za-z])|\\not|!=|[不没非]", re.IGNORECASE)
_RETRACTED = re.compile(r"\b(?:no|not|wait|wrong|incorrect|false|but|or|maybe|perhaps|actually)\b|[不错]", re.IGNORECASE)
_DENIED = re.compile(
  r"\s*(?:\w+\s+)?(?:(?:is|are|was|were)\s+(?:not|never)\b|isn't|aren't|wasn't|doesn't)"
  r"|.*\b(?:not|isn't|never)\b(?:\s+\w+){0,2}\s+(?:answer|correct|right|true|valid|possible|enough|solution)"
  r"|.*\b(?:not|no|never)\W*$|.*\bwait\b|.*\b(?:became|then|is now)\s+-?\d"
  r"|.*\btoo (?:many|much|few|little|large|small|big|high|low|long|short|old|young|far)\b",
  re.IGNORECASE,
)
# Before a number, and after it: then it is a part of something else.
_OPEN = re.compile(
  r"(?:\d(?: of| in| to| out of)?"
  r"|\b(?:negative|minus|plus|times|or|but|except|except for|besides|excluding|root|half|twice|double|triple|at "
  r"least|at most|instead of|over|(?<!round )(?<!rounds )(?<!rounded )(?<!add )(?<!adds )up to|under|above|below|nearly|"
  r"almost|between|past|base|not|exceeds?|half of|(?:more|less|fewer|greater|smaller|larger|bigger|other|rather|older|"
  r"younger|"
  r"higher|lower) than"
  r"|(?:root|square|cube|halves|thirds?|quarters?|\w+ths|reciprocal|inverse|negative|negation|opposite|double|triple|"
  r"multiples?|"
  r"factors?|divisors?|logarithm|log|powers?|percent|%|dozens?|hundreds|thousands|millions|factorial|complement|out) of)"
  r"|[+*/^_<>\\-]|\\(?:le|ge|lt|gt|leq|geq|times|cdot|div|pm)|(?:至少|至多|最多|最少|超过|不到|大于|小于|多于|少于|负|减|近|分之|第))\s*$",
  re.IGNORECASE,
)
_AROUND = re.compile(
  rf"\s*(?:\d|(?:or|plus|minus|and (?:a|one|two|three)|less(?=\s+\d)|to the|"
  rf"times(?=\s+(?:two|three|four|five|six|seven|eight|nine|ten)\b)|divided|multiplied|raised|remainder)\s"
  rf"|(?:more|less|fewer|greater|higher|lower|older|younger) than {_MONEY}?\d|(?:or|to|and|over|times|"
  rf"-)\s?{_MONEY}?-?[\d\ue000]|at (?:least|most)\b|[+*/!_]|\)\s?[*/+^!]|\^(?!\s*\{{?\\circ)"
  r"|\\(?:times|cdot|div|pm)(?![A-Za-z])|['\"]\s?\d|多|以上|以下|以内|以外|左右|的倒|的平|的立|的.{0,2}倍|折|成|打|分之|半|十|百|千(?![克米])|又|.{1,2}半)",
  re.ASCII,
)
_DEGREES = re.compile(r"^\s*\^\s*\{?\\circ\}?")
_AROUND_UNIT = re.compile(r"\s*(?:[-+*/^(\d]|\.\d|\\d?frac|\\(?:times|cdot|div|pm)(?![A-Za-z]))")
_INSIDE = re.compile(r"\\[A-Za-z]+\s*\([^()]*$|\{[^{}]*$")  # \ln(18), \frac{18}{5}
_ADJUNCT = re.compile(
  r"\b(?:in|after|for|per|within|at|every|each|from|by|with|of|on|over|during|than|until|before|these|those|all|both|other|"
  r"remaining|the|into|among|across|to)\s+(?:the\s+|a\s+|all\s+|these\s+|only\s+|another\s+)?$",
  re.IGNORECASE,
)
_WHOLE = re.compile(
  r"\b(?:total|sum|average|mean|amount|speed|rate|balance|score|distance|result|answer) "
  r"of\s+(?:about\s+)?$|\b(?:is|are|was|were|be) (?:at|in|from|by|on|for|of|to)\s+$",
  re.IGNORECASE,
)
_BETWEEN = re.compile(r"\bbetween\b(?!.*\b(?:is|are|was|were)\b)", re.IGNORECASE)
_VERB = re.compile(r"\s*(?:\S+\s+){0,4}?(?:is|are|was|were|will|did|do|does|has|have|had|can|\w{3,}ed)\b")
_RELATIVE = re.compile(r"\b(?:that|which|who|whom|whose|where)\b", re.IGNORECASE)
_COPULA = re.compile(r"\b(?:is|are|was|were|be|will be|equals?|makes?|gives?|becomes?|remain)\b|=|是|为", re.IGNORECASE)
_CLAIMING = re.compile(r"\b(?:is|are|was|were|equals?|becomes?)\s+$", re.IGNORECASE)
_EQUALS = re.compile(r"(?<![<>!=\\])=(?!=)\s*(?:about|approximately|around|roughly|\\approx)?\s*")
_RELATED = re.compile(r"(?:[<>]|\\(?:n|l|g)(?:e|eq|t)(?![A-Za-z]))[^.,;:=]*=\s*$")
_LONE_NUMBER = re.compile(rf"(?:^|[A-Za-z,;:](?<!\\div)(?<!times)(?<!cdot)(?<! x)\s+)({_NUMBER})\s*$", re.ASCII)
_ANSWER = re.compile(rf"\banswer(?:\s+is|\s*:|\s*=)+\s*({_FORMULA}|{_NUMBER})(?!\s*[-+*/=^x])", re.IGNORECASE | re.ASCII)
_WORD = r"[A-Za-z]+\.?(?:\s*\^\s*(?:\{?[23]\}?|\\circ))?(?:\s*/\s*[A-Za-z]+)?|\^\\circ"
_LATEX_UNIT = re.compile(r"\s*\\(?:text|mbox|mathrm|textrm)\s*\{[^{}]*\}(?:\^\{?\w+\}?)?(?!\w)")
_FOLLOWING = re.compile(rf"\s*(?:{_WORD})(?:\s+(?:{_WORD})){{0,2}}")
_STEP_END = re.compile(r"[,;]\s+(?:and\s+)?")
_STEP = re.compile(r"(?=.*\d.*[-+*/x×÷])[-\d\s.+*/x×÷()$]+", re.ASCII)
_RESULT = re.compile(r"\s*\$?\d[\d.]*\s*", re.ASCII)
_SAID_OF = frozenset(  # words that begin something else after a number
  "is are was were be will would can has have had to from by into than over times if and but about without except of "  # noqa: SIM905
  "in on at for "
  "out the a an this that these which who with when while after before during as so because since left "
  "altogether each".split()
)
_TAIL = re.compile(r"(?:\b(?:is|are|equals|be|becomes|gives?|get)\s+|:\s+)(?!.*(?:\b(?:is|are|equals|be|becomes|gives?|"
  r"get)\s+|:\s+))", re.IGNORECASE)


def stated(text: str, numbers: bool, given: frozenset[str] = frozenset()) -> list[str]:
  """Writings of the answer that the prose states, the fullest first (with its unit, without it); [] where it states none.

  numbers: a bare number may be the answer, not only what stands in a box or between dollars. given: the numbers of the
  question, which the answer is not when there is a choice.
  """
  formulas: list[str] = []

  def marked(content: str) -> str:
    if not any(map(str.isalnum, content)):
      return content  # a lone sign
    formulas.append(content)
    return f" {_MARK.format(len(formulas) - 1)} "

  boxed = bool(boxes(text))
  prose = with_boxes(with_formulas(text, lambda content: content), marked) if boxed else with_formulas(text, marked)
  if prose.rstrip().endswith(("?", "？")) or not _PROSE.search(re.sub(r"\\[A-Za-z]+", "", prose)):
    return []
  prose = "\n".join(in_ascii(line) for line in prose.replace("**", "").split("\n"))
  answers = {_value(match[1]) for match in _ANSWER.finditer(prose)}
  if len(answers) > 1:
    return []

  if not numbers:
    prose = _RUN.sub(lambda match: marked(_list_of(match, formulas)), prose)

  def candidates(part: str) -> list[re.Match]:
    return [match for match in _CANDIDATE.finditer(part) if _may_answer(match, formulas, numbers and not boxed, boxed)]

  prose = _EXPLAINED.sub("", prose)
  sentences = [sentence for sentence in _SENTENCE.split(prose) if sentence.strip()]
  place = next((i for i in reversed(range(len(sentences))) if candidates(sentences[i])), None)
  if place is None:
    return _tail(sentences[-1]) if sentences and not numbers else []
  if any(_RETRACTED.search(each) for each in sentences[place + 1 :]):
    return []
  clause = _clause(sentences[place], candidates)
  found = candidates(clause)
  choice = _chosen(clause, found, given) if len(found) <= MAX_CANDIDATES else None
  if choice is None or not _is_claimed(clause, choice) or answers - {_value(choice[0])}:
    return []  # the last: "the answer is 60, and the rest is 70" is 60 or nothing
  return _writings(clause, choice, formulas)


def last_step(text: str) -> str | None:
  """The last of several calculations, each with the result of the one before: "24+36=60, 60*3=180"."""
  steps = [step.split("=") for step in _STEP_END.split(text)]
  if len(steps) < 2 or not all(len(step) == 2 and _STEP.fullmatch(step[0]) and _RESULT.fullmatch(step[1]) for step in steps):
    return None
  for (_, result), (left, _) in pairwise(steps):
    if _value(result) not in map(_value, re.findall(r"[\d.]+", left)):
      return None
  return "=".join(steps[-1])


def _list_of(run: re.Match, formulas: list[str]) -> str:
  """Formulas joined by "and", "or" or commas as one."""
  return re.sub(r"\ue000(\d+)\ue001", lambda match: formulas[int(match[1])], run[0])


def _may_answer(match: re.Match, formulas: list[str], numbers: bool, boxed: bool) -> bool:
  if match["formula"] is None:
    return numbers
  content = formulas[int(match["formula"])]
  if boxed:
    return True
  return any(c.isdigit() for c in content) if numbers else not re.fullmatch(r"\\?[A-Za-z]{1,3}", content)


def _clause(sentence: str, candidates: Callable[[str], list]) -> str:
  """The clause that makes the claim: neither the reason nor the condition for it, nor what led to it."""
  starts = [match.start() for match in candidates(sentence)]
  reason = next((match for match in _REASON.finditer(sentence) if match.start() > starts[0]), None)
  if reason is not None and not _CONDITION.match(sentence):
    sentence, starts = sentence[: reason.start()], [start for start in starts if start < reason.start()]
  begin = 0
  if _IF.match(sentence) and (condition := _CONDITION.match(sentence)) and condition.end() > starts[-1]:
    return "?"  # stated on a condition only
  while (condition := _CONDITION.match(sentence, begin)) and condition.end() <= starts[-1]:
    begin = condition.end()
  borders = [match for match in _THEREFORE.finditer(sentence, begin) if match.end() <= starts[-1]]
  if not borders:
    return sentence[begin:]
  end = next((match.start() for match in _THEREFORE.finditer(sentence, borders[-1].end())), len(sentence))
  return f": {sentence[borders[-1].end() : end]}"


def _chosen(clause: str, found: list[re.Match], given: frozenset[str]) -> re.Match | None:
  """The candidate that is claimed: what stands behind the last equals sign, else the only one that is no adjunct."""
  equals = [match.end() for match in _EQUALS.finditer(clause)]
  if equals:
    after = [match for match in found if match.start() >= equals[-1] - 1 and match.end() > equals[-1]]
    if not after or after[0].start() > equals[-1]:
      return None
    if _RELATED.search(clause[: equals[-1]]):
      return None  # x < y = 5
    lone = _LONE_NUMBER.search(clause[: clause.rindex("=", 0, equals[-1])])
    if lone and "/" not in lone[1] and _value(lone[1]) != _value(after[0][0]):
      return None  # so 41 = 42
    rest = [match for match in after[1:] if not _ADJUNCT.search(_before(clause, match))]
    return after[0] if {_value(match[0]) for match in rest} <= {_value(after[0][0])} else None
  adjuncts = [bool(_ADJUNCT.search(before) and not _WHOLE.search(before)) for before in (clause[: m.start()] for m in found)]
  pool = [match for match, adjunct in zip(found, adjuncts, strict=True) if not adjunct] or found
  if len({_value(match[0]) for match in pool}) > 1:
    pool = [match for match in pool if _value(match[0]) not in given or _CLAIMING.search(clause[: match.start()])]
  return pool[-1] if len({_value(match[0]) for match in pool}) == 1 else None


def _before(clause: str, match: re.Match) -> str:
  return clause[max(0, match.start() - REACH) : match.start()]


def _is_claimed(clause: str, choice: re.Match) -> bool:
  before, after = clause[: choice.start()], clause[choice.end() :]
  after = _DEGREES.sub("", after, count=1)
  in_latex = _LATEX_UNIT.match(after)
  if in_latex and _AROUND_UNIT.match(after, in_latex.end()) or _INSIDE.search(before):
    return False
  if _OPEN.search(_before(clause, choice)) or _BETWEEN.search(before) or _AROUND.match(after):
    return False
  if _DOUBT.search(clause) or _DENIED.match(after):
    return False
  for no in _NO.finditer(before):  # "the carrots that will not be used are 120" is a claim, "it is not 120" is none
    if not (_RELATIVE.search(before[: no.start()]) and _COPULA.search(before[no.end() :])):
      return False
  subject = re.search(r"[A-Za-z]{2,}.*\s|[:=\u4e00-\u9fff]\s*$", before)
  return bool(subject or choice["formula"] or clause.strip() == choice[0].strip() or _VERB.match(after))


def _writings(clause: str, choice: re.Match, formulas: list[str]) -> list[str]:
  number, after = choice[0], clause[choice.end() :]
  in_latex = _LATEX_UNIT.match(after)
  if choice["formula"] is not None:
    content = formulas[int(choice["formula"])]
    number = f"-{{{content}}}" if number.startswith("-") else content
  if in_latex or after.lstrip().startswith(("\\text", "\\mbox", "\\mathrm")):
    return [number + in_latex[0]] if in_latex else []
  following = _FOLLOWING.match(after)
  if following:
    words = list(takewhile(_may_be_unit, following[0].split()))
    joined = "" if after[:1].isalpha() else " "
    first = re.sub(r"[^A-Za-z].*", "", following[0].split()[0])
    fuller = [number + joined + " ".join(words[:count]) for count in range(len(words), 0, -1)]
    changes = is_changing(first) or len(first) == 1
    changed = changes and first.casefold() not in _SAID_OF and not is_unit(first) or joined == ""
    return fuller if changed else [*fuller, number]
  han = re.match(r"\s*([\u4e00-\u9fff]{1,6})", after)
  if han:
    fuller = [number + han[1][:count] for count in range(len(han[1]), 0, -1)]
    return [*fuller, number] if is_han_unit(han[1][0]) else fuller
  return [number]


def _may_be_unit(word: str) -> bool:
  """Whether a word behind a number may be read with it; short ones that are no units would be read as letters."""
  bare = re.sub(r"[^A-Za-z].*", "", word)
  return word.casefold() not in _SAID_OF and (len(bare) > 3 or is_unit(bare) or bare in ("per", ""))


def _tail(sentence: str) -> list[str]:
  """What the last verb of a sentence without formulas says, where it may be mathematics: "The area is 6\\pi cm"."""
  match = _TAIL.search(sentence)
  if match is None or _NO.search(sentence) or _DOUBT.search(sentence):
    return []
  return [sentence[match.end() :]]


def _value(text: str) -> str:
  """A number as it is compared with others of the same text."""
  digits = re.sub(r"[^\d./\ue000-]", "", text)
  return re.sub(r"\.0+$", "", digits)
