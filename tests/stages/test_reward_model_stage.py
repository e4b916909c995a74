"""Reward models from data set to use: what they read, how they learn, resume and are loaded, and what they refuse."""

import dataclasses
import json
import random

import jax
import numpy as np
import pytest
from tiny import eight_devices, one_device, quick_compiles, random_params

from r1jax.data.templates import Template
from r1jax.data.tokenizer import fingerprint, word_level_tokenizer
from r1jax.errors import InputError
from r1jax.losses.reward_model import RewardKind
from r1jax.models.config import Compute, ModelConfig
from r1jax.plan.programs import programs
from r1jax.stages import model_rewards, reward_model, supervised
from r1jax.stages.context import DATA, REPORT, Context, Experiment
from r1jax.stages.model_rewards import ModelScorer, Whitening, text_to_score
from r1jax.stages.reward_model import RewardModel, load_reward_model
from r1jax.training.checkpoint import Checkpoints
from r1jax.training.metrics import read_metrics
from r1jax.training.optimizer import AdamW
from r1jax.training.reward_model import init_reward_params

compile_quickly = pytest.fixture(scope="module", autouse=True)(quick_compiles)

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
NAMES = tuple(f"q{i}" for i in range(40))
WORDS = (*NAMES, "ask", "good", "bad", "hmm", "well", *TAGS)
TOKENIZER = word_level_tokenizer(WORDS)
MODEL = ModelConfig(family="llama", vocab_size=64, d_model=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8,
                    d_ff=48, max_position=40)
PROMPT = Template("ask {question}", prefill=" <think>")


@dataclasses.dataclass(frozen=True)
class Made:
  """A stage that has left something."""

  name: str
  kind: str = DATA
  start: None = None

  def inputs(self):
    return ()

  def check(self, experiment):
    pass

  check_mesh = check_data = run = check


def stage(learns=RewardKind.PAIRWISE, **changes) -> RewardModel:
  settings = {"data": "made", "learns": learns, "reads": "summary", "optimizer": AdamW(lr=1e-2), "template": PROMPT,
              "batch_size": 8, "max_length": 24, "held_out": 0.25, "epochs": 2, "checkpoint_every": 3, "log_every": 2}
  return RewardModel(**{**settings, **changes})


def experiment(of: RewardModel, kind=DATA) -> Experiment:
  return Experiment(name="test", model=MODEL, tokenizer=("<pad>", "<eos>", *WORDS), stages=(Made("made", kind), of))


def response(thought: str, summary: str) -> str:
  return f"<think> {thought} </think> <answer> {summary} </answer>"


def pairs(flipped: float = 0.0, count: int = 96) -> list[dict]:
  """The better response has the more "good" in its summary; in some the label is the wrong way round."""
  rng, rows = random.Random(1), []
  for i in range(count):
    thoughts = [rng.choice(("hmm", "well hmm", "hmm hmm well")) for _ in range(2)]
    texts = [(response(thoughts[0], "good good hmm"), 1.0), (response(thoughts[1], "bad good well"), 0.25)]
    chosen, rejected = texts if rng.random() >= flipped else texts[::-1]
    rows.append({"id": str(i), "question": NAMES[i % 40], "language": "en", "kind": "helpful", "chosen": chosen[0],
                 "rejected": rejected[0], "preference_chosen": chosen[1], "preference_rejected": rejected[1]})
  return rows


def labels(count: int = 96) -> list[dict]:
  """A response is unsafe when its chain of thought is."""
  return [{"id": str(i), "question": NAMES[i % 40], "language": "en", "kind": "safety", "safe": i % 3 > 0,
           "response": response("hmm bad" if i % 3 == 0 else "hmm well", "good")} for i in range(count)]


def context(of: RewardModel, run_dir, rows=None) -> Context:
  if rows is not None:
    (run_dir / "datasets").mkdir(exist_ok=True)
    (run_dir / "datasets" / "made.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  mesh = one_device()
  return Context(experiment=experiment(of), run_dir=run_dir, mesh=mesh, tokenizer=TOKENIZER, model=MODEL,
                 params=random_params(MODEL, mesh), key=jax.random.key(0))


def run(of: RewardModel, run_dir, rows=None) -> dict:
  with jax.set_mesh(one_device()):
    return of.run(context(of, run_dir, rows))


# What is read


@pytest.mark.parametrize(("text", "summary"), [
  (response("hmm", "good"), "good"),
  ("hmm </think> good", "good"),  # the opening tag was in the prompt
  ("<think> hmm </think> well <answer> good </answer>", "well  good"),
  ("<think> bad </think> hmm </think> good", "good"),
  ("hmm <answer> good", "good"),
  ("<think> hmm", ""),  # cut within the thought
  ("<think> hmm <answer> good", "good"),
  ("good", ""),
  ("", ""),
])
def test_the_summary_is_what_follows_the_thought(text, summary):
  assert text_to_score(text, "summary") == summary
  assert text_to_score(text, "all") == text


def test_the_summary_is_what_the_thought_of_the_language_reward_leaves_over():
  from r1jax.rewards.language import thought_of
  rng = random.Random(0)
  for _ in range(2000):
    words = [rng.choice((*TAGS, "a", "b")) + str(i) for i in range(rng.randint(0, 8))]  # a number tells them apart
    text = " ".join(word if word[0] != "<" else word.rstrip("0123456789") for word in words)
    assert not set(text_to_score(text, "summary").split()) & (set(thought_of(text).split()) - set(TAGS)), text


def scorer(reads="summary", mesh=None, max_length=None, model=MODEL) -> ModelScorer:
  return ModelScorer(model, Compute(), TOKENIZER, PROMPT, mesh or one_device(), reads, max_length)


def a_model(mesh) -> dict:
  params = init_reward_params(random_params(MODEL, mesh), MODEL, mesh)
  weight = np.random.default_rng(2).standard_normal(MODEL.d_model).astype(np.float32)
  head = {**params["head"], "weight": jax.device_put(weight, params["head"]["weight"].sharding)}
  return {**params, "head": head}


def scored(responses, questions=None, **settings):
  mesh = settings.pop("mesh", one_device())
  with jax.set_mesh(mesh):
    return scorer(mesh=mesh, **settings).scores(a_model(mesh), questions or list(NAMES[:len(responses)]), responses)


def test_the_helpful_score_is_bit_for_bit_the_same_whatever_was_thought():
  thoughts = ("hmm", "bad bad bad", "well " * 20, "good <answer> bad </answer>", "hmm </think> bad")
  found = scored([response(thought, "good well") for thought in thoughts], ["q0"] * 5)
  # To the bit in the same slots of the same rows; in others they are rounded in another order.
  np.testing.assert_array_equal(found, scored([response("hmm", "good well")] * 5, ["q0"] * 5))
  np.testing.assert_allclose(found, found[0], atol=1e-6)
  other = scored([response("hmm", summary) for summary in ("good well", "well good", "bad")], ["q0"] * 3)
  assert len(set(other.tolist())) == 3


def test_the_safety_score_reads_the_thought():
  found = scored([response(thought, "good") for thought in ("hmm", "bad", "hmm bad")], ["q0"] * 3, reads="all")
  assert len(set(found.tolist())) == 3


def test_the_question_counts():
  assert len(set(scored([response("hmm", "good")] * 3).tolist())) == 3


@pytest.mark.parametrize("reads", ["summary", "all"])
def test_the_prefill_may_stand_before_a_response_or_not(reads):
  whole = [response("hmm", "good"), response("well bad", "bad well")]
  sampled = [text.removeprefix("<think>") for text in whole]
  np.testing.assert_array_equal(scored(whole, reads=reads), scored(sampled, reads=reads))


def test_neither_rows_nor_devices_nor_longer_neighbours_change_a_score(monkeypatch):
  texts = [response("hmm " * n, "good " * n) for n in (1, 3, 2, 5, 4)]
  expected = scored(texts)
  assert expected.shape == (5,) and expected.dtype == np.float32
  np.testing.assert_allclose(scored(texts[::-1], list(NAMES[4::-1]))[::-1], expected, atol=1e-5)
  np.testing.assert_allclose(scored(texts, mesh=eight_devices()), expected, atol=1e-5)
  longer = scored([*texts, response("hmm", "well " * 30)])
  np.testing.assert_allclose(longer[:5], expected, atol=1e-5)
  for name, value in (("SHORTEST", 16), ("MICROBATCH_TOKENS", 16)):  # a row a call, two responses in it at most
    monkeypatch.setattr(model_rewards, name, value)
  np.testing.assert_allclose(scored(texts), expected, atol=1e-5)


def test_swapping_two_answers_swaps_their_scores_and_nothing_else():
  a, b = response("hmm", "good well"), response("hmm", "bad good")
  there, back = scored([a, b], ["q0", "q0"]), scored([b, a], ["q0", "q0"])
  assert there[0] != there[1]
  np.testing.assert_allclose(there, back[::-1], atol=1e-6)


def test_few_shapes_are_scored(monkeypatch):
  shapes = set()

  def record(params, tokens, positions, segment_ids, **_):
    shapes.add(tokens.shape)
    return np.zeros(tokens.shape, np.float32)
  monkeypatch.setattr(model_rewards, "scores_of_rows", record)
  for longest in (*range(1, 257, 9), *range(54, 64), *range(118, 128), *range(246, 257)):
    scored([response("", "good " * n) for n in (1, longest)], ["q0", "q1"],
           model=dataclasses.replace(MODEL, max_position=300))
  assert shapes == {(20, 64), (10, 128), (5, 256), (2, 512)}  # powers of two, in rows that make 1,280 slots


def test_too_long_a_response_loses_its_beginning():
  end = "hmm </think> bad good"
  question = ["q0"]
  cut = scored(["well " * 30 + end], question, reads="all", max_length=8)
  # 8 slots: "ask", the question and the prefill, and of the response "</think> bad good", "hmm" and the stop token
  np.testing.assert_array_equal(cut, scored([end], question, reads="all", max_length=8))
  assert cut != scored(["well " + end], question, reads="all", max_length=12)
  with pytest.raises(InputError, match="max_length: 3. A prompt has 3 tokens"):
    scored(["good"], question, max_length=3)


def test_scorers_refuse_bad_settings():
  for settings, message in [({"reads": "thought"}, "reads: 'thought'"), ({"max_length": 41}, "max_length: 41.*40"),
                            ({"max_length": 0}, "max_length: 0")]:
    with pytest.raises(InputError, match=message):
      scorer(**settings)
  with pytest.raises(InputError, match="2 questions and 1 responses"):
    scored(["good"], ["q0", "q1"])
  assert scored([]).shape == (0,)


def test_whitening_by_hand():
  np.testing.assert_allclose(Whitening(1.0, 2.0)(np.float32([1, 3, -5])), [0, 1, -3])
  for std in (0.0, -1.0, np.nan, np.inf):
    with pytest.raises(InputError, match="whitening"):
      Whitening(0.0, std)


# The stage


def test_a_preference_is_learnt(tmp_path):
  result = run(stage(), tmp_path, pairs(flipped=0.2))
  before, after = result["before"], result["after"]
  assert (before["eval/pair_accuracy"], before["eval/margin"], before["eval/ece"]) == (0.5, 0, 0)
  assert after["eval/preference_agreement"] == 1 and after["eval/whitening_std"] > 0
  # No model can agree with labels that are noise more often than the truth does.
  assert after["eval/pair_accuracy"] == after["eval/preference_labels"] < 1
  assert after["eval/pair_accuracy_low"] < after["eval/pair_accuracy"] < after["eval/pair_accuracy_high"]
  assert result["rows"] + result["rows_held_out"] == 96 and result["rows_too_long"] == 0
  assert result["steps"] == 2 * result["rows"] // 8
  lines = [line for line in read_metrics(tmp_path, "reward_model") if "eval/pair_accuracy" in line]
  assert [line["step"] for line in lines] == [0, result["steps"]]


def test_safety_is_learnt_from_the_thought_and_only_by_a_model_that_reads_it(tmp_path):
  found = {}
  for reads in ("all", "summary"):
    (tmp_path / reads).mkdir()
    found[reads] = run(stage(RewardKind.POINTWISE, reads=reads), tmp_path / reads, labels())
  assert found["all"]["before"]["eval/auc"] == 0.5
  assert found["all"]["after"]["eval/auc"] == 1 and found["all"]["after"]["eval/accuracy"] > 0.9
  assert found["summary"]["after"]["eval/auc"] < 0.9


def test_the_whitening_is_that_of_the_held_out_scores(tmp_path):
  of = stage()
  result = run(of, tmp_path, pairs())
  with jax.set_mesh(one_device()):
    params, whitening = load_reward_model(tmp_path, "reward_model", MODEL, one_device(), TOKENIZER)
    found = of.scorer(MODEL, Compute(), TOKENIZER, one_device())
    data = of.split(pairs(), found)
    rows = [row for row in pairs() if reward_model.split_of(f"reward model: {row['question']}", 0.25) != "train"]
    texts = [(row["question"], row[name]) for row in rows for name in ("chosen", "rejected")]
    scores = found.scores(params, *zip(*texts, strict=True))
  assert len(data.held_out) == len(rows) == result["rows_held_out"]
  # Scores come from calls of another size, and their mean is near 0: each is rounded at their own size.
  expected = scores.astype(np.float64)
  np.testing.assert_allclose([whitening.mean, whitening.std], [expected.mean(), expected.std()], atol=1e-6 * expected.std())
  np.testing.assert_allclose([whitening(scores).mean(), whitening(scores).std()], [0, 1], atol=1e-5)


class Killed(Exception):
  pass


class Saving(Checkpoints):
  """Checkpoints that are whole when save returns: unlike a process, an exception does not end a save under way."""

  def save(self, *arguments):
    super().save(*arguments)
    self._manager.wait_until_finished()


def test_a_killed_stage_ends_as_one_that_was_left_alone(tmp_path, monkeypatch):
  of, rows = stage(microbatch_tokens=96), pairs(0.2)  # two rows
  folders = tmp_path / "whole", tmp_path / "killed"
  for folder in folders:
    folder.mkdir()
  expected = run(of, folders[0], rows)
  batch, calls, microbatches = RewardModel.batch, 0, set()

  def dies(*arguments, **settings):
    nonlocal calls
    calls += 1
    if calls in (2, 7):  # before the first checkpoint and, of the next process, after it
      raise Killed
    made = batch(*arguments, **settings)
    microbatches.add(len(made))
    return made

  monkeypatch.setattr(supervised, "Checkpoints", Saving)
  monkeypatch.setattr(RewardModel, "batch", dies)
  for saved in (None, 3):
    with pytest.raises(Killed):
      run(of, folders[1], rows)
    assert Checkpoints(folders[1] / "checkpoints" / of.name).latest() == saved
  for _ in range(2):  # the second time the last checkpoint is there, and only summary.json was not
    assert run(of, folders[1]) == expected
  assert max(microbatches) > 1
  logs = [[{k: v for k, v in line.items() if not k.startswith("time/")} for line in read_metrics(folder)]
          for folder in folders]
  assert logs[0] == logs[1] and len(logs[0]) > 5
  with jax.set_mesh(one_device()):
    (a, one), (b, other) = (load_reward_model(folder, of.name, MODEL, one_device(), TOKENIZER) for folder in folders)
  assert one == other
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_an_unfinished_missing_or_foreign_reward_model_is_not_loaded(tmp_path, monkeypatch):
  mesh = one_device()
  with pytest.raises(InputError, match="no reward model here"):
    load_reward_model(tmp_path, "reward_model", MODEL, mesh, TOKENIZER)
  evaluate = RewardModel.evaluate

  def dies(self, params, scorer, held_out):
    found = evaluate(self, params, scorer, held_out)
    if found["eval/margin"]:  # not before training
      raise Killed
    return found

  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(supervised, "Checkpoints", Saving)
    patch.setattr(RewardModel, "evaluate", dies)
    run(stage(), tmp_path, pairs())
  with pytest.raises(InputError, match="not the last checkpoint"):
    load_reward_model(tmp_path, "reward_model", MODEL, mesh, TOKENIZER)
  run(stage(), tmp_path)
  with pytest.raises(InputError, match="of another tokenizer"):
    load_reward_model(tmp_path, "reward_model", MODEL, mesh, word_level_tokenizer(WORDS[::-1]))
  load_reward_model(tmp_path, "reward_model", MODEL, mesh, word_level_tokenizer(WORDS))


def test_fingerprints_tell_tokenizers_apart():
  known = fingerprint(TOKENIZER)
  assert len(known) == 16 and known == fingerprint(word_level_tokenizer(WORDS))
  assert known != fingerprint(word_level_tokenizer(WORDS, stop_tokens=("<end>",)))
  assert known != fingerprint(word_level_tokenizer(WORDS[::-1]))


def split(rows, of=None):
  return (of or stage()).split(rows, scorer())


def test_rows_that_are_too_long_are_counted_and_left_out():
  long = [{**row, "rejected": response("hmm", "bad " * 30)} for row in pairs()[:7]]
  found = split(long + pairs()[7:])
  assert found.too_long == 7 and len(found.training) + len(found.held_out) == 89


def test_no_question_is_on_both_sides():
  found = split(pairs())
  sides = [{example.sequences[0][1] for example in side} for side in (found.training, found.held_out)]
  assert not sides[0] & sides[1] and len(sides[0]) + len(sides[1]) == 40


@pytest.mark.parametrize(("rows", "of", "message"), [
  ([], stage(), "no rows"),
  (pairs()[:8], stage(), "of 8 rows to train on .*batch_size below 8"),
  (pairs(), stage(max_length=4), r"0 of 96 rows to train on and 0 held out \(96 too long\)"),
  (pairs(), stage(held_out=1e-9), "0 held out.*held_out above"),
  (labels(), stage(), r"row 1: fields \['id'.*pairwise needs the texts question, chosen, rejected"),
  (pairs(), stage(RewardKind.POINTWISE), "pointwise needs the texts question, response and safe"),
  ([{**row, "safe": 1} for row in labels()], stage(RewardKind.POINTWISE), "row 1.*true or false"),
  ([{**row, "safe": True} for row in labels()], stage(RewardKind.POINTWISE), "rows to train on are labelled safe"),
  ([{**row, "safe": False} for row in labels()], stage(RewardKind.POINTWISE), "rows to train on are labelled unsafe"),
])
def test_a_data_set_that_cannot_be_learnt_from_is_refused(rows, of, message):
  with pytest.raises(InputError, match=message):
    split(rows, of)


@pytest.mark.parametrize(("changes", "message"), [
  ({"batch_size": 0}, "batch_size: 0"), ({"epochs": 0}, "epochs: 0"),
  ({"microbatch_tokens": 0}, "microbatch_tokens: 0.*at least 1"),
  ({"max_length": 41}, "max_length: 41.*max_position 40"), ({"reads": "thought"}, "reads: 'thought'.*'summary' or 'all'"),
  ({"held_out": 1.0}, "held_out: 1.0"), ({"learns": "pairwise"}, "learns: 'pairwise'.*RewardKind"),
])
def test_an_impossible_stage_is_refused(changes, message):
  with pytest.raises(InputError, match=f"stages.reward_model.{message}"):
    experiment(stage(**changes)).check()


def test_a_stage_that_makes_no_data_set_cannot_be_read():
  with pytest.raises(InputError, match="data: 'made'"):
    stage().check(experiment(stage(), kind=REPORT))
  experiment(stage()).check()
  with pytest.raises(InputError, match="reads 'other', which is no earlier stage"):
    experiment(stage(data="other")).check()


def test_any_mesh_shares_a_batch_of_any_size_and_a_pair_shares_a_row():
  of = stage(batch_size=3, microbatch_tokens=1)
  of.check_mesh(eight_devices())
  examples = split(pairs(), of).training[:3]
  (rows,) = of.batch(examples, TOKENIZER.pad_id, parts=4)
  assert rows.tokens.shape == (4, 48)
  np.testing.assert_allclose(rows.weights[rows.weights > 0], 1 / 3, rtol=1e-6)

  def ending(row, slot):
    return tuple(rows.tokens[row, slot - rows.positions[row, slot]:slot + 1].tolist())
  found = [(ending(row, rows.partner[row, slot]), ending(row, slot)) for row, slot in np.argwhere(rows.weights)]
  assert sorted(found) == sorted(tuple(map(tuple, e.sequences)) for e in examples), "weighted where the rejected one ends"


def test_a_word_that_is_unknown_is_refused():
  with pytest.raises(InputError, match="unknown word 'Assistant:'"):
    stage(template=Template("{question} Assistant:")).check_data(TOKENIZER)


@pytest.mark.parametrize("learns", RewardKind)
def test_its_programs_are_lowered_from_shapes_alone(learns):
  of = stage(learns, optimizer=AdamW(lr=1e-3, cosine=True))
  found = {program.name: program for program in programs(of, experiment(of), eight_devices())}
  assert found.keys() == {"init", "init_optimizer", "zeros", "accumulate", "apply", "score"}
  for name in ("accumulate", "apply", "score"):
    found[name].lower()
