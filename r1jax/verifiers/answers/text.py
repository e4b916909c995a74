r"""Normal form of the text of a mathematical answer: one line in ASCII and LaTeX, without dressing.

Nothing here decides equality; every step keeps what the answer says. All of it is linear or works on a text
that the caller has bounded.
"""

import re
import unicodedata

from r1jax.verifiers.answers.chinese import with_scales
from r1jax.verifiers.answers.units import is_unit

_CHARACTERS = str.maketrans(
  {
    "。": ".", "、": ",", "【": "[", "】": "]", "「": "", "」": "", "“": '"', "”": '"', "‘": "'", "’": "'", "′": "'",
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ",
    "∙": "\\cdot ", "÷": "\\div ",
    "π": "\\pi ", "∞": "\\infty ", "°": "^\\circ ", "º": "^\\circ ", "℃": "^\\circ ", "℉": "^\\circ ", "∠": "\\angle ",
    "△": "\\triangle ", "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "±": "\\pm ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ",
    "∅": "\\emptyset ", "≈": "\\approx ", "≡": "\\equiv ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "θ": "\\theta ",
    "α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ", "λ": "\\lambda ", "⁄": "/", "∶": ":", "￥": "¥", "٫": ".", "٬": ",",
    "…": "\\ldots ", "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ", "¢": "\\text{ cent}",
    "‰": "/1000",
  }
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣ", "0123456789+-()nx")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_UNICODE_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?)?")
_SCALE = re.compile(r"\^\s*\{?\\circ\}?\s*(?:\\text\{\s*)?(?:[CF](?![A-Za-z])|Celsius|Fahrenheit)\s*\}?")
_PER_MILLE = re.compile(r"(\d[\d.]*)\s*‰")
_DRESSING = (
  "left|right|mleft|mright|displaystyle|textstyle|limits|nolimits|quad|qquad|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|"
  "bigg|Bigg|"
  "rm|bf|it|tt|sf|tiny|small|normalsize|large|Large|LARGE|huge|Huge|boldmath|thinspace|enspace|noindent|centering"
)
_DROPPED = re.compile(
  rf"(?<!\\)\\(?:{_DRESSING})(?![A-Za-z])\.?|(?<!\\)\\[,!;: >]|~|</?script[^<>]*>|\\(?:color|hspace|vspace)\s*\{{[^{{}}]*\}}"
)
_SPACED_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,?\\[,!; :] ?|, ?\\! ?|\\thinspace ?)(?=\d{3}(?!\d))", re.ASCII)
_BLANK_THOUSANDS = re.compile(r"(?<![\w.,/\\}])\d{1,3}(?: \d{3})+(?![\w/]|\.\d{4}| ?[\d/]| ?\\frac)", re.ASCII)
_LOW_THOUSANDS = re.compile(r"(?<![\w.])\d{1,3}(?:_\d{3})+(?!\w)", re.ASCII)
_THOUSANDS = re.compile(r"(?<![\d.,^_])(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d?(?:,\d\d)+,\d{3})(?![\d,])", re.ASCII)
_PYTHON_POWER = re.compile(r"[\w)]\*\*[\w(]")
_TIMES_TEN = re.compile(r"(?<=\d) ?[xX] ?10 ?\^", re.ASCII)
_BRACKETS = tuple(
  ("\\" + name, bracket)
  for name, bracket in (
    ("langle", "("), ("rangle", ")"), ("lbrace", "\\{"), ("rbrace", "\\}"), ("lbrack", "["), ("rbrack", "]"),
    ("dfrac", "\\frac"), ("tfrac", "\\frac"), ("cfrac", "\\frac"), ("nicefrac", "\\frac"), ("sfrac", "\\frac"),
    ("dbinom", "\\binom"), ("tbinom", "\\binom"), ("dots", "\\ldots"), ("cdots", "\\ldots"), ("lparen", "("),
    ("rparen", ")"),
    ("textdegree", "\\degree"), ("percent", "\\%"), ("cr", "\\\\"), ("implies", "\\Rightarrow"),
  )
)  # fmt: skip
_BRACKET = re.compile(r"(?<!\\)\\(" + "|".join(old[1:] for old, _ in _BRACKETS) + r")(?![A-Za-z])")
_BRACKET_OF = dict(_BRACKETS)
_REPEATING = re.compile(r"(\d{0,20})\.(\d{0,20})\\(?:overline|bar|dot) ?\{?(\d{1,20})\}?", re.ASCII)
_PREFIX = re.compile(
  r"(?:所以|因此|故|综上|综上所述|最终|最后|正确)*[,:]?(?:最终|正确)?"
  r"(?:(?:答案|结果|得数)(?:应该|应)?(?:是|为|等于|:)|答:|解:"
  r"|(?:一共|总共|共|还剩下?|剩下?|需要?|得)有?(?=\d)|(?:等于|是)(?=\d))[: ]*"
  r"|(?:so|thus|therefore|hence)?,? ?(?:the |my |our )?(?:final |correct )?"
  r"(?:answer|result|solution|ans)(?: is| equals| ?:| ?=)+ *",
  re.IGNORECASE,
)
_NEGATIVE = re.compile(r"(?:negative|minus)\s+(?=[\d.]|\\d?frac)", re.IGNORECASE)
_TWICE_ESCAPED = re.compile(r"\\\\(?=(?:d?frac|tfrac|sqrt|leq?|geq?|text|pi|cdot|times|begin|end|left|right|infty|circ|"
  r"pm|cup|in)(?![a-z]))")
_FONTS = (
  r"\\(?:text|hbox|mbox|mathrm|mathbf|mathit|mathsf|mathtt|boldsymbol|bm|textbf|textit|textrm|textsf|texttt|textnormal|textup|"
  r"emph|underline|operatorname\*?)"
)
_FONT = re.compile(_FONTS + r"\s*\{([^{}]*)\}")
_FONT_LETTER = re.compile(r"\\(?:mathrm|mathbf|boldsymbol|bm)\s+([A-Za-z])(?![A-Za-z])")
_COLOR = re.compile(r"\\(?:textcolor|colorbox)\s*\{[^{}]*\}")
_WORD = re.compile(r"[A-Za-z]{2,}|[\u4e00-\u9fff]")
_FUNCTION_WORD = re.compile(r"\s*(?:(?:arc)?(?:sin|cos|tan|cot|sec|csc)|[csth]+h|ln|log|exp|gcd)\s*")
_NOT_EQUAL = re.compile(r"\\not\s*=|\\neg\s*(?=\d)")
_QUANTITY = re.compile(r"\\(?:SI|qty)\s*\{([^{}]*)\}\s*\{([^{}]*)\}|\\num\s*\{([^{}]*)\}|\\(?:si|unit)\s*\{([^{}]*)\}")
_OVER = re.compile(r"\{([^{}]*)\\(over|choose)(?![A-Za-z])([^{}]*)\}")
_WRAPPERS = re.compile(_FONTS + r"\s*\{([^{}]*)\}")


def tidy(text: str) -> str:
  r"""One line in ASCII and LaTeX: no dressing, no outer delimiters, no final full stop, no introduction."""
  text = in_ascii(text)
  if "**" in text:
    text = text.replace("**", "^" if _PYTHON_POWER.search(text) else "")
  text = text.lstrip("#").strip("` ")
  text = _PREFIX.sub("", text, count=1) if _PREFIX.match(text) else text
  text = _commands(_NEGATIVE.sub("-", _undelimited(text.strip())))
  text = " ".join(text.split()).rstrip(" ;,")
  if text.endswith(".") and not text.endswith("..."):
    text = text[:-1].rstrip()
  text = _undelimited(text).removeprefix("\\approx").strip()
  text = _BLANK_THOUSANDS.sub(lambda match: match[0].replace(" ", ""), text) if " " in text else text
  text = _LOW_THOUSANDS.sub(lambda match: match[0].replace("_", ""), text) if "_" in text else text
  return with_scales(text)


def in_ascii(text: str) -> str:
  """Digits, letters and signs of other scripts and widths as ASCII or LaTeX; white space as blanks."""
  if not text.isascii():
    text = _RAISED.sub(lambda match: f"^{{{match[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _LOWERED.sub(lambda match: f"_{{{match[0].translate(_SUBSCRIPTS)}}}", text)
    text = _PER_MILLE.sub(r"\\frac{\1}{1000}", text)
    text = _UNICODE_ROOT.sub(_root, text)
    text = "".join(c if c < "\x80" else _plain_character(c) for c in text.translate(_CHARACTERS))
  text = _SCALE.sub(r"^\\circ", text) if "\\circ" in text else text
  return " ".join(text.split())


def _root(match: re.Match) -> str:
  index = {"√": "", "∛": "[3]", "∜": "[4]"}[match[1]]
  return f"\\sqrt{index}" + (f"{{{match[2]}}}" if match[2] else " ")


def _plain_character(c: str) -> str:
  digit = unicodedata.decimal(c, None)
  if digit is not None:
    return str(digit)
  if unicodedata.category(c) == "Cf":  # zero width, marks of direction
    return ""
  if 0xFF01 <= ord(c) <= 0xFF5E:
    return chr(ord(c) - 0xFEE0).translate(_CHARACTERS)
  if 0x1D400 <= ord(c) <= 0x1D7FF:
    return unicodedata.normalize("NFKC", c).translate(_CHARACTERS)
  top, slash, bottom = unicodedata.normalize("NFKC", c).partition("⁄")
  return f"\\frac{{{top}}}{{{bottom}}}" if slash and top and bottom else c


def _commands(text: str) -> str:
  """Without LaTeX that says how it looks, and with one command for each thing."""
  # Most answers have few of these: a look for a sign costs far less than a search by pattern.
  if "\\" not in text:
    text = _SPACED_THOUSANDS.sub("", text) if "{,}" in text else text
    text = _DROPPED.sub(" ", text) if "~" in text or "<" in text else text
    return _TIMES_TEN.sub(" \\\\times 10^", text) if "^" in text else text
  text = _TWICE_ESCAPED.sub(r"\\", _SPACED_THOUSANDS.sub("", text))
  text = _QUANTITY.sub(_quantity, text)
  text = _COLOR.sub("", text) if "color" in text else text
  text = _NOT_EQUAL.sub(r"\\ne ", text) if "\\n" in text else text
  text = _DROPPED.sub(" ", text)
  for _ in range(3):
    text, replaced = _FONT.subn(_unfont, text)
    if not replaced:
      break
  text = _FONT_LETTER.sub(r"\1", text)
  text = _TIMES_TEN.sub(" \\\\times 10^", text) if "^" in text else text
  text = _BRACKET.sub(lambda match: _BRACKET_OF["\\" + match[1]] + " ", text)
  if "\\over" in text or "\\choose" in text:
    text = _OVER.sub(_two_storeys, text if text.startswith("{") else f"{{{text}}}" if text.count("\\over ") == 1 else text)
  return text


def _unfont(match: re.Match) -> str:
  r"""What is set in a font: digits and letters as they are, words as \text{..}."""
  inside = match[1]
  command = match[0][1 : match[0].index("{")].strip()
  if _FUNCTION_WORD.fullmatch(inside):
    return f"\\{inside.strip()} "
  if any(c.isdigit() for c in inside) or not _WORD.search(inside):
    if inside.startswith(" ") and "text" in command and is_unit(inside.strip()):
      return f"\\text{{{inside}}}"  # 12\pi\text{ m}
    return f" {inside} " if "text" in command or "box" in command else f"{{{inside}}}" if len(inside) > 1 else inside + " "
  return f"\\text{{{inside}}}"


def _quantity(match: re.Match) -> str:
  number, unit = (match[1], match[2]) if match[1] is not None else (match[3], match[4])
  words = "" if unit is None else " ".join(re.sub(r"\\([A-Za-z]+)", r" \1 ", unit).split())
  return (number or "") + (f" \\text{{{words}}}" if words else "")


def _two_storeys(match: re.Match) -> str:
  return f"\\{'frac' if match[2] == 'over' else 'binom'}{{{match[1].strip()}}}{{{match[3].strip()}}}"


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
  """1,234,567 and 1,00,000 without their commas; for texts in which commas do not separate items."""
  return _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)


def plain_words(text: str) -> str:
  r"""The words of a text without \text{..}, brackets around it, quotes and capital letters; one letter keeps its case."""
  for _ in range(3):
    text = _WRAPPERS.sub(r" \1 ", text)
  text = " ".join(text.split()).strip(" .\"'*")
  if text[:1] + text[-1:] == "()" and "(" not in text[1:]:
    text = text[1:-1].strip()
  return text if len(text) == 1 else text.casefold()
