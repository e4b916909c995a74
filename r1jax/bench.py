"""`r1jax bench rollout|update|step`: what a GRPO step takes on this machine, phase by phase.

The step is the stage's own work on ids drawn at random: rollout, log-probs of the reference, packing and update, each waited
for before its clock stops. Nothing needs a tokenizer, questions or verifiers: rewards are drawn too. Left out of a stage
that has them: reward models, corrections of the sampler, and sampling ahead.
"""
import dataclasses
import math
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.config import Schedule, override, to_json
from r1jax.data.questions import Generated
from r1jax.errors import InputError
from r1jax.losses.advantages import group_advantages
from r1jax.models.config import ModelConfig
from r1jax.models.flops import flops
from r1jax.models.huggingface import config_from_folder, load
from r1jax.models.params import count_params, init_params
from r1jax.plan.programs import programs
from r1jax.records import Episode, Request
from r1jax.sampling.sampler import Sampler
from r1jax.sharding import MESH_AXES, batch_parts, make_mesh, put_batch
from r1jax.stages.context import Base, Experiment
from r1jax.stages.evaluate import HeldOut
from r1jax.stages.grpo import GRPO, OldLogprobs
from r1jax.training.logprobs import logprobs
from r1jax.training.optimizer import AdamW
from r1jax.training.pack import Packed, TokenSequence, pack, rows_for
from r1jax.training.step import init_state

PARTS = {"rollout": ("rollout",), "update": ("update",), "step": ("rollout", "update")}
PROGRAMS = {"rollout": ("prefill", "decode"), "update": ("reference_logprobs", "logprobs", "accumulate", "apply")}
PAD_ID = 0
MATMUL = 2_048  # rows and columns of the product that phases are compared with
COMPILED = "/jax/core/compile/backend_compile_duration"


@dataclass(frozen=True)
class Work:
  """What is timed: a GRPO stage of an experiment, and the model that it runs. weights: a hub folder, None for random ones.
  stop_ids: the ids that end a response; none: every response has full length."""

  experiment: Experiment
  stage: GRPO
  model: ModelConfig
  weights: str | None
  stop_ids: tuple[int, ...] = ()

  @property
  def prompts(self) -> int:
    """Questions of a rollout."""
    return self.stage.questions_per_step * self.stage.minibatches

  @property
  def max_length(self) -> int:
    """Tokens of a prompt and its longest response."""
    return int(self.stage.max_length.at(0))


def work_on_model(folder: str, prompts: int, group: int, prompt_len: int, completion_len: int,
                  settings: list[tuple[str, str]], stop_ids: tuple[int, ...]) -> Work:
  """The Work of `prompts` x `group` responses of completion_len tokens to prompts of prompt_len, by a hub folder's model.

  Hyper-parameters are those that GRPO trainers are compared with. InputError for a bad folder, number or setting.
  """
  model = config_from_folder(folder)
  sizes = {"prompts": prompts, "group": group, "prompt_len": prompt_len, "completion_len": completion_len}
  for name, value in sizes.items():
    if value < 1:
      raise InputError(f"--{name}", value, "It must be at least 1.")
  if prompt_len + completion_len > model.max_position:
    raise InputError("--prompt_len, --completion_len", f"{prompt_len} + {completion_len} tokens",
                     f"The model's context ends at max_position {model.max_position}.")
  stage = GRPO(
    name="bench", questions=Generated(), held_out=HeldOut(questions=1), steps=1, minibatches=1, questions_per_step=prompts,
    group_size=group, max_prompt_length=prompt_len, max_length=Schedule({0: prompt_len + completion_len}), clip_low=0.2,
    clip_high=0.2, optimizer=AdamW(lr=1e-6, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0, max_grad_norm=1.0))
  return work_on_stage(Experiment(name="bench", model=model, stages=(stage,), weights=folder), "bench", settings, stop_ids)


def work_on_stage(experiment: Experiment, name: str | None, settings: list[tuple[str, str]],
                  stop_ids: tuple[int, ...]) -> Work:
  """The Work of a GRPO stage at step 0: a rollout and all of its updates.

  settings: (field, value) pairs; a field is one of the stage (decoding.slots), or of the experiment (compute.remat,
  mesh.fsdp). InputError for another stage, a bad setting, or a stage that cannot work.
  """
  grpo = [s.name for s in experiment.stages if isinstance(s, GRPO)]
  if name not in grpo:
    raise InputError("--stage", repr(name), f"GRPO stages of this experiment: {', '.join(grpo) or 'none'}.")
  number = [s.name for s in experiment.stages].index(name)
  above = {f.name for f in dataclasses.fields(Experiment)} - {"name"}
  for field, value in settings:
    stage = experiment.stages[number].name
    experiment = override(experiment, field if field.split(".")[0] in above else f"stages.{stage}.{field}", value)
  # Questions are drawn here: the stage's own may be files that this machine does not have.
  stage = dataclasses.replace(experiment.stages[number], questions=Generated(), general=None)
  stages = (*experiment.stages[:number], stage, *experiment.stages[number + 1:])
  experiment = dataclasses.replace(experiment, stages=stages)
  stage.check(experiment)
  source, model = experiment.source_of(stage), experiment.model_of(stage)
  for i in stop_ids:
    if not 0 <= i < model.vocab_size:
      raise InputError("--stop_ids", i, f"Give ids of the model: 0 to {model.vocab_size - 1}.")
  if not len(prompt_ids(model, stop_ids)):
    raise InputError("--stop_ids", f"{len(set(stop_ids))} ids of {model.vocab_size}", "Leave some to make prompts of.")
  weights = source.weights or None if isinstance(source, Base) else None
  return Work(experiment, stage, model, weights, tuple(sorted(set(stop_ids))))


def prompt_ids(model: ModelConfig, stop_ids: tuple[int, ...]) -> np.ndarray:
  """The ids that prompts are made of: all but padding and stops."""
  return np.setdiff1d(np.arange(model.vocab_size), [PAD_ID, *stop_ids])


class _Clock:
  """Wall and CPU seconds (all threads) of the phases of a step, and of the whole."""

  def __init__(self):
    self.wall: dict[str, float] = {}
    self.cpu: dict[str, float] = {}

  @contextmanager
  def __call__(self, phase: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    self.wall[phase] = self.wall.get(phase, 0.0) + time.perf_counter() - wall
    self.cpu[phase] = self.cpu.get(phase, 0.0) + time.process_time() - cpu


class _Steps:
  """Steps of a Work, one after another. Use under jax.set_mesh."""

  def __init__(self, work: Work, what: str, mesh):
    self.work, self.stage, self.mesh, self.parts = work, work.stage, mesh, PARTS[what]
    self.key = jax.random.key(work.experiment.seed)
    if work.weights is not None:
      self.params = load(work.weights, work.model, mesh, jnp.float32)
    else:
      self.params = init_params(jax.random.fold_in(self.key, 0), work.model, mesh)
    if "update" in self.parts:
      self.state = init_state(self.params, self.stage.optimizer.build())
      self.reference = jax.tree.map(jnp.copy, self.params) if self.stage.kl_coef else None
      self.updater = self.stage.step(work.model, work.experiment.compute)
    jax.block_until_ready(self.params)

  def __call__(self, number: int) -> dict:
    """Step `number`: {"phases": {name: {"wall_seconds", ...}}, "occupancy", ...}."""
    clock, found, rng = _Clock(), {}, np.random.default_rng((self.work.experiment.seed, number))
    requests = self._requests(number, rng)
    with clock("step"):
      if "rollout" in self.parts:
        with clock("rollout"):
          episodes, sampler = self._rollout(requests)
        found |= {"occupancy": sampler.occupancy(), "preempted": sampler.stats["preempted"]}
      else:
        episodes = [self._made_up(r, rng) for r in requests]
      if "update" in self.parts:
        values = rng.random((self.work.prompts, self.stage.group_size), np.float32)
        packed = self._train(episodes, values, clock)
        found["padding"] = statistics.mean(p.padding for p in packed)
    lengths = np.array([len(e.tokens) for e in episodes])
    work = flops(self.work.model, self.stage.max_prompt_length, lengths)
    sampled, tokens = int(lengths.sum()), int(lengths.sum()) + len(lengths) * self.stage.max_prompt_length
    slots = sampler.stats["slot_steps"] if "rollout" in self.parts else 0
    rows = sum(m.tokens.size for p in packed for m in p.microbatches) if "update" in self.parts else 0
    found["phases"] = {}
    for phase in [p for p in ("rollout", "reference", "old", "update", "step") if p in clock.wall]:
      useful, held = (sampled, slots) if phase == "rollout" else (tokens, rows) if phase != "step" else (sampled, None)
      done = work[phase] if phase != "step" else sum(work[p] for p in clock.wall if p != "step")
      found["phases"][phase] = _rates(clock.wall[phase], clock.cpu[phase], useful, held, done)
    return found

  def _requests(self, number: int, rng: np.random.Generator) -> list[Request]:
    ids, length = prompt_ids(self.work.model, self.work.stop_ids), self.stage.max_prompt_length
    prompts = [tuple(rng.choice(ids, length).tolist()) for _ in range(self.work.prompts)]
    return [Request(number * self.work.prompts + i, sample, prompt, self.work.max_length - length)
            for i, prompt in enumerate(prompts) for sample in range(self.stage.group_size)]

  def _rollout(self, requests: list[Request]) -> tuple[list[Episode], Sampler]:
    """The episodes, in the order of the requests, and the sampler with its counts."""
    sampler = Sampler(self.work.model, self.work.experiment.compute, self.mesh, self.stage.sampling, self.work.stop_ids,
                      self.stage.decoding)
    found = [e for some in sampler.run(sampler.weights(self.params), self.key, requests) for e in some]
    return sorted(found, key=lambda e: (e.request.question_id, e.request.sample)), sampler

  def _made_up(self, request: Request, rng: np.random.Generator) -> Episode:
    """An episode of a policy that finds all ids as likely."""
    vocab, stops = self.work.model.vocab_size, self.work.stop_ids
    tokens = rng.integers(0, vocab, request.max_new, np.int32)
    ends = np.flatnonzero(np.isin(tokens, stops)) if stops else ()
    tokens = tokens[:ends[0] + 1] if len(ends) else tokens
    return Episode(request, tokens, np.full(len(tokens), -math.log(vocab), np.float32), len(ends) > 0)

  def _train(self, episodes: list[Episode], values: np.ndarray, clock: _Clock) -> list[Packed]:
    """Log-probs and updates, as the stage does them."""
    stage, size = self.stage, self.stage.questions_per_step * self.stage.group_size
    advantages = np.asarray(group_advantages(values, stage.advantage)).reshape(-1)
    with clock("update"):
      rows, parts = rows_for(stage.microbatch_tokens, self.work.max_length, batch_parts(self.mesh)), batch_parts(self.mesh)
      sequences = [TokenSequence((*e.request.prompt, *e.tokens.tolist()), len(e.request.prompt),
                                 e.stopped or not stage.mask_truncated) for e in episodes]
      starts = range(0, len(sequences), size)
      minibatches = [pack(sequences[i:i + size], self.work.max_length, rows, PAD_ID, parts) for i in starts]
    ref, old = [None] * len(minibatches), [None] * len(minibatches)
    if self.reference is not None:
      with clock("reference"):
        ref = self._logprobs(self.reference, minibatches)
    if stage.old_logprobs is OldLogprobs.TRAINER and stage.minibatches > 1:
      with clock("old"):
        old = self._logprobs(self.params, minibatches)
    with clock("update"):
      for i, (start, packed) in enumerate(zip(starts, minibatches, strict=True)):
        sampler = packed.spread([e.logprobs for e in episodes[start:start + size]])
        self.state, metrics = self.updater.update(self.state, packed.replace(
          weights=packed.weights(stage.reduction, stage.reduction_constant),
          advantages=packed.spread(advantages[start:start + size]), sampler_logprobs=sampler, ref_logprobs=ref[i],
          old_logprobs=sampler if stage.old_logprobs is OldLogprobs.SAMPLER else old[i]))
      jax.block_until_ready((self.state, metrics))
    self.params = self.state.params  # the update has donated the old ones
    return minibatches

  def _logprobs(self, params, minibatches: list[Packed]) -> list[list[np.ndarray]]:
    return jax.device_get([[logprobs(
      params, *put_batch(self.mesh, (m.tokens, m.positions, m.segment_ids)), config=self.work.model,
      compute=self.work.experiment.compute, temperature=self.stage.sampling.temperature)
      for m in packed.microbatches] for packed in minibatches])


def _rates(wall: float, cpu: float, useful: int, slots: int | None, done: float) -> dict:
  """The numbers of a phase in one step. slots: None where phases have different ones."""
  found = {"wall_seconds": wall, "cpu_seconds": cpu, "useful_tokens": useful, "useful_tokens_per_second": useful / wall}
  if slots is not None:
    found |= {"slot_tokens": slots, "slot_tokens_per_second": slots / wall}
  return found | {"flops": done, "flops_per_second": done / wall}


def run(work: Work, what: str, steps: int = 5, memory: bool = False, trace: str | None = None) -> dict:
  """One warm-up step and `steps` timed ones of "rollout", "update" (all but the rollout) or "step"; numbers for JSON.

  memory: compile the programs once more, for the sizes of their temporaries. trace: the folder for JAX's profile of one
  more step, which is not timed. InputError before anything is compiled.
  """
  if steps < 1:
    raise InputError("--steps", steps, "It must be at least 1.")
  mesh, compiled, timed = make_mesh(work.experiment.mesh), [], []
  work.experiment.check_mesh(mesh)

  def listener(event: str, seconds: float, **_) -> None:
    if event == COMPILED:
      compiled.append(seconds)
  jax.monitoring.register_event_duration_secs_listener(listener)
  try:
    with jax.set_mesh(mesh):
      one_step = _Steps(work, what, mesh)
      start = time.perf_counter()
      one_step(0)
      first, since_start, warm = time.perf_counter() - start, _process_seconds(), sum(compiled)
      for number in range(1, steps + 1):
        busy, wall, cpu = _machine_seconds(), time.perf_counter(), time.process_time()
        timed.append(one_step(number))
        others = _machine_seconds() - busy - (time.process_time() - cpu)
        timed[-1]["others_share"] = max(0.0, others / (time.perf_counter() - wall) / (os.cpu_count() or 1))
      peak, compile_seconds = _peak_mib(), sum(compiled)
      if trace:
        with jax.profiler.trace(trace):
          one_step(steps + 1)
      matmul = _matmul_flops_per_second(mesh, work.experiment.compute.dtype)
      temporaries = _temporaries(work, what, mesh) if memory else None
  finally:
    jax.monitoring.unregister_event_duration_listener(listener)
  found = _summary(timed, matmul) | {
    "matmul_flops_per_second": matmul, "first_step_seconds": first, "process_to_first_step_seconds": since_start,
    "compile_seconds": compile_seconds, "compile_seconds_in_timed_steps": compile_seconds - warm, "peak_memory_mib": peak,
    "xla_temporaries_mib": temporaries}
  return {"bench": what, **_work(work), "steps": steps, **_rounded(found), "settings": _settings(work, mesh)}


def _summary(timed: list[dict], matmul: float) -> dict:
  """Median, least and most of every number of the timed steps."""
  def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}

  phases = {}
  for phase in timed[0]["phases"]:
    steps = [step["phases"][phase] for step in timed]
    phases[phase] = {name: spread([s[name] for s in steps]) for name in steps[0]}
    phases[phase]["share_of_matmul"] = phases[phase]["flops_per_second"]["median"] / matmul
  return {"phases": phases, **{name: spread([s[name] for s in timed]) for name in timed[0] if name != "phases"}}


def _work(work: Work) -> dict:
  stage = work.stage
  return {"prompts": stage.questions_per_step, "group": stage.group_size, "minibatches": stage.minibatches,
          "prompt_len": stage.max_prompt_length, "completion_len": work.max_length - stage.max_prompt_length,
          "stop_ids": len(work.stop_ids)}


def _settings(work: Work, mesh) -> dict:
  experiment = work.experiment
  return {
    "model": to_json(work.model), "parameters": count_params(work.model), "weights": work.weights or "random",
    "stage": to_json(work.stage), "compute": to_json(experiment.compute), "decoding": to_json(work.stage.decoding),
    "mesh": dict(mesh.shape), "devices": [d.device_kind for d in mesh.devices.flat], "seed": experiment.seed,
    "cpus": os.cpu_count(), "load_average": os.getloadavg()[0],
    "versions": {"python": platform.python_version(), "jax": jax.__version__, "jaxlib": jax.lib.__version__}}


def _matmul_flops_per_second(mesh, dtype: str, rounds: int = 5) -> float:
  """FLOP/s of a product of square matrices, the best of `rounds`, one on every device at the same time."""
  place = jax.NamedSharding(mesh, jax.P(MESH_AXES))
  a = jax.device_put(np.ones((mesh.size, MATMUL, MATMUL), jnp.dtype(dtype)), place)
  product = jax.jit(lambda a, b: jnp.einsum("nij,njk->nik", a, b))
  jax.block_until_ready(product(a, a))
  seconds = []
  for _ in range(rounds):
    start = time.perf_counter()
    jax.block_until_ready(product(a, a))
    seconds.append(time.perf_counter() - start)
  return 2 * mesh.size * MATMUL**3 / min(seconds)


def _temporaries(work: Work, what: str, mesh) -> dict[str, float]:
  """MiB a device that XLA sets aside inside the programs at the longest length (of a dense cache), beside what they are
  given and what they return."""
  stage = dataclasses.replace(work.stage, max_length=Schedule({0: work.max_length}))
  experiment = dataclasses.replace(work.experiment, model=work.model, stages=(dataclasses.replace(stage, start=None),))
  names = [name for part in PARTS[what] for name in PROGRAMS[part]]
  return {program.name: program.lower().compile().memory_analysis().temp_size_in_bytes / 2**20
          for program in programs(experiment.stages[0], experiment, mesh) if program.name in names}


def _peak_mib() -> float:
  """Most memory that the process has held so far."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _process_seconds() -> float | None:
  """Since this process started; None where there is no /proc."""
  try:
    with open("/proc/self/stat", encoding="utf-8") as f:
      started = int(f.read().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
  except OSError:
    return None


def _machine_seconds() -> float:
  """CPU seconds that all processes have used since the machine started; 0 where there is no /proc."""
  try:
    with open("/proc/stat", encoding="utf-8") as f:
      user, nice, system, _, _, irq, softirq, *_ = (int(x) for x in f.readline().split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
  except OSError:
    return 0.0


def _rounded(value):
  """Floats to six digits, in a tree of dicts."""
  if isinstance(value, dict):
    return {k: _rounded(v) for k, v in value.items()}
  return float(f"{value:.6g}") if isinstance(value, float) else value


def table(found: dict) -> str:
  """What `run` found, for people."""
  lines = [f"{'phase':10} {'wall s':>8} {'min':>8} {'max':>8} {'CPU s':>8} {'useful tok/s':>13} {'slot tok/s':>11} "
           f"{'GFLOP/s':>8} {'of matmul':>9}"]
  for name, phase in found["phases"].items():
    wall, slots = phase["wall_seconds"], phase.get("slot_tokens_per_second")
    slots = "-" if slots is None else f"{slots['median']:.1f}"
    lines.append(
      f"{name:10} {wall['median']:8.3f} {wall['min']:8.3f} {wall['max']:8.3f} {phase['cpu_seconds']['median']:8.3f} "
      f"{phase['useful_tokens_per_second']['median']:13.1f} {slots:>11} "
      f"{phase['flops_per_second']['median'] / 1e9:8.1f} {phase['share_of_matmul']:9.1%}")
  shares = [f"{name} {found[name]['median']:.3g}" for name in ("occupancy", "preempted", "padding") if name in found]
  lines.append(", ".join([*shares, f"first step {found['first_step_seconds']:.1f} s",
                          f"compiling {found['compile_seconds']:.1f} s", f"peak {found['peak_memory_mib']:.0f} MiB",
                          f"matmul {found['matmul_flops_per_second'] / 1e9:.1f} GFLOP/s",
                          f"other processes {found['others_share']['median']:.0%} of the CPUs"]))
  for name, size in (found["xla_temporaries_mib"] or {}).items():
    lines.append(f"temporaries of {name}: {size:.1f} MiB")
  return "\n".join(lines)
