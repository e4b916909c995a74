"""Who is what: statements that give every person one role, as answers to puzzles of knights and knaves."""

import re
from collections.abc import Iterator, Sequence

_HAN = "\u3400-\u9fff"
_UNCLEAR = re.compile(
  r"\b(?:not|no|or|if|either|neither|nor|never|unless|isn't|aren't|cannot|can't|maybe|perhaps|possibly|unknown|false|wrong"
  r"|untrue|incorrect|opposite|except|impossible|doubt\w*|den(?:y|ies)|contradict\w*)\b|n't\b|[?？不非或]|如果|除了|错")
_BETWEEN = re.compile(  # what may stand beside names and roles without changing what is said of whom
  r"an?|the|is|are|was|were|be|being|has|have|to|must|can|only|both|and|also|too|so|as|thus|therefore|hence|then|while|whereas"
  r"|finally|indeed|definitely|clearly|actually|certainly|answer|final|solution|conclusion|result|assignment|identit(?:y|ies)"
  r"|roles?|types?|person|people|we|i|get|conclude|find|that|this|means|follows|it|its|my|following|turns|out|nothing|else"
  r"|respectively|json|markdown|text|[是为和与跟及都也一个位名的则而且所以因此故答案最终结论]")
_REMARK = re.compile(r"\b(?:because|since|which|who|as (?:he|she|they|it|this|that|the))\b[^.;\n]*|因为[^。；\n]*")


class Unreadable(Exception):
  """The answer is nothing that the puzzle's verifier reads."""


def judge_roles(answer: str, puzzle: dict) -> bool:
  """Names wait for the role that follows them; after "knights:" the names that follow have that role."""
  text = answer.casefold().replace("\u2019", "'")
  if _UNCLEAR.search(text):
    raise Unreadable("no plain statement")
  names = {name.casefold(): name for name in puzzle["roles"]}
  roles = {term.casefold() + ending: term for term in puzzle["terms"] for ending in ("", "s", "es")}
  found: dict[str, set[str]] = {name: set() for name in names}
  waiting: list[str] = []
  heading: str | None = None
  for word, headed in _words_of_statements(text, (*names, *roles)):
    if word in names and heading is not None:
      found[word].add(heading)
    elif word in names:
      waiting.append(word)
    elif word not in roles:
      heading = None  # the end of a sentence
    elif waiting:
      for name in waiting:
        found[name].add(roles[word])
      waiting = []
    elif headed:
      heading = roles[word]
    else:
      raise Unreadable("a role of nobody")
  if waiting or not all(found.values()):
    raise Unreadable("not everybody has a role")
  return all(found[name] == {puzzle["roles"][names[name]]} for name in names)


def _words_of_statements(text: str, known: Sequence[str]) -> Iterator[tuple[str, bool]]:
  """(name, role or end of a sentence; whether it heads a list: "knights: ..") in turn. Sentences without any of these are
  left out; raises Unreadable where a word stands among them that is not in the closed list."""
  alternatives = "|".join(rf"(?<![a-z]){re.escape(word)}(?![a-z])" if word.isascii() else re.escape(word)
                          for word in sorted(known, key=len, reverse=True))
  token = re.compile(rf"(?P<known>{alternatives})(?P<headed>\s*(?::|=|are\b|is\b))?"
                     rf"|(?P<word>[{_HAN}]|[^\W\d_{_HAN}]+)|(?P<end>[.;\n}}。；])|$")
  sentence: list[re.Match] = []
  for match in token.finditer(re.sub(r"(?<=\w)'s\b", " is", _REMARK.sub("", text))):
    sentence.append(match)
    if match["end"] is None and match[0]:
      continue
    if any(each["known"] for each in sentence):
      for each in sentence:
        word = each["word"]
        if word and not _BETWEEN.fullmatch(word):
          raise Unreadable(f"{word}, which may turn the meaning round")
        if not word:
          yield each["known"] or each["end"] or "", bool(each["headed"])
    sentence = []
