"""The tags around the thought and the answer of a response (R1, arXiv V1, Table 1)."""

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
