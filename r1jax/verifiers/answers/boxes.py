r"""Boxes, \boxed{42}, \fbox{42} and \boxed 2, and formulas between dollars: what stands in them, and what around them."""

import re
from collections.abc import Callable

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_SEGMENT = re.compile(
  r"\$\$([^$]+)\$\$|(?<!\\)\$((?:[^$\\]|\\.)+)\$|\\\(((?:[^\\]|\\[^)])*)\\\)|\\\[((?:[^\\]|\\[^\]])*)\\\]", re.DOTALL
)


def boxes(text: str) -> list[str]:
  r"""The different contents of the complete boxes, in order; of boxes in each other the inner one."""
  found: dict[str, None] = {}
  for *_, content in _places(text):
    if content:
      found[content] = None
  return list(found)


def _places(text: str) -> list[tuple[int, int, str]]:
  """(where it begins, where it ends, its content) of each complete outermost box."""
  found, place = [], 0
  if "box" not in text:
    return found
  while match := _BOX.search(text, place):
    start = match.end()
    if text[start : start + 1] != "{":
      place = start + 1
      if text[start : start + 1].isalnum():  # \boxed 2
        found.append((match.start(), place, text[start]))
      continue
    end = closing(text, start + 1)
    if end is None:
      break  # never closed, and so is every later one within it
    content = text[start + 1 : end].strip()
    inner = _BOX.match(content)
    if inner and content[inner.end() :].startswith("{") and closing(content, inner.end() + 1) == len(content) - 1:
      content = content[inner.end() + 1 : -1].strip()
    found.append((match.start(), end + 1, content))
    place = end + 1
  return found


def closing(text: str, start: int) -> int | None:
  """The place of the brace that closes the one before `start`; None when it is never closed."""
  depth = 1
  for match in _BRACE.finditer(text, start):
    depth += {"{": 1, "}": -1}.get(match[0], 0)
    if depth == 0:
      return match.start()
  return None


def with_boxes(text: str, written: Callable[[str], str]) -> str:
  """The text with each complete box replaced by what `written` makes of its content."""
  pieces, place = [], 0
  for start, end, content in _places(text):
    pieces += [text[place:start], written(content)]
    place = end
  return "".join([*pieces, text[place:]])


def with_formulas(text: str, written: Callable[[str], str]) -> str:
  """The text with each formula between dollars replaced by what `written` makes of it; amounts of money stay."""
  def replaced(match: re.Match) -> str:
    content = next(filter(None, match.groups()), "")
    return match[0] if match[2] and _is_money(content) else written(content)
  return _SEGMENT.sub(replaced, text) if "$" in text or "\\(" in text or "\\[" in text else text


def _is_money(content: str) -> bool:
  """Whether two dollars are the signs of two amounts, "$5 or $6" or "$4 each, so $", and no formula."""
  words = r"(?<![\\A-Za-z{])[a-z]{3,} [a-z]{2,}"
  return content[0] in "0123456789." and (content[-1].isspace() or re.search(words, content) is not None)
