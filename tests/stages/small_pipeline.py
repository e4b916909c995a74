"""All of R1 in a minute: every kind of stage, on a world so small that nothing is learned well.

Not an experiment of the project.
"""
import dataclasses

from r1jax.config import Schedule
from r1jax.curation.datasets import Rows
from r1jax.curation.filters import Filters
from r1jax.curation.judges import KnownPairJudge, KnownSafetyJudge
from r1jax.curation.refine import RuleRefiner
from r1jax.data.arithmetic import ArithmeticSpec
from r1jax.data.bilingual import BilingualSpec, Corpus, glossary, vocabulary
from r1jax.data.questions import Generated
from r1jax.data.requests import Answers, KnownPreference
from r1jax.data.templates import Template
from r1jax.losses.reward_model import RewardKind
from r1jax.models.config import ModelConfig
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding
from r1jax.stages.compare import Benchmark, Compare
from r1jax.stages.context import EXPERIMENT, Base, Experiment
from r1jax.stages.curate import Curate, Others
from r1jax.stages.draws import Draws
from r1jax.stages.evaluate import HeldOut
from r1jax.stages.general import General, ModelReward
from r1jax.stages.grpo import GRPO
from r1jax.stages.preferences import Preferences, SafetyLabels
from r1jax.stages.reward_model import RewardModel
from r1jax.stages.sft import SFT, Teacher
from r1jax.training.optimizer import AdamW

CHAINS = {"fewest_terms": 2, "most_terms": 2, "largest_total": 12}
WORLD = BilingualSpec(sums=ArithmeticSpec(**CHAINS, held_out=0.4), request_share=0.4, guess_right=0.9, tidy_guess=0.9)
WORDS = ("<pad>", "<end>", *vocabulary(WORLD))
PROMPT = Template("{question}")
SUMS = Generated("bilingual_chains", count=150, held_out=0.4, parameters=CHAINS)
HELPFUL = Generated("requests", count=100, held_out=0.4, parameters={"kind": "helpful"})
UNSAFE = Generated("requests", count=60, held_out=0.4, parameters={"kind": "safety"})
LENGTHS = {"max_prompt_length": 6, "max_length": 32}
DECODING = Decoding(slots=13, segment=8)  # an odd number of slots is never halved: few programs
MODELS = (ModelReward("helpful", "helpful"), ModelReward("safety", "safety", weight=0.5, whiten=False))

base = SFT(name="base", documents=Corpus(WORLD), optimizer=AdamW(lr=1e-2, warmup_steps=10), steps=120, batch_size=16,
           max_length=40, template=PROMPT, train_on_prompt=True, checkpoint_every=60)
r1_zero = GRPO(
  questions=SUMS, template=PROMPT, held_out=HeldOut(questions=8), optimizer=AdamW(lr=1e-3), steps=4,
  questions_per_step=4, group_size=4, minibatches=2, max_prompt_length=6, max_length=Schedule({0: 32}),
  reference_every=2, decoding=DECODING, microbatch_tokens=256)
draws = Draws(SUMS, count=24, samples=4, template=PROMPT, batch=8, decoding=DECODING, **LENGTHS)
cold_start_data = Curate(name="cold_start_data", start="r1_zero", draws=draws, per_question=2,
                         filters=Filters(language=0.99), refiner=RuleRefiner(glossary()))
cold_start = SFT(name="cold_start", start=EXPERIMENT, documents=Rows("cold_start_data"), template=PROMPT, epochs=2,
                 optimizer=AdamW(lr=1e-3, cosine=True), batch_size=4, max_length=40, checkpoint_every=1)
many = dataclasses.replace(draws, questions=HELPFUL, count=128)
pairs = Preferences(name="pairs", start="base", draws=many, pairs=3, judge=KnownPairJudge(),
                    known=KnownPreference(), margin=0.5, length_tolerance=0.5)
helpful = RewardModel(name="helpful", start="base", data="pairs", learns=RewardKind.PAIRWISE, reads="summary",
                      template=PROMPT, optimizer=AdamW(lr=1e-3), batch_size=4, max_length=32, held_out=0.2,
                      checkpoint_every=2)
safety_labels = SafetyLabels(name="safety_labels", start="base", judge=KnownSafetyJudge(),
                             draws=dataclasses.replace(draws, questions=(UNSAFE, HELPFUL), count=32))
safety = dataclasses.replace(helpful, name="safety", data="safety_labels", learns=RewardKind.POINTWISE, reads="all")
rl_2 = dataclasses.replace(
  r1_zero, name="rl_2", start="base", steps=6, sampling=Sampling(temperature=0.7),
  rewards=(("accuracy", 1.0), ("format", 1.0), ("language", 1.0)),
  general=General((HELPFUL, UNSAFE), share=Schedule({0: 0.0, 2: 0.5}), models=MODELS, known=KnownPreference()))
rejection = Curate(name="rejection", start="rl_2", draws=draws, filters=Filters(),
                   others=Others(Answers(held_out=0.4), per_reasoning=(1, 2)))
student = SFT(name="student", start=Base(ModelConfig(
                family="llama", vocab_size=len(WORDS), d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8,
                d_ff=32, max_position=64)), documents=Rows("rejection"), template=PROMPT, epochs=2, optimizer=AdamW(lr=1e-2),
              batch_size=4, max_length=40, teacher=Teacher("rl_2", k=4), checkpoint_every=2)
evaluation = Compare(
  policies=("base", "rl_2", "student"), template=PROMPT, known=KnownPreference(), models=MODELS, decoding=DECODING,
  **LENGTHS,
  benchmarks=(Benchmark("sums", SUMS, questions=16), Benchmark("helpful", HELPFUL, questions=8, samples=2),
              Benchmark("unsafe", UNSAFE, questions=6)))
experiment = Experiment(
  name="small_pipeline", tokenizer=WORDS,
  stages=(base, r1_zero, cold_start_data, cold_start, pairs, helpful, safety_labels, safety, rl_2, rejection, student,
          evaluation),
  model=ModelConfig(family="llama", vocab_size=len(WORDS), d_model=32, num_layers=2, num_heads=2, num_kv_heads=1,
                    head_dim=16, d_ff=64, max_position=64))
