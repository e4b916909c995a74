"""What is counted in the text of a response: reflective words, mixed languages, repetition.

The words are the paper's ten (R1 in Nature, Extended Data, "self-evolution"; arXiv 2501.12948v2, appendix C), whole words in
lower or upper case. Their Chinese counterparts and the four kinds are ours. No phrase contains another one, so that nothing
is counted twice.
"""
import functools
import re

KINDS = {  # kind -> word -> its Chinese counterparts
  "pausing": {"wait": ("等等", "等一下", "且慢"), "retry": ("重试", "再试", "重新")},
  "turning": {"however": ("然而", "不过"), "but": ("但",)},
  "doubting": {"mistake": ("错误", "失误"), "error": ("误差", "差错"), "wrong": ("不对", "错了")},
  "checking": {"verify": ("验证", "验算", "核实"), "check": ("检查", "检验", "核对"), "evaluate": ("评估", "估算")},
}
WORDS = {word: phrases for words in KINDS.values() for word, phrases in words.items()}
# A pattern that begins with letters is searched for many times faster than one that begins with \b: what must not stand in
# front of the word is looked for behind it.
_PATTERNS = {word: re.compile(rf"{word}(?<![^\W_]{word})(?![^\W_])", re.ASCII) for word in WORDS}
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_HAN_OR_WORD = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]|[^\s\u3400-\u4dbf\u4e00-\u9fff]+")
_MARKUP = re.compile(r"</?[a-zA-Z_]+>|\\[a-zA-Z]+|\$[^$]*\$|```.*?```", re.DOTALL)
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ɏ]{2,}")  # one letter may be a variable
_SAME = re.compile(r"([^\s\d.=_*#-])\1{19,}")  # rules, dots and zeros are long for good reasons
MIXED = 0.1  # least share of both scripts in a response that counts as mixed: ours
GRAM, TAIL, REPEATED = 4, 200, 0.5  # n-grams of the last TAIL words, of which more than this share is a repetition: ours


@functools.lru_cache(1 << 16)  # a report reads each response for a curve and for a table
def count_words(text: str) -> dict[str, int]:
  """How often each of the paper's words occurs, with its counterparts; words that do not occur are left out."""
  text, found, ascii_only = text.lower(), {}, text.isascii()
  for word, phrases in WORDS.items():
    count = len(_PATTERNS[word].findall(text)) if word in text else 0
    count += 0 if ascii_only else sum(map(text.count, phrases))
    if count:
      found[word] = count
  return found


def script(text: str) -> str | None:
  """What a text is written in, tags, LaTeX and code aside: "han", "latin", "mixed" (each makes up a tenth or more, a Latin
  word counting as one Chinese character does), or None without words."""
  text = _MARKUP.sub(" ", text)
  han, latin = len(_HAN.findall(text)), len(_LATIN_WORD.findall(text))
  if not han + latin:
    return None
  if min(han, latin) >= MIXED * (han + latin):
    return "mixed"
  return "han" if han > latin else "latin"


@functools.lru_cache(1 << 16)  # for a curve and for the alerts
def leaves_language(question: str, response: str) -> bool:
  """Whether a response mixes Chinese and Latin script, or is in the other one than its question."""
  if question.isascii() and response.isascii():
    return False  # most of the time there is nothing to look for
  asked, found = script(question), script(response)
  return found is not None and asked != "mixed" and found != (asked or found) or found == "mixed" and asked is None


def is_repetitive(text: str) -> bool:
  """Whether the text has "!!!!", or ends in a loop: over half of the 4-grams of its last 200 words, or Chinese characters,
  occurred before among these, or one of these has twenty equal characters in a row."""
  if "!!!!" in text:
    return True
  end = text[-4_000:]
  words = (end.split() if end.isascii() else _HAN_OR_WORD.findall(end))[-TAIL:]
  if max(map(len, words), default=0) >= 20 and any(map(_SAME.search, words)):
    return True
  grams = list(zip(*(words[i:] for i in range(GRAM)), strict=False))
  return len(grams) >= 20 and len(set(grams)) < (1 - REPEATED) * len(grams)
