"""What a GRPO stage writes of a rollout and its updates into metrics.jsonl and samples.jsonl."""
import numpy as np

from r1jax.rewards.score import Score, counts
from r1jax.stages.rollout import Rollout
from r1jax.training.metrics import RunLog


def rollout_metrics(rollout: Rollout, scores: list[Score], values: np.ndarray) -> dict:
  """Rewards by part, lengths and verdicts of one rollout; level/NAME: accuracy on the questions of a level. values: the
  rewards [questions, group_size]."""
  lengths, stopped = rollout.lengths, rollout.stopped
  # Of the responses that have the part: accuracy of reasoning ones, a reward model's score of its own kind.
  names = dict.fromkeys(name for s in scores for name in s.parts)
  parts = {f"reward/{name}": float(np.mean([s.parts[name] for s in scores if name in s.parts])) for name in names}
  levels: dict[str, list[float]] = {}
  for score, response in zip(scores, rollout.responses, strict=True):
    if response.question.level and "accuracy" in score.parts:
      levels.setdefault(response.question.level, []).append(score.parts["accuracy"])
  verdicts = {f"verifier/{status}": n for status, n in counts(scores).items()}
  return {
    "reward/mean": float(values.mean()), **parts, **verdicts,
    **{f"level/{level}": float(np.mean(found)) for level, found in sorted(levels.items())},
    "reward/equal_groups": float(np.mean(values.min(axis=1) == values.max(axis=1))),
    "length/mean": float(lengths.mean()), "length/stopped": float(lengths[stopped].mean()) if stopped.any() else 0.0,
    "length/truncated": float(1 - stopped.mean()), "rollout/occupancy": rollout.occupancy,
    "rollout/preempted": rollout.preempted,
  }


def log_updates(log: RunLog, step: int, updates: list[dict], shared: dict) -> None:
  """One line per update; what belongs to the whole rollout is in its first."""
  for i, metrics in enumerate(updates):
    metrics = {k: float(v) for k, v in metrics.items()}
    weight = metrics.pop("weight") or 1.0  # 0 when every response was masked out
    loss, grad_norm, gap_max = metrics.pop("loss"), metrics.pop("grad_norm"), metrics.pop("sampler_gap_max")
    gap = {f"policy/{name}": metrics.pop(name) / weight for name in ("sampler_gap", "sampler_gap_above")}
    line = {"policy/loss": loss, "policy/grad_norm": grad_norm, **{f"policy/{k}": v / weight for k, v in metrics.items()}}
    if i == 0:  # later minibatches are off-policy, and their gap is no longer that of sampler and trainer
      line |= {**gap, "policy/sampler_gap_max": gap_max, **shared}
    log.metrics(step + 1 + i, line)


def log_samples(log: RunLog, step: int, group_size: int, groups_logged: int, rollout: Rollout, scores: list[Score],
                advantages) -> None:
  """One whole response of each of groups_logged groups, spread over the questions. advantages: [N], one a response."""
  responses, groups = rollout.responses, len(rollout.responses) // group_size
  for n in range(min(groups_logged, groups)):
    i = n * groups // groups_logged * group_size
    question, episode = responses[i].question, responses[i].episode
    log.sample(step, {
      "id": question.id, "question": question.text, "answer": question.answer, "response": responses[i].text,
      "reward": scores[i].value, "parts": dict(scores[i].parts), "status": scores[i].status,
      "advantage": float(advantages[i]), "length": len(episode.tokens), "stopped": episode.stopped,
      **({"level": question.level} if question.level else {})})
