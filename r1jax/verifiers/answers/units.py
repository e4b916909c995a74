r"""Units of measurement after a number: `marked_units` writes them as \unit{NAME}, the one form that the reader knows.

A unit is a word of the closed list below, or a noun of the question ("70 gold coins"): by exclusion any word would be one,
and `5 quadrillion` or `5 below zero` would be 5. Nothing is converted.
"""

import re

_SPELLINGS = {
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
  "g": "gram gm 克",
  "kg": "kilogram kilo 千克 公斤",
  "tonne": "ton 吨",
  "pound": "lb lbs",
  "ounce": "oz",
  "ml": "mL milliliter millilitre 毫升",
  "liter": "L l litre 升",
  "gallon": "gal",
  "second": "s sec 秒 秒钟",
  "minute": "min mins 分 分钟",
  "hour": "h hr hrs 小时 时",
  "day": "天 日",
  "week": "周 星期",
  "month": "个月",
  "year": "yr 年 岁",
  "dollar": "USD 美元",
  "cent": "美分",
  "yuan": "RMB 元 块 块钱 人民币 元钱",
  "euro": "EUR 欧元",
  "pound sterling": "GBP 英镑",
  "rupee": "INR",
  "jiao": "角",
  "degree": "deg 度",
  "Celsius": "",
  "Fahrenheit": "",
  "radian": "rad",
  "unit": "",
  "hectare": "ha 公顷",
  "acre": "",
  "cup": "杯",
  "pint": "pt",
  "quart": "qt",
  "teaspoon": "tsp",
  "tablespoon": "tbsp",
  "newton": "N",
  "joule": "J",
  "watt": "W 瓦",
  "kilowatt": "kW",
  "volt": "V",
  "ohm": "",
  "ampere": "A amp",
  "hertz": "Hz",
  "mole": "mol",
  "bit": "",
  "byte": "",
  "ms": "millisecond",
  "way": "",
  "time": "次",
  "sheet": "张",
  "piece": "个 只 块儿 件 条 支 枝 棵 根 颗 粒 片 朵 头 匹 辆 台 架 艘 座 间 套 双 对 组 排 行 列 "
  "袋 箱 盒 瓶 包 桶 筐 本 页 道 题 层 户 家 步 圈 下 段 班 盆 盏 面 种 门",
  "person": "people 人 名 位",
  "point": "",
}  # fmt: skip
_UNITS = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in (unit, *spellings.split())}
_LOWER = {spelling.casefold(): unit for spelling, unit in _UNITS.items() if len(spelling) > 1}
_RATES = {
  "mph": "mile per hour", "kph": "km per hour", "kmh": "km per hour", "mpg": "mile per gallon", "fps": "foot per second",
}  # fmt: skip
_CURRENCIES = {"\\$": "dollar", "$": "dollar", "¥": "yuan", "€": "euro", "£": "pound sterling", "\\euro": "euro",
               "\\pounds": "pound sterling", "₹": "rupee", "US$": "dollar", "US\\$": "dollar",
               "Rs": "rupee", "Rs.": "rupee"}  # fmt: skip
# After a number these change it, or say something else of it; in the question or not, none is a unit.
_CHANGING = frozenset(
  (  # noqa: SIM905
    "or and not no is are was to than from plus minus times over by into about nor but maybe perhaps if else hundred "
    "thousand million billion trillion quadrillion quintillion dozen dozens score scores gross myriad lakh lakhs crore "
    "crores "
    "pair pairs half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh sevenths eighth "
    "eighths ninth ninths tenth tenths hundreds thousands millions billions squared cubed square cube cubic factorial "
    "pi sqrt "
    "root roots sin cos tan cot sec csc log ln exp mod modulo choose base infinity fewer percent below above under "
    "beneath beyond short reciprocal inverse reciprocals doubled tripled halved double triple twice repeating recurring "
    "wrong incorrect false never isn't negative negated power exponent digits digit places per hundred least most between "
    "zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty seventy "
    "eighty ninety "
    "tens ones point almost nearly approximately rounded cannot impossible unless except without multiplied divided "
    "added subtracted raised mod complement opposite"
  ).split()
)
_ORDINAL = re.compile(r".*illions?|(?:.*(?:hundred|thousand|illion|teen|tie)|four|fif|six|seven|eigh|nin|ten|eleven|"
  r"twelf)ths?")
_FILLERS = frozenset("of the in a an total altogether left each all more extra remaining away old long tall high wide "  # noqa: SIM905
  "deep".split())
# Words of a question that are no nouns, though they stand in it.
_NO_NOUNS = frozenset(
  "what how which when where why who find compute evaluate simplify let suppose given does do did".split()  # noqa: SIM905
)
_HAN_CHANGING = "零一二三四五六七八九十百千万亿点之半几多约余不非或和与又的折打成倒上下内外负平立方根倍率"
_FONT = r"\\(?:text|unit)"
_POWER = r"(?:\s*\^\s*(?:\{\s*([23])\s*\}|([23])))?"
_WORDS = r"[A-Za-z][A-Za-z']*\.?(?:(?:\s+|\s*/\s*|-)[A-Za-z][A-Za-z']*\.?)*"
_PHRASE = re.compile(rf"(?P<before>[\d)}}%]|\\(?:pi|theta|alpha|beta|phi|infty)(?![A-Za-z])|"
  rf"(?<![A-Za-z])[A-Za-z](?=\s))(?P<gap>\s*)"
                     rf"(?:{_FONT}\{{\s*(?P<text>[^{{}}]*?)\s*\}}|"
                     rf"(?!(?<=\d)[A-Za-z](?![A-Za-z]))(?P<words>{_WORDS}))(?P<power>{_POWER})"
                     rf"(?P<rest>\s*(?:/|\\text\{{\s*/\s*\}})\s*(?:{_FONT}\{{\s*[^{{}}]*?\s*\}}|{_WORDS})"
                     rf"{_POWER})?")  # fmt: skip
_HAN_NUMERALS = "零〇一二两三四五六七八九十百千万亿点半"
_HAN = re.compile(rf"(?<=[\d)}}%{_HAN_NUMERALS}])\s*((?:(?![{_HAN_NUMERALS}])[\u4e00-\u9fff]|"
  rf"千(?=[克米瓦])){{1,8}})(?=\s*(?:$|[,;)\]}}]))")
_HAN_TEXT = re.compile(r"\\text\{\s*([\u4e00-\u9fff]{1,8})\s*\}")
_SIGN_AFTER = re.compile(r"(-?)(\d[\d,.]*)\s*(\\\$|\\euro|[$¥€£₹])")
_SIGN_BEFORE = re.compile(r"([-+]?)\s*(\\euro|\\pounds|\\\$|US\\?\$|USD|EUR|GBP|RMB|Rs\.?|[$¥€£₹])\s*(?=[\d.\\])(?!\\\$)")
_UNIT = re.compile(r"\s*\\unit\{([^{}]*)\}$")


def nouns_of(*texts: str) -> frozenset[str]:
  """The words of a question or a gold answer that may name what its numbers count, in the singular and lower case."""
  words = {word for text in texts for word in re.findall(r"[A-Za-z]{2,30}", text)}
  return frozenset(_singular(word.casefold()) for word in words) - _NO_NOUNS


# Of these the plural may be what is counted, "8 pairs", where the question has the noun.
_COUNTED = frozenset("pairs dozens quarters scores roots digits places squares cubes points powers exponents halves".split())  # noqa: SIM905


def is_changing(word: str) -> bool:
  """Whether a word after a number makes another number of it, or another statement."""
  lower = word.casefold().strip(".")
  return lower in _CHANGING or _ORDINAL.fullmatch(lower) is not None


def is_unit(word: str) -> bool:
  lower = word.casefold()
  return word in _UNITS or lower in _LOWER or _singular(lower) in _LOWER or lower in _RATES


def is_spelled_out(letter: str, nouns: frozenset[str]) -> bool:
  """Whether a letter is the sign of a unit that is among the nouns, L where a question asks for liters."""
  unit = _UNITS.get(letter)
  return unit is not None and any(_singular(word.casefold()) in nouns for word in (unit, *_SPELLINGS[unit].split())
                                  if len(word) > 2)


def is_han_unit(word: str) -> bool:
  return word in _UNITS


def marked_units(text: str, nouns: frozenset[str], han: str = "", any_word: bool = False) -> str:
  r"""The text with its units as \unit{NAME}. any_word: every word that changes no number is one, as in gold answers."""
  def replaced(match: re.Match) -> str:
    phrase, power = match["text"] if match["text"] is not None else match["words"], match["power"]
    rest = re.sub(rf"{_FONT}\{{([^{{}}]*)\}}", r"\1", match["rest"] or "")
    known = frozenset() if match["text"] is None and match["before"].isalpha() and len(match["before"]) == 1 else nouns
    letter = match["text"] is None and len(phrase) == 1 and (not match["gap"] or not match["before"].isdigit())
    unit = None if letter else _named(phrase, power, rest, known, any_word and match["text"] is not None)
    return match[0] if unit is None else f"{match['before']}\\unit{{{unit}}}"

  if "\\" in text or any(c.isalpha() for c in text):
    text = _PHRASE.sub(replaced, text)
  if not text.isascii():
    text = _HAN_TEXT.sub(r"\1", text)
    text = _HAN.sub(lambda match: _han(match, han, any_word), text)
  return text


def split_unit(text: str) -> tuple[str, str | None]:
  r"""(what stands before the unit, the unit or None) of a text with marked units; currency signs before it are units too."""
  match = _UNIT.search(text)
  rest, unit = (text[: match.start()].rstrip(" ^"), match[1]) if match else (text, None)
  sign = _SIGN_AFTER.fullmatch(rest)
  if sign and unit is None:
    return sign[1] + sign[2], _CURRENCIES[sign[3]]
  sign = _SIGN_BEFORE.match(rest)
  if sign is None:
    return rest, unit
  currency = _CURRENCIES.get(sign[2]) or _UNITS[sign[2]]
  if unit is not None and unit.startswith(" per "):
    unit = currency = currency + unit
  if "$" in rest[sign.end() :] or (unit is not None and not same_units(unit, currency)):
    return text, None
  return sign[1] + rest[sign.end() :], currency


def same_units(left: str | None, right: str | None) -> bool:
  """Whether two units do not contradict each other: one is missing, or the words of one are among the other's."""
  if left is None or right is None:
    return True
  lefts, rights = ([set(part.split()) for part in unit.split(" per ")] for unit in (left, right))
  return len(lefts) == len(rights) and all(a <= b or b <= a for a, b in zip(lefts, rights, strict=True))


def _named(phrase: str, power: str, rest: str, nouns: frozenset[str], any_word: bool) -> str | None:
  parts = list(re.split(r"\s*/\s*|(?<![A-Za-z])per(?![A-Za-z])", phrase + (power or "") + rest))
  names = [_quantity(part.strip(" ,"), nouns, any_word) for part in parts]
  if len(names) > 1 and not parts[0]:
    names[0] = ""  # $36 per week
  return None if None in names or not any(names) else " per ".join(names)


def _quantity(text: str, nouns: frozenset[str], any_word: bool) -> str | None:
  """One unit with its power, "cm^2"; "" when it has fillers only; None when the words are no unit."""
  match = re.fullmatch(r"(.*?)\s*\^?\s*\{?\s*([23])?\s*\}?", text)
  words, power = re.findall(r"[A-Za-z']+", match[1]), match[2]
  if re.search(r"[^A-Za-z'. -]", match[1]) or not words:
    return None
  first, last = words[0].casefold(), words[-1].casefold()
  if len(words) > 1 and first in ("square", "sq", "cubic", "cu"):
    power, words = ("2" if first.startswith("sq") else "3"), words[1:]
  elif len(words) > 1 and last in ("squared", "cubed"):
    power, words = ("2" if last == "squared" else "3"), words[:-1]
  names = []
  for word in words:
    lower = word.casefold()
    unit = _UNITS.get(word) or _LOWER.get(lower) or _LOWER.get(_singular(lower)) or _RATES.get(lower)
    if unit is None and lower in _FILLERS:
      continue
    counted = lower in _COUNTED and _singular(lower) in nouns
    if unit is None and (is_changing(word) and not counted or not (any_word or _is_noun(_singular(lower), nouns))):
      return None
    names.append(unit or _singular(lower))
  return " ".join(names) + (f"^{power}" if power and names else "")


def _is_noun(word: str, nouns: frozenset[str]) -> bool:
  """Whether it is a noun of the question, or the end of one: berries for raspberries."""
  return len(word) > 1 and (word in nouns or (len(word) > 3 and any(noun.endswith(word) for noun in nouns)))


def _singular(word: str) -> str:
  if word.endswith("ies") and len(word) > 4:
    return word[:-3] + "y"
  return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 2 else word


def _han(match: re.Match, question: str, any_word: bool) -> str:
  words = match[1]
  for prefix, power in (("平方", "^2"), ("立方", "^3")):
    if words.startswith(prefix) and words[2:] in _UNITS:
      return f"\\unit{{{_UNITS[words[2:]]}{power}}}"
  known = words in _UNITS or any(words[:end] in _UNITS and words[end:] in question for end in range(1, len(words)))
  times = words == "倍" and (any_word or words in question)
  counted = times or (any_word or words in question) and not any(c in _HAN_CHANGING for c in words)
  return f"\\unit{{{_UNITS.get(words) or words}}}" if known or counted else match[0]
