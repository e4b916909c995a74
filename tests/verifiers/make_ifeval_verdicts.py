"""Writes ifeval_verdicts.json: what the original's checks, as lm-eval carries them, say of ifeval_responses.py's responses.

    pip install lm-eval nltk langdetect immutabledict && python -m nltk.downloader punkt_tab
    python tests/verifiers/make_ifeval_verdicts.py DATA/ifeval/input_data_en.jsonl

For each key of the data set and each response a text such as "101/111": one digit per instruction, strict and loose.
"""
import json
import pathlib
import random
import sys
import types

import langdetect
from ifeval_responses import responses

if __name__ == "__main__":
  from lm_eval.tasks.ifeval import utils

  langdetect.DetectorFactory.seed = 0
  found = {}
  for line in pathlib.Path(sys.argv[1]).read_text(encoding="utf-8").split("\n"):
    if line.strip():
      row = json.loads(line)
      row["instruction_id_list"] = [name.removeprefix("en:") for name in row["instruction_id_list"]]
      asked = types.SimpleNamespace(**row)
      verdicts = []
      for response in responses(row):
        random.seed(0)
        strict, loose = (how(asked, response).follow_instruction_list for how in (
          utils.test_instruction_following_strict, utils.test_instruction_following_loose))
        verdicts.append("/".join("".join(str(int(each)) for each in which) for which in (strict, loose)))
      found[row["key"]] = verdicts
  lines = ",\n".join(f" {json.dumps(str(key))}: {json.dumps(verdicts)}" for key, verdicts in found.items())
  pathlib.Path(__file__).with_name("ifeval_verdicts.json").write_text("{\n" + lines + "\n}\n")
