r"""Normal form of the text of a mathematical answer: Chinese and full-width writing, LaTeX dressing, units.

Nothing here decides equality; every step keeps what the answer says. All of it is linear or works on a text
that the caller has bounded.
"""

import re
from decimal import Decimal

# A unit and its spellings; a different spelling of the same unit is the same unit, and nothing is converted.
_UNIT_SPELLINGS = {
  "mm": "millimeter millimetre 毫米",
  "cm": "centimeter centimetre 厘米",
  "dm": "decimeter decimetre 分米",
  "m": "meter metre 米",
  "km": "kilometer kilometre 千米 公里",
  "inch": "in inches",
  "foot": "ft feet",
  "yard": "yd",
  "mile": "mi 英里",
  "mg": "milligram 毫克",
  "g": "gram 克",
  "kg": "kilogram kilo 千克 公斤",
  "tonne": "吨",
  "pound": "lb lbs",
  "ounce": "oz",
  "ml": "mL milliliter millilitre 毫升",
  "liter": "L l litre 升",
  "gallon": "gal",
  "second": "s sec 秒",
  "minute": "min 分钟",
  "hour": "h hr 小时",
  "day": "天 日",
  "week": "周 星期",
  "month": "个月",
  "year": "yr 年",
  "dollar": "USD 美元",
  "cent": "美分",
  "yuan": "RMB 元 块 块钱 人民币",
  "euro": "EUR 欧元",
  "degree": "度",
  "radian": "rad",
  "mph": "",
  "unit": "",
  "sheet": "张",
  "piece": "个 只 块儿",
  "person": "people 人 名",
}
_UNITS = {
  spelling: unit for unit, spellings in _UNIT_SPELLINGS.items() for spelling in (unit, *spellings.split())
}
# Words after a number that change it; a number before them is not the answer's number.
_NUMBER_WORDS = (
  "or and not no is are was to than from of plus minus times over by into about nor but maybe perhaps if else "
  "hundred thousand million billion trillion dozen dozens score gross pair pairs half halves third thirds quarter "
  "quarters fourth fourths fifth fifths sixth sixths seventh sevenths eighth eighths ninth ninths tenth tenths "
  "hundredth hundredths thousandth thousandths millionth millionths squared cubed square cube cubic factorial pi sqrt "
  "root sin cos tan log mod modulo choose base infinity less more greater fewer percent"
)
_NOT_UNITS = frozenset(_NUMBER_WORDS.split())
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}

_FULL_WIDTH = {0xFF01 + i: 0x21 + i for i in range(94)}
_CHARACTERS = str.maketrans(
  {
    **{chr(key): chr(value) for key, value in _FULL_WIDTH.items()},
    "\u3000": " ", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u200b": "", "\u200e": "", "\u200f": "", "\ufeff": "",
    "。": ".", "、": ",", "【": "[", "】": "]", "「": "", "」": "", "“": '"', "”": '"', "‘": "'", "’": "'",
    "−": "-", "–": "-", "—": "-", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "∙": "\\cdot ", "÷": "\\div ",
    "π": "\\pi ", "∞": "\\infty ", "°": "^\\circ ", "º": "^\\circ ", "℃": "^\\circ ", "√": "\\sqrt ",
    "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "±": "\\pm ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ", "∅": "\\emptyset ",
    "ℝ": "\\mathbb{R}", "θ": "\\theta ", "α": "\\alpha ", "β": "\\beta ", "²": "^2 ", "³": "^3 ", "½": "\\frac{1}{2}",
    "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}", "⅓": "\\frac{1}{3}", "⅔": "\\frac{2}{3}", "⁄": "/", "∶": ":",
    "￥": "¥", "\r": " ", "\n": " ", "\t": " ",
  }
)  # fmt: skip
_DROPPED = re.compile(
  r"(?<!\\)\\(?:left|right|mleft|mright|displaystyle|textstyle|limits|quad|qquad|bigl|bigr|big|Big|Bigl|Bigr|rm|bf)(?![A-Za-z])\.?"
  r"|(?<!\\)\\[,!;: >]|~"
)
_SPACED_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,?\\[,!; :] ?|, ?\\! ?)(?=\d{3}(?!\d))", re.ASCII)
_THOUSANDS = re.compile(r"(?<![\d.,^_])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])", re.ASCII)
_TIMES_TEN = re.compile(r"(?<=\d) ?[xX] ?10 ?\^", re.ASCII)
_BRACKETS = tuple(
  ("\\" + name, bracket)
  for name, bracket in (
    ("langle", "("), ("rangle", ")"), ("lbrace", "\\{"), ("rbrace", "\\}"), ("lbrack", "["), ("rbrack", "]"),
  )
)  # fmt: skip
_REPEATING = re.compile(r"(\d{0,20})\.(\d{0,20})\\(?:overline|bar|dot) ?\{?(\d{1,20})\}?", re.ASCII)
_PREFIX = re.compile(
  r"(?:所以|因此|故|综上|综上所述|最终|最后|正确)*[,:]?(?:最终|正确)?"
  r"(?:(?:答案|结果|得数)(?:应该|应)?(?:是|为|等于|:)|答:|解:"
  r"|(?:一共|总共|共|还剩下?|剩下?|需要?|得)有?(?=\d)|(?:等于|是)(?=\d))[: ]*"
  r"|(?:so|thus|therefore|hence)?,? ?(?:the |my )?(?:final |correct )?"
  r"(?:answer|result|solution)(?: is| equals| ?:| ?=)+ *",
  re.IGNORECASE,
)
_FONT = r"\\(?:text|mbox|mathrm|mathbf|mathit|mathsf|boldsymbol|textbf|textit|textrm|textnormal|emph|operatorname)"
_WRAPPERS = re.compile(_FONT + r"\s*\{([^{}]*)\}")
_POWER = r"(?:\s*\^\s*(?:\{\s*([23])\s*\}|([23])))?\s*$"
_TEXT_UNIT = re.compile(rf"\s*{_FONT}\s*\{{\s*([^{{}}]*?)\s*\}}{_POWER}")
_WORD_UNIT = re.compile(
  r"(?:(?<=[\d)}%$])|(?<=\s))\s*((?:[A-Za-z]+\.?(?:\s+|$)){1,3}|[A-Za-z]{1,12}\.?(?:/[A-Za-z]{1,12})?)" + _POWER
)
_NO_HAN_UNIT = "零一二三四五六七八九十百万亿点之半几多约余不非或和与又"
_HAN_UNIT = re.compile(rf"\s*((?!千$)(?:(?![{_NO_HAN_UNIT}])[\u4e00-\u9fff]){{1,6}})\s*$")
_NUMERAL_END = re.compile(r"[\d)}%]$", re.ASCII)
_WHOLE_FRACTION = r"\\[dt]?frac\s*(?:\{-?\d+\}\s*\{\d+\}|\d\s*\d)"
_LITERAL = re.compile(
  r"[-+]?\s*(?:\\?\$\s*)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
  rf"(?:\s*/\s*\d+|\s+\d+\s*/\s*\d+|\s*{_WHOLE_FRACTION})?|[-+]?\s*{_WHOLE_FRACTION}",
  re.ASCII,
)

_DIGITS = {**{c: i for i, c in enumerate("零一二三四五六七八九")}, "〇": 0, "两": 2}
_TENS = {"十": 10, "百": 100, "千": 1000}
_NUMERAL_CHARACTERS = frozenset("零〇一二两三四五六七八九十百千万亿点负")
_FRACTION_OF = re.compile(r"(负?)(?:(.{1,12})又)?(.{1,12})分之(.{1,12})")
_MIXED_SCALE = re.compile(r"(-?)(?:(\d+(?:\.\d+)?)亿)?(?:(\d+(?:\.\d+)?)(千?)万)?(?:(\d+(?:\.\d+)?)千)?(\d+)?", re.ASCII)


def tidy(text: str) -> str:
  r"""One line in ASCII and LaTeX: no dressing, no outer delimiters, no final full stop, no introduction."""
  text = text.translate(_CHARACTERS).strip()
  text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cfrac", "\\frac")
  text = text.replace("**", "^") if re.search(r"[\w)]\*\*[\w(]", text) else text.replace("**", "")
  text = text.strip("` ")
  text = _PREFIX.sub("", text, count=1) if _PREFIX.match(text) else text
  text = _undelimited(text.strip())
  text = _SPACED_THOUSANDS.sub("", text)
  text = _DROPPED.sub(" ", text)
  text = _TIMES_TEN.sub(" \\\\times 10^", text)
  for old, new in _BRACKETS:
    text = text.replace(old, new)
  text = " ".join(text.split()).rstrip(" ;,")
  if text.endswith(".") and not text.endswith("..."):
    text = text[:-1].rstrip()
  return _undelimited(text)


def _undelimited(text: str) -> str:
  r"""Without one pair of $..$, $$..$$, \(..\) or \[..\] around it all."""
  for begin, end in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
    if len(text) <= len(begin) + len(end) or not text.startswith(begin):
      continue
    inside = text.removesuffix(".")
    if inside.endswith(end):
      inside = inside[len(begin) : len(inside) - len(end)]
      if begin not in inside.replace("\\$", "") and not inside.endswith("\\"):
        return inside.strip()
  return text


def without_repetition(text: str) -> str:
  r"""A repeating decimal as the fraction that it is: 0.1\overline{6} as \frac{15}{90}."""
  match = _REPEATING.fullmatch(text.removeprefix("-"))
  if not match:
    return text
  whole, fixed, period = match[1] or "0", match[2], match[3]
  bottom = 10 ** len(fixed) * (10 ** len(period) - 1)
  return f"{'-' if text[0] == '-' else ''}\\frac{{{int(whole + fixed + period) - int(whole + fixed)}}}{{{bottom}}}"


def without_thousands(text: str) -> str:
  """1,234,567 as 1234567; for texts in which commas do not separate items."""
  return _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)


def plain_words(text: str) -> str:
  r"""The words of a text without \text{..}, brackets around it, quotes and capital letters; one letter keeps its case."""
  for _ in range(3):
    text = _WRAPPERS.sub(r" \1 ", text)
  text = " ".join(text.split()).strip(" .\"'*")
  if text[:1] + text[-1:] == "()" and "(" not in text[1:]:
    text = text[1:-1].strip()
  return text if len(text) == 1 else text.casefold()


def split_unit(text: str) -> tuple[str, str | None]:
  r"""(what stands before the unit, the unit or None). The unit's name is one of ours where it is known.

  A unit is a \text{..} at the end after something, or up to three words, or Han characters, after a numeral or a
  fraction. Currency signs before it are units too. Words that change the number (half, million, or, ...) are
  none.
  """
  for sign, unit in (("\\$", "dollar"), ("$", "dollar"), ("¥", "yuan"), ("€", "euro"), ("£", "pound sterling")):
    for minus in ("", "-"):
      rest = text[len(minus + sign) :].strip()
      if text.startswith(minus + sign) and rest[:1] not in ("$", "\\", "-", "¥", "€", "£"):
        rest, after = split_unit(minus + rest)
        return (rest, unit) if "$" not in rest and same_units(after, unit) else (text, None)
  match = _TEXT_UNIT.search(text)
  if match and match.start() and _NUMERAL_END.search(text[: match.start()].rstrip()):
    unit = _unit(match[1], match[2] or match[3])
    if unit is not None:
      return _before(text[: match.start()]), unit
  match = _HAN_UNIT.search(text)
  if match and _LITERAL.fullmatch(text[: match.start()].strip()):
    return text[: match.start()].strip(), _unit(match[1], None)
  match = _WORD_UNIT.search(text)
  if match and _LITERAL.fullmatch(text[: match.start()].strip()):
    unit, words = _unit(match[1], match[2] or match[3]), match[1].strip()
    # 5m is five times m, 5 m are metres.
    letter = len(words) == 1 and not text[match.start(1) - 1].isspace()
    if unit is not None and not letter and (len(words) > 2 or words in _UNITS):
      return text[: match.start()].strip(), unit
  return text, None


def _before(text: str) -> str:
  """Without a lone ^ or spacing that the unit left behind."""
  return text.rstrip(" ^")


def _unit(words: str, power: str | None) -> str | None:
  """The unit's name with its power, "cm^2"; None when the words are no unit."""
  found = re.findall(r"[A-Za-z]+|[\u4e00-\u9fff]+", words)
  if not found or re.search(r"\d", words):
    return None
  if found[0].casefold() in ("square", "sq", "cubic", "cu") and len(found) > 1:
    power, found = ("2" if found[0].casefold().startswith("sq") else "3"), found[1:]
  elif len(found) > 1 and found[-1].casefold() in ("squared", "cubed"):
    power, found = ("2" if found[-1].casefold() == "squared" else "3"), found[:-1]
  elif found[0].startswith(("平方", "立方")):
    power, found = ("2" if found[0].startswith("平方") else "3"), [found[0][2:]]
  names = []
  for word in found:
    lower = word.casefold()
    if lower in _NOT_UNITS:
      return None
    name = _UNITS.get(word) or _UNITS.get(lower) or _UNITS.get(lower.removesuffix("s")) or lower.removesuffix("s")
    names.append(name)
  return " ".join(names) + (f"^{power}" if power else "")


def same_units(left: str | None, right: str | None) -> bool:
  """Whether two units do not contradict each other: one is missing, or the words of one are among the other's."""
  if left is None or right is None:
    return True
  left, right = set(left.split()), set(right.split())
  return left <= right or right <= left


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
