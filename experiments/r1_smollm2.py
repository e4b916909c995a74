"""R1's pipeline on real weights and real data, a few steps of each stage: SmolLM2-135M, GSM8K, CMATH, Arena-Hard's prompts.

Claim: every stage runs on real weights, a real tokenizer, questions in two languages and general prompts, end to end. It
claims no more: a model of this size hardly solves GSM8K, and a few steps teach it nothing.

    python -m r1jax run experiments/r1_smollm2.py --set weights=DIR [--stage NAME]

DIR: a hub folder of SmolLM2-135M-Instruct. Data below the working directory, or where --set stages.NAME... points:
data/gsm8k/train.jsonl, data/cmath/test.jsonl, data/arena_hard_v0.1/question.jsonl. --stage runs up to and with a stage.
Hardware: two CPU cores, 12 GB of memory. Time: about half an hour. The run in experiments/results/r1_smollm2 was killed once
and resumed, beside other jobs; its r1_zero stood still for seven of its eleven minutes.
Expected: of 384 cold-start responses 4 are kept and of 384 of the rejection stage 10, most others being wrong; 24 pairs
and 122 safety labels, 19 of them unsafe, on which the reward models take 9 and 12 steps; RL stage 2 takes 3, two with
Arena-Hard's prompts and requests to be refused. pass@1 of 16 held-out questions is 0 (0 to 0.19) before and after.

Judges are rules, since no model that could judge fits beside it: tidiness decides pairs, a list of words safety
(r1jax/curation/judges.py); r1_qwen2p5_32b.py has judges behind an endpoint. Numbers are ours where no source is given.
"""
import dataclasses

from r1jax.config import Schedule
from r1jax.curation.datasets import Rows
from r1jax.curation.filters import Filters
from r1jax.curation.judges import TidinessJudge, WordListJudge
from r1jax.data.questions import Generated, Jsonl
from r1jax.data.requests import UNSAFE
from r1jax.data.templates import Template
from r1jax.losses.reward_model import RewardKind
from r1jax.models.config import Compute
from r1jax.models.presets import SMOLLM2_135M
from r1jax.sampling.choice import Sampling
from r1jax.stages.compare import Benchmark, Compare
from r1jax.stages.context import EXPERIMENT, Experiment
from r1jax.stages.curate import Curate
from r1jax.stages.draws import Draws
from r1jax.stages.evaluate import HeldOut
from r1jax.stages.general import General, ModelReward
from r1jax.stages.grpo import GRPO
from r1jax.stages.preferences import Preferences, SafetyLabels
from r1jax.stages.reward_model import RewardModel
from r1jax.stages.sft import SFT
from r1jax.training.optimizer import AdamW

PROMPT = Template(
  "Q: Max has 6 nuts and gets 3 more. How many nuts does Max have?\n"
  "<think> 6 + 3 = 9 </think> <answer> 9 </answer>\n"
  "Q: Kim has 8 keys and gives away 2. How many keys does Kim have?\n"
  "<think> 8 - 2 = 6 </think> <answer> 6 </answer>\n"
  "Q: {question}\n", prefill="<think>")
PLAIN = Template("Q: {question}\nA:")  # behind worked sums, a request for weapons is answered with a sum

GSM8K = Jsonl("data/gsm8k/train.jsonl", answer_pattern="#### (.+)", remove_commas=True, max_rows=200)
CMATH = Jsonl("data/cmath/test.jsonl", language="zh", max_rows=200)
MATHS = (GSM8K, CMATH)
# Its prompts have no answers: the field is there to name what they are about.
ARENA_HARD = Jsonl("data/arena_hard_v0.1/question.jsonl", question_field="prompt", answer_field="cluster", kind="helpful",
                   max_rows=60, max_characters=400)
TO_REFUSE = Generated("requests", count=60, parameters={"kind": "safety"})
UNSAFE_WORDS = tuple(word for category in UNSAFE.values() for language in category for word in language)
LENGTHS = {"max_prompt_length": 240, "max_length": 304}

r1_zero = GRPO(
  name="r1_zero",
  questions=MATHS,
  template=PROMPT,
  stop=("\n",),
  held_out=HeldOut(questions=8),
  optimizer=AdamW(lr=7e-6),
  steps=2,
  questions_per_step=2,
  group_size=4,
  minibatches=1,
  max_prompt_length=LENGTHS["max_prompt_length"],
  max_length=Schedule({0: LENGTHS["max_length"]}),
  checkpoint_every=1,
)
draws = Draws(MATHS, count=48, samples=8, template=PROMPT, batch=8, stop=("\n",), **LENGTHS)
cold_start_data = Curate(name="cold_start_data", start="r1_zero", draws=draws, filters=Filters(repetition=0.5),
                         per_question=2)
cold_start = SFT(name="cold_start", start=EXPERIMENT, documents=Rows("cold_start_data"), template=PROMPT, epochs=2,
                 optimizer=AdamW(lr=5e-5, cosine=True, final_lr=5e-6),  # R1, V2, appendix B.4.2
                 batch_size=1, max_length=608)
rl_1 = dataclasses.replace(r1_zero, name="rl_1", start="cold_start",
                           rewards=(("accuracy", 1.0), ("format", 1.0), ("language", 1.0)))
rejection = dataclasses.replace(cold_start_data, name="rejection", start="rl_1")
sft = dataclasses.replace(cold_start, name="sft", documents=Rows("rejection"))
general_draws = dataclasses.replace(draws, questions=ARENA_HARD, count=24, samples=4)
pairs = Preferences(name="pairs", start="sft", draws=general_draws, judge=TidinessJudge(),
                    length_tolerance=2.0)  # as they come: what repeats itself is longer, and no pair would be left
helpful = RewardModel(name="helpful", start="sft", data="pairs", learns=RewardKind.PAIRWISE, reads="summary",
                      template=PROMPT,
                      optimizer=AdamW(lr=6e-6),  # R1, Nature, "Reward design"
                      batch_size=2, max_length=LENGTHS["max_length"], held_out=0.3)
safety_labels = SafetyLabels(name="safety_labels", start="sft", judge=WordListJudge(UNSAFE_WORDS),
                             draws=dataclasses.replace(general_draws, questions=TO_REFUSE, count=40,
                                                       template=PLAIN, max_prompt_length=32, max_length=64))
safety = dataclasses.replace(helpful, name="safety", data="safety_labels", learns=RewardKind.POINTWISE, reads="all",
                             template=PLAIN, max_length=64, batch_size=8)
rl_2 = dataclasses.replace(
  rl_1, name="rl_2", start="sft", steps=3,
  sampling=Sampling(temperature=0.7),  # R1, V2, section 3.2.2
  general=General((ARENA_HARD, TO_REFUSE), share=Schedule({0: 0.0, 1: 0.5}),
                  models=(ModelReward("helpful", "helpful"), ModelReward("safety", "safety"))))
evaluation = Compare(
  policies=("r1_zero", "rl_1", "rl_2"), template=PROMPT, stop=("\n",), **LENGTHS,
  benchmarks=(Benchmark("maths", MATHS, questions=16),))
experiment = Experiment(
  name="r1_smollm2", model=SMOLLM2_135M, weights="", compute=Compute(logprob_chunk=32),
  stages=(r1_zero, cold_start_data, cold_start, rl_1, rejection, sft, pairs, helpful, safety_labels, safety, rl_2,
          evaluation))

# A minute on a CPU: a random model of two layers over bytes; no weights, no files, nothing to learn.
SUMS = Generated("sums", count=200)
smoke = dataclasses.replace(
  experiment, name="r1_smollm2_smoke", weights=None, tokenizer="bytes",
  model=dataclasses.replace(SMOLLM2_135M, vocab_size=258, d_model=48, num_layers=2, num_heads=3, num_kv_heads=1,
                            head_dim=16, d_ff=64),
  stages=(dataclasses.replace(r1_zero, questions=SUMS, group_size=2, max_prompt_length=306, max_length=Schedule({0: 322})),
          dataclasses.replace(evaluation, policies=("r1_zero",), max_prompt_length=306, max_length=322,
                              benchmarks=(Benchmark("sums", SUMS, questions=8),))))
