"""Numbers in words: Chinese numerals and fractions, and scales such as "2.5 million" and 3万5千."""

import re
from decimal import Decimal

_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_DIGITS = {**{c: i for i, c in enumerate("零一二三四五六七八九")}, "〇": 0, "两": 2}
_TENS = {"十": 10, "百": 100, "千": 1000}
_NUMERAL_CHARACTERS = frozenset("零〇一二两三四五六七八九十百千万亿点负")
_FRACTION_OF = re.compile(r"(负?)(?:(.{1,12})又)?(.{1,12})分之(.{1,12})")
_MIXED_SCALE = re.compile(r"(-?)(?:(\d+(?:\.\d+)?)亿)?(?:(\d+(?:\.\d+)?)(千?)万)?(?:(\d+(?:\.\d+)?)千)?(\d+)?", re.ASCII)


_SCALED = re.compile(r"(?<![\w.,/}])(\d{1,15}(?:\.\d{1,15})?|\d{1,3}(?:,\d{3})+)\s+(hundred|thousand|million|billion|"
  r"trillion)(?![A-Za-z])", re.ASCII)
_DECIMAL_UNIT = re.compile(r"(\d+)(米|元|块)(\d)", re.ASCII)


def with_scales(text: str) -> str:
  """Each number with a scale behind it as a numeral, "2.5 million dollars"; 1米5 is 1.5米."""
  if not text.isascii() and _DECIMAL_UNIT.fullmatch(text):
    text = _DECIMAL_UNIT.sub(r"\1.\3\2", text)
  if "illion" not in text and "hundred" not in text and "thousand" not in text:
    return text
  return _SCALED.sub(lambda match: _plain(Decimal(match[1].replace(",", "")).scaleb(_SCALES[match[2].casefold()])), text)


def scaled(text: str) -> str:
  """A number with a scale in words as a numeral: "2.5 million", "3万5千", "1.2亿"; other texts as they are."""
  words = text.rsplit(maxsplit=1)
  if len(words) == 2 and words[1].casefold() in _SCALES and re.fullmatch(r"-?\d{1,15}(?:\.\d{1,15})?", words[0], re.ASCII):
    return _plain(Decimal(words[0]).scaleb(_SCALES[words[1].casefold()]))
  match = _MIXED_SCALE.match(text) if len(text) < 40 and ("万" in text or "亿" in text or "千" in text) else None
  if not match or not any(match[i] for i in (2, 3, 5)):
    return text
  rest = text[match.end() :]
  if match[6] is None and rest[:1] in ("克", "米") and match[5]:
    return text  # 3千克 are kilograms
  if rest and (rest[0] in _NUMERAL_CHARACTERS or rest[0] in "./"):
    return text
  total = Decimal(match[2] or 0) * 10**8 + Decimal(match[3] or 0) * (10**7 if match[4] else 10**4)
  total += Decimal(match[5] or 0) * 1000 + Decimal(match[6] or 0)
  return match[1] + _plain(total) + rest


def _plain(value: Decimal) -> str:
  text = f"{value:f}"
  return text.rstrip("0").rstrip(".") if "." in text else text


def chinese_number(text: str) -> str:
  """A Chinese numeral in LaTeX: 二十五, 三点五, 三分之二, 二又三分之一, 百分之十; other texts as they are."""
  if len(text) > 30:
    return text
  body, unit = _numeral_and_unit(text)
  if body == "一半" or body == "半":
    return "\\frac{1}{2}" + unit
  match = _FRACTION_OF.fullmatch(text)
  if match:
    sign, whole, bottom = "-" if match[1] else "", match[2], match[3]
    top, unit = _numeral_and_unit(match[4])
    if bottom == "百":
      number = _numeral(top)
      return f"{sign}{number}\\%{unit}" if number is not None and whole is None else text
    numbers = [_numeral(part) for part in (whole or "0", bottom, top)]
    if None in numbers:
      return text
    return f"{sign}{numbers[0] if whole else ''}\\frac{{{numbers[2]}}}{{{numbers[1]}}}{unit}"
  number = _numeral(body)
  return text if number is None else number + unit


def _numeral_and_unit(text: str) -> tuple[str, str]:
  end = 0
  while end < len(text) and (text[end] in _NUMERAL_CHARACTERS or text[end] in "0123456789.-半"):
    end += 1
  # 三千克 are three kilograms; 三万五千米 are metres all the same.
  if text[:end].endswith("千") and text[end : end + 1] in ("克", "米", "瓦") and "万" not in text and "亿" not in text:
    end -= 1
  return text[:end], text[end:]


def _numeral(text: str) -> str | None:
  """The digits that a Chinese or Arabic numeral says; None when it is none."""
  sign = "-" if text[:1] == "负" else ""
  text = text.removeprefix("负")
  if re.fullmatch(r"\d+(?:\.\d+)?", text, re.ASCII):
    return sign + text
  whole, point, decimals = text.partition("点")
  value = _chinese_whole(whole)
  if value is None or (point and not (decimals and all(c in _DIGITS for c in decimals))):
    return None
  return sign + str(value) + ("." + "".join(str(_DIGITS[c]) for c in decimals) if point else "")


def _chinese_whole(text: str) -> int | None:
  if not text or any(c not in _DIGITS and c not in _TENS and c not in "万亿" for c in text):
    return None
  if len(text) > 1 and all(c in _DIGITS for c in text):
    return int("".join(str(_DIGITS[c]) for c in text)) if "两" not in text else None
  total = section = 0
  digit: int | None = None
  for c in text:
    if c in _DIGITS:
      if digit:  # two digits side by side
        return None
      digit = _DIGITS[c]
    elif c in _TENS:
      section += (1 if digit is None else digit) * _TENS[c]
      digit = None
    else:
      total, section, digit = (total + section + (digit or 0)) * (10**4 if c == "万" else 10**8), 0, None
  return total + section + (digit or 0)
