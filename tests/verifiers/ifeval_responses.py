"""Responses to a row of IFEval, made by rule of its prompt and its instructions: some follow them, some nearly, some not."""
import json
import random

PROSE = """Dr. Smith of Acme Corp. went to Washington, D.C., on Jan. 5, 2021, at 9 a.m. sharp. He paid $3.50 for coffee, \
i.e. far too much! Was it worth it? "Of course it was," she said. They met Mr. O'Neil's team (the U.S.A. branch) at No. \
10... and left. NASA's EU partners agreed: UNESCO and the F.B.I. did not.

The 2nd half was calm. Visit example.com/path?x=1 for more. I can't, won't and shan't say more - it's over!! Really?! Yes.
Some said no. Others, e.g. Prof. Jones, said "maybe." Then silence fell over St. Mary's. End of story"""
LANGUAGES = {
  "en": "The weather is fine today and we are going for a walk in the old town.",
  "de": "Das Wetter ist heute schön, und wir gehen in der alten Stadt spazieren.",
  "es": "Hoy hace buen tiempo y vamos a pasear por el casco antiguo de la ciudad.",
  "pt": "Hoje o tempo está bom e nós vamos passear pela parte antiga da cidade.",
  "it": "Oggi il tempo è bello e andiamo a fare una passeggiata nella città vecchia.",
  "fi": "Tänään sää on kaunis ja lähdemme kävelylle vanhaan kaupunkiin.",
  "vi": "Hôm nay thời tiết đẹp và chúng tôi đi dạo trong khu phố cổ.",
  "sw": "Leo hali ya hewa ni nzuri na tunakwenda kutembea katika mji wa zamani.",
  "ru": "Сегодня хорошая погода, и мы идём гулять по старому городу.",
  "bg": "Днес времето е хубаво и отиваме на разходка в стария град.",
  "ko": "오늘은 날씨가 좋아서 우리는 옛 시가지로 산책을 갑니다.",
  "ar": "الطقس جميل اليوم ونحن ذاهبون في نزهة في المدينة القديمة.",
  "fa": "امروز هوا خوب است و ما برای پیاده‌روی به شهر قدیمی می‌رویم.",
  "ur": "آج موسم اچھا ہے اور ہم پرانے شہر میں سیر کے لیے جا رہے ہیں۔",
  "hi": "आज मौसम अच्छा है और हम पुराने शहर में घूमने जा रहे हैं।",
  "mr": "आज हवामान छान आहे आणि आम्ही जुन्या शहरात फिरायला जात आहोत.",
  "ne": "आज मौसम राम्रो छ र हामी पुरानो सहरमा घुम्न जाँदैछौं।",
  "bn": "আজ আবহাওয়া সুন্দর এবং আমরা পুরোনো শহরে হাঁটতে যাচ্ছি।",
  "pa": "ਅੱਜ ਮੌਸਮ ਚੰਗਾ ਹੈ ਅਤੇ ਅਸੀਂ ਪੁਰਾਣੇ ਸ਼ਹਿਰ ਵਿੱਚ ਸੈਰ ਕਰਨ ਜਾ ਰਹੇ ਹਾਂ।",
  "gu": "આજે હવામાન સારું છે અને અમે જૂના શહેરમાં ફરવા જઈ રહ્યા છીએ.",
  "ta": "இன்று வானிலை நன்றாக உள்ளது, நாங்கள் பழைய நகரத்தில் நடக்கப் போகிறோம்.",
  "te": "ఈ రోజు వాతావరణం బాగుంది మరియు మేము పాత నగరంలో నడవడానికి వెళ్తున్నాము.",
  "kn": "ಇಂದು ಹವಾಮಾನ ಚೆನ್ನಾಗಿದೆ ಮತ್ತು ನಾವು ಹಳೆಯ ನಗರದಲ್ಲಿ ನಡೆಯಲು ಹೋಗುತ್ತಿದ್ದೇವೆ.",
  "th": "วันนี้อากาศดีและเราจะไปเดินเล่นในเมืองเก่า",
}
_WORDS = ("river", "Stone", "light", "NASA", "green", "U.S.", "walks", "it's", "slowly", "naïve", "e.g.", "3.14", "END")

_SENTENCES = ("He left.", "Why?", "No. 5 won!", "Mr. Li saw it.", 'She said "go."', "It is 3.5 m.", "a. B.", "Stop... now.",
              "We met on Jan. 3.")
_ENDS = (", then.", " and so on", ".", "'s")
_MARKERS = ("P.S.", "p. s.", "PS", "P.P.S", "p.p. s")


def responses(row: dict) -> list[str]:
  """Seven responses; the same for a row whenever they are made."""
  rng = random.Random(row["key"])
  ids = [name.removeprefix("en:") for name in row["instruction_id_list"]]
  exact, over, under = (_attempt(ids, row["kwargs"], rng, shift) for shift in (0, 1, -1))
  prose = " ".join(rng.choice(PROSE.split(" ")) for _ in range(rng.choice((15, 60, 320))))
  return [exact, over, under, "Sure! Here it is:\n" + exact + "\n*I hope this helps*", prose, PROSE + "\n\n" + row["prompt"],
          rng.choice((exact.upper(), exact.lower(), prose.lower(), PROSE.upper()))]


def _attempt(ids: list[str], arguments: list[dict], rng: random.Random, shift: int) -> str:
  """A text that tries to follow each rule, with `shift` more of what is counted than was asked for."""
  text = " ".join(rng.choice(PROSE.split(". ")) for _ in range(3)) + "."
  for name, given in sorted(zip(ids, arguments, strict=True), key=lambda pair: _LAST.get(pair[0], 0)):
    text = _apply(name, {key: value for key, value in given.items() if value is not None}, text, rng, shift)
  return text


_LAST = {"combination:repeat_prompt": 8, "startend:end_checker": 5, "startend:quotation": 9, "punctuation:no_comma": 3,
         "change_case:english_capital": 4, "change_case:english_lowercase": 4, "detectable_format:json_format": 2,
         "combination:two_responses": 1, "detectable_content:postscript": 1}


def _apply(name: str, given: dict, text: str, rng: random.Random, shift: int) -> str:
  """The text, made to follow one rule; with a shift of 1 or -1, nearly."""
  match name.partition(":")[2]:
    case "existence":
      return text + " " + " and ".join(given["keywords"][:len(given["keywords"]) + min(shift, 0)])
    case "forbidden_words":
      return text if shift == 0 else f"{text} {given['forbidden_words'][0]}{'s' if shift > 0 else ','} "
    case "response_language":
      return LANGUAGES[given["language"] if shift == 0 else rng.choice(sorted(LANGUAGES))]
    case "nth_paragraph_first_word":
      parts = [f"Part {i}." for i in range(max(given["num_paragraphs"] + shift, 1))]
      place = min(given["nth_paragraph"] - 1, len(parts) - 1)
      parts[place] = rng.choice(('"', "'", "")) + given["first_word"].title() + rng.choice(_ENDS)
      return rng.choice(("\n\n", "\n\n\n\n") if shift else ("\n\n",)).join(parts)
    case "postscript":
      return text + "\n\n" + (given["postscript_marker"] if shift == 0 else rng.choice(_MARKERS))
    case "constrained_response":
      return ("My answer is yes.", "  My answer is maybe.\n", "My answer is perhaps.")[shift]
    case "json_format":
      found = json.dumps({"text": text}) if shift >= 0 else "{" + text
      return f"```{rng.choice(('json', 'JSON', ''))}\n{found}\n```" if shift else found
    case "title":
      return rng.choice(("<<A title>>\n", "<< >>\n", "<A title>\n") if shift else ("<<A title>>\n",)) + text
    case "two_responses":
      return {0: f"{text}\n******\nAnother one.", 1: f"{text}\n******\n{text}", -1: f"******{text}****** ******b"}[shift]
    case "repeat_prompt":
      return given["prompt_to_repeat"] + ("\n" if shift == 0 else rng.choice(("", ".")) + "\n") + text
    case "end_checker":
      return text + " " + given["end_phrase"] + ("", '"', " Bye.")[shift]
    case "quotation":
      return (f'"{text}"', f' "{text}"\n', f'"{text}')[shift]
    case "english_capital":
      return (text.upper(), LANGUAGES["de"].upper(), text.upper() + " x")[shift]
    case "english_lowercase":
      return (text.lower(), LANGUAGES["fi"].lower(), text.lower() + " X")[shift]
    case "no_comma":
      return text.replace(",", "") if shift <= 0 else text
  return _apply_counted(name, given, text, rng, shift)


def _apply_counted(name: str, given: dict, text: str, rng: random.Random, shift: int) -> str:
  """Of the rules that count something."""
  def count(key: str) -> int:
    less = "less than" in (given.get("relation"), given.get("let_relation"), given.get("capital_relation"))
    return max(given[key] + shift - less, 0)

  match name.partition(":")[2]:
    case "frequency":
      return text + f" {given['keyword']}{rng.choice(('', ',', 's'))}" * count("frequency")
    case "letter_frequency":
      return "".join(c for c in text if c.lower() != given["letter"].lower()) + given["letter"] * count("let_frequency")
    case "number_sentences":
      return " ".join(rng.choice(_SENTENCES) for _ in range(count("num_sentences")))
    case "number_words":
      return " ".join(rng.choice(_WORDS) for _ in range(count("num_words")))
    case "number_paragraphs":
      return rng.choice(("", "***\n")) + "\n***\n".join(text[i:i + 9] or "x" for i in range(count("num_paragraphs")))
    case "number_placeholders":
      return text + " [name of it]" * count("num_placeholders")
    case "number_bullet_lists":
      return text + "".join(f"\n{rng.choice(('* ', '- ', '  * ', '*'))}item {i}" for i in range(count("num_bullets")))
    case "number_highlighted_sections":
      return text + "".join(rng.choice((" *one*", " **two**", " *a b*")) for _ in range(count("num_highlights")))
    case "multiple_sections":
      return "".join(f"{given['section_spliter']} {i}\n{text[:20]}\n" for i in range(count("num_sections")))
    case "capital_word_frequency":
      return text.lower() + rng.choice((" NASA", " A.B.", " I", " U.S.", ' "YES."', " DON'T")) * count("capital_frequency")
  raise ValueError(name)
