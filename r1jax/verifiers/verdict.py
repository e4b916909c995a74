"""What a verifier says of one answer: whether it is right, and how that came about."""

SCORED = "scored"  # judged, right or wrong
UNPARSABLE = "unparsable"  # no answer, or nothing that the verifier can read: wrong
TIMED_OUT = "timed_out"  # the verifier was killed at its deadline: wrong
CRASHED = "crashed"  # the verifier died or raised: wrong
STATUSES = (SCORED, UNPARSABLE, TIMED_OUT, CRASHED)

Verdict = tuple[bool, str]  # (right, one of STATUSES)
