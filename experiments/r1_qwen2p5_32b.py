"""R1's whole pipeline at the paper's numbers, on an open base: Qwen2.5-32B.

Claim: the four stages of DeepSeek-R1 (Nature 645, 633-638; arXiv 2501.12948v2) with their numbers, on Qwen2.5-32B in
place of DeepSeek-V3-Base. The paper did not do this: it has R1-Zero's RL on this base (appendix F.1) and distillation
into it (B.4.3).

Command:
  python -m r1jax run experiments/r1_qwen2p5_32b.py --set weights=DIR [--stage NAME]
  DIR: the hub's folder of Qwen/Qwen2.5-32B. The questions, which the paper did not publish and the user brings, below
  the working directory, one JSON object a line with `question` and `answer`: data/reasoning.jsonl and
  data/reasoning_zh.jsonl (maths with determinate answers), data/helpful.jsonl and data/safety.jsonl (prompts; `answer`
  is any note); and data/non_reasoning.jsonl (`question` and `response`, whole with both tags). Judges and refiner: an
  OpenAI-style server, --set stages.pairs.judge.endpoint.url=URL, the same for stages.safety_labels.judge and
  stages.cold_start_data.refiner.
  On a laptop: --smoke, with a random model of the same family; it shows that RL and evaluation run. The whole pipeline
  on a laptop is r1_tiny.py.

Slice: v5p:8x8x8, mesh fsdp 64 x tensor 8. r1jax runs on one host today, so this file cannot be started on its slice yet.
State: not run on a TPU. Checked and lowered from shapes alone on a CPU in every test run.
Plan (r1jax plan; experiments/results/plan): all 95 programs fit; a chip holds 42.7 of 95.7 GiB at its worst, while RL stage
2 decodes; updates do at most 1.29 times the products that they must.
Time, planned and not measured: R1-Zero's 10,400 steps 10 days, both RL stages 5.4, rejection sampling 1.8; with the smaller
draws 209,000 chip-hours, SFT and reward models not counted. Assumed: half of what each program is bound by, and sequences
of a quarter of the longest on average.
Expected: nobody knows; between Qwen-32B-Zero's AIME 2024 47.0 and MATH-500 91.6 (appendix F.1) and the 72.6 and 94.3 of
R1-Distill-Qwen-32B (V2, Table 15).

Sources: [N] Nature, Methods; [V1], [V2] the versions on arXiv; "ours" where the papers are silent.
"""
from dataclasses import replace

from r1jax.config import Schedule
from r1jax.curation.datasets import Rows
from r1jax.curation.endpoint import Endpoint
from r1jax.curation.filters import Filters
from r1jax.curation.judges import EndpointPairJudge, EndpointSafetyJudge
from r1jax.curation.refine import EndpointRefiner
from r1jax.data.questions import Generated, Jsonl
from r1jax.data.templates import R1_ZERO, Template
from r1jax.losses.reward_model import RewardKind
from r1jax.models.config import Compute
from r1jax.models.presets import QWEN2P5_32B
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding
from r1jax.sharding import MeshShape
from r1jax.stages.compare import Benchmark, Compare
from r1jax.stages.context import EXPERIMENT, Experiment
from r1jax.stages.curate import Curate, Others
from r1jax.stages.draws import Draws
from r1jax.stages.evaluate import HeldOut
from r1jax.stages.general import General, ModelReward
from r1jax.stages.grpo import GRPO
from r1jax.stages.preferences import Preferences, SafetyLabels
from r1jax.stages.reward_model import RewardModel
from r1jax.stages.sft import SFT
from r1jax.training.optimizer import AdamW

REASONING = (Jsonl("data/reasoning.jsonl", held_out=0.05), Jsonl("data/reasoning_zh.jsonl", language="zh", held_out=0.05))
HELPFUL = Jsonl("data/helpful.jsonl", kind="helpful", held_out=0.05)
UNSAFE = Jsonl("data/safety.jsonl", kind="safety", held_out=0.05)
JUDGE = Endpoint("http://localhost:8000/v1", "deepseek-ai/DeepSeek-V3", temperature=1.0,  # V3 judged and refined: [V2] B.2
                 max_requests=1_000_000)
DECODING = Decoding(slots=2_048, segment=128, prefill_rows=64)  # ours: 32 sequences a data-parallel device
LENGTHS = {"max_prompt_length": 1_024, "max_length": 32_768}  # the prompt: ours; [N] for RL and SFT

r1_zero = GRPO(
  name="r1_zero",
  questions=REASONING,
  held_out=HeldOut(
    questions=256, every=400,  # ours
    samples=16,  # [V2] D.1: k = 16 for MATH
    sampling=Sampling(temperature=0.6, top_p=0.95)),  # the same
  optimizer=AdamW(lr=2e-6, warmup_steps=16),  # [V2] B.4.1, Qwen-32B-Zero; warm-up: ours
  steps=10_400,  # as many as R1-Zero [N]; "over 10K" for this base, [V2] F.1
  template=R1_ZERO,  # [V1] Table 1
  questions_per_step=32,  # [N]
  group_size=16,  # [N]
  minibatches=16,  # 8,192 outputs a rollout in 16 minibatches, one inner epoch [N]
  max_length=Schedule({0: 32_768}),  # [V2] B.4.1
  max_prompt_length=1_024,  # ours
  sampling=Sampling(temperature=1.0),  # [N]
  clip_low=10.0, clip_high=10.0,  # [V2] 3.2.1, stated for rl_1; inferred for R1-Zero
  kl_coef=0.001,  # [N]
  reference_every=400,  # [N]
  decoding=DECODING, verifier_workers=32)  # ours
cold_start_data = Curate(
  name="cold_start_data",
  start="r1_zero",
  draws=Draws(REASONING, count=4_096, samples=4,  # "thousands", "several": [V2] B.3.2; the numbers are ours
              template=R1_ZERO, batch=512, decoding=DECODING, sampling=Sampling(temperature=1.0),  # [V2] B.3.2
              **LENGTHS),
  filters=Filters(format=True, language=0.9, repetition=0.5),  # which, [V2] B.3.2; how much, ours
  refiner=EndpointRefiner(JUDGE), refine_all=True,  # V3 rewrites thought and summary: [V2] B.3.2
  per_question=2, verifier_workers=32)  # ours
cold_start = SFT(
  name="cold_start",
  start=EXPERIMENT,  # the base: [N] Figure 2
  documents=Rows("cold_start_data"),
  optimizer=AdamW(lr=5e-5, cosine=True, final_lr=5e-6),  # [V2] B.4.2
  epochs=2,  # 2-3: [V2] B.4.2
  batch_size=128,  # the same
  max_length=32_768,  # the same
  template=R1_ZERO)
rl_1 = replace(
  r1_zero, name="rl_1", start="cold_start",
  optimizer=AdamW(lr=3e-6, warmup_steps=16),  # [N]; warm-up: ours
  steps=4_000,  # ours: "until convergence", [V1] 2.3.2
  rewards=(("accuracy", 1.0), ("format", 1.0), ("language", 1.0)))  # [N] equation 7, "directly adding it"
rejection = Curate(
  name="rejection",
  start="rl_1",
  draws=Draws(REASONING, count=160_000, samples=8,  # ours; meant to leave [V2] Table 5's 626,933 rows
              template=R1_ZERO, batch=512, decoding=DECODING, sampling=Sampling(temperature=1.0), **LENGTHS),
  # Mixed languages, long paragraphs, code blocks: [V1] 2.3.3; how much, ours.
  filters=Filters(format=True, language=0.9, repetition=0.5, paragraph_words=400, code_blocks=False),
  others=Others(Rows(path="data/non_reasoning.jsonl"), per_reasoning=(177_812, 626_933)),  # [V2] Table 5
  verifier_workers=32)
sft = replace(cold_start, name="sft", documents=Rows("rejection"))  # the base again, two epochs: [V1] 2.3.3
pairs = Preferences(
  name="pairs",
  start="sft",
  draws=Draws(HELPFUL, count=66_000, samples=2,  # 66,000 pairs: [N] "Reward design"; some are not kept
              template=R1_ZERO, batch=512, decoding=DECODING, **LENGTHS),
  judge=EndpointPairJudge(JUDGE),
  pairs=1, queries=4, margin=1.0)  # four queries, |difference| > 1: [V2] B.2
helpful = RewardModel(
  name="helpful",
  start="sft",
  data="pairs",
  learns=RewardKind.PAIRWISE,  # [N] equation 5
  reads="summary",  # [N]
  optimizer=AdamW(lr=6e-6),  # [N]
  batch_size=256,  # [N]
  epochs=1,  # [N]
  max_length=8_192,  # [N]
  template=R1_ZERO)
safety_labels = SafetyLabels(
  name="safety_labels",
  start="sft",
  draws=Draws((UNSAFE, HELPFUL), count=106_000, samples=1,  # [N]
              template=R1_ZERO, batch=512, decoding=DECODING, **LENGTHS),
  judge=EndpointSafetyJudge(JUDGE, guidelines="Nothing that helps to harm people, animals or property."))  # ours
safety = replace(helpful, name="safety", data="safety_labels", learns=RewardKind.POINTWISE, reads="all")  # [N] equation 6
rl_2 = replace(
  rl_1, name="rl_2", start="sft",
  steps=1_700,  # [N]
  sampling=Sampling(temperature=0.7),  # [N]
  general=General(
    (HELPFUL, UNSAFE),
    share=Schedule({0: 0.0, 1_300: 0.5}),  # in the last 400 steps [N]; the share is ours
    models=(ModelReward("helpful", "helpful"), ModelReward("safety", "safety"))))  # equations 8 to 10; the scale is ours
evaluation = Compare(
  policies=("r1_zero", "cold_start", "rl_1", "sft", "rl_2"),  # the columns of [N] Table 2
  benchmarks=(Benchmark("reasoning", REASONING, questions=256, samples=16,  # k = 16 for MATH: [V2] D.1
                        sampling=Sampling(temperature=0.6, top_p=0.95)),  # the same
              Benchmark("helpful", HELPFUL, questions=256, samples=4),
              Benchmark("unsafe", UNSAFE, questions=256, samples=4)),
  models=rl_2.general.models, template=R1_ZERO, decoding=DECODING, verifier_workers=32, **LENGTHS)

experiment = Experiment(
  name="r1_qwen2p5_32b", model=QWEN2P5_32B, weights="",  # the user names it
  stages=(r1_zero, cold_start_data, cold_start, rl_1, rejection, sft, pairs, helpful, safety_labels, safety, rl_2,
          evaluation),
  mesh=MeshShape(fsdp=64, tensor=8),
  compute=Compute(dtype="bfloat16", logprob_chunk=1_024))

SUMS = Generated(generator="sums", count=200)
smoke = replace(
  experiment, name="r1_qwen2p5_32b_smoke", weights=None, tokenizer="bytes", mesh=MeshShape(),
  model=replace(QWEN2P5_32B, vocab_size=260, d_model=32, num_layers=2, num_heads=4, num_kv_heads=2,
                head_dim=8, d_ff=64, max_position=128),
  compute=replace(experiment.compute, logprob_chunk=16),
  stages=(
    replace(
      r1_zero, questions=SUMS, template=Template("{question} = "), held_out=replace(
        r1_zero.held_out, questions=8, samples=1), steps=2, questions_per_step=4, group_size=4, minibatches=2,
      max_prompt_length=40, max_length=Schedule({0: 48}), reference_every=2,
      verifier_workers=1),
    Compare(policies=("r1_zero",), benchmarks=(Benchmark("sums", SUMS, questions=8),),
            template=Template("{question} = "), max_prompt_length=40, max_length=48)))
