"""Format reward of R1-Zero: the `<think>` and `<answer>` blocks (R1, arXiv V1, section 2.2.2 and Table 1)."""

from r1jax.verifiers.tags import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN


def format_reward(response: str, prefill: str = "") -> float:
  """1.0 when the text is `<think>..</think> <answer>..</answer>` and nothing else, otherwise 0.0.

  The text is `prefill + response`, so a template that already ends with `<think>` is judged as a whole.
  Each of the four tags occurs exactly once, in this order; outside the blocks there is only whitespace.
  What stands inside the blocks, or whether anything does, is not judged: an empty answer earns nothing from
  accuracy. The papers state neither the check nor its value; this reading is ours. Linear in the length of
  the text.
  """
  text = (prefill + response).strip()
  if any(text.count(tag) != 1 for tag in (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)):
    return 0.0
  if not (text.startswith(THINK_OPEN) and text.endswith(ANSWER_CLOSE)):
    return 0.0
  after_think = text.split(THINK_CLOSE)[1]
  return 1.0 if after_think.lstrip().startswith(ANSWER_OPEN) else 0.0
