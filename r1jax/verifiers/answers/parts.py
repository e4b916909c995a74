"""Texts taken apart at what stands outside all brackets."""

import re

COMMAS, COMMA, COLON = (re.compile(mark) for mark in ("[,;]", ",", ":"))


def split(text: str, separator: re.Pattern) -> list[str]:
  """The parts between separators that stand outside all brackets."""
  if separator.search(text) is None:
    return [text.strip()]
  if not any(map(text.__contains__, "([{")):
    return [part.strip() for part in separator.split(text)]
  depth, depths = 0, []
  for c in text:
    depth += (c in "([{") - (c in ")]}")
    depths.append(depth)
  parts, start = [], 0
  for match in separator.finditer(text):
    # Of \text{ or } the brackets are its own.
    if (depths[match.start() - 1] if match.start() else 0) == 0:
      parts.append(text[start : match.start()].strip())
      start = match.end()
  return [*parts, text[start:].strip()]


def enclosed(text: str, begin: str, end: str) -> str | None:
  """What stands between the two brackets when they open at the first character and close at the last."""
  if not (text.startswith(begin) and text.endswith(end)) or len(text) < len(begin) + len(end):
    return None
  inside, depth = text[len(begin) : len(text) - len(end)], 0
  for c in inside:
    depth += (c in "([{") - (c in ")]}")
    if depth < 0:
      return None
  return inside.strip() if depth == 0 else None


def joint(words: str, commands: str, others: str) -> re.Pattern:
  r"""One of the words, alone or as \text{, word }, one of the LaTeX commands, or one of the other marks."""
  text = rf"\\text\{{\s*,?\s*(?:{words})\s*,?\s*\}}|(?<![A-Za-z\\])(?:{words})(?![A-Za-z])"
  return re.compile(rf"{text}|{others}" + (rf"|\\(?:{commands})(?![A-Za-z])" if commands else ""))
