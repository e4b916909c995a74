"""Export of a run: what transformers and load() find in the folder, and that it appears whole or not at all."""
import dataclasses
import json
import os
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from made_run import experiment_of, make_run
from tiny import one_device

from r1jax.data.templates import Template
from r1jax.errors import InputError
from r1jax.experiment_file import load_experiment
from r1jax.hub import load
from r1jax.hub.export import export
from r1jax.launch import main
from r1jax.models import huggingface
from r1jax.sampling.choice import Sampling
from r1jax.serving import sample

SMALL = experiment_of("small_run")
ROOT = Path(__file__).parents[2]
SMOLLM2 = Path(os.environ.get("R1JAX_SMOLLM2", ""))
# Five rows of the vocabulary have no word; a random model would say them. A stop text besides the stop token.
PADDED = dataclasses.replace(
  SMALL, model=dataclasses.replace(SMALL.model, vocab_size=len(SMALL.tokenizer) + 5, tie_embeddings=True),
  stages=(SMALL.stage("base"), dataclasses.replace(SMALL.stage("r1_zero"), stop=("</answer>",),
                                                   template=Template("1 + {question} =", prefill=" <think>"))))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  make_run(PADDED, tmp_path_factory.mktemp("runs") / "small", ("base", "r1_zero"))
  datasets = tmp_path_factory.getbasetemp() / "runs0" / "small" / "datasets"
  datasets.mkdir()
  (datasets / "made.jsonl").write_text('{"question": "1"}\n')
  (datasets / "half.partial.jsonl").write_text("{")
  return load(datasets.parent, mesh=one_device())


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
  return export(model, tmp_path_factory.mktemp("out") / "small", max_shard_bytes=20_000)


def test_what_was_exported_is_loaded_again(model, exported):
  again = load(exported, mesh=one_device())
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), again.params, model.params)
  assert (again.config, again.chat_template) == (model.config, model.chat_template)
  assert again.tokenizer.stop_ids == model.tokenizer.stop_ids and len(again.tokenizer.stop_ids) == 2
  for question in ("1 + 2", "3"):
    assert again.prompt(question) == model.prompt(question)
  assert len(list(exported.glob("model-*-of-*.safetensors"))) > 2


def test_generation_ends_at_the_stop_ids_of_the_run_with_the_papers_settings(model, exported):
  generation = json.loads((exported / "generation_config.json").read_text())
  assert generation == {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "pad_token_id": 0,
                        "eos_token_id": list(model.tokenizer.stop_ids),
                        "suppress_tokens": list(range(len(SMALL.tokenizer), len(SMALL.tokenizer) + 5))}


def greedy(folder, prompts, longest):
  """What transformers generates, without the prompt."""
  transformers = pytest.importorskip("transformers")
  torch = pytest.importorskip("torch")
  theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
  with torch.no_grad():
    return [theirs.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=longest)[0, len(prompt):].tolist()
            for prompt in prompts]


def test_transformers_generates_the_same_greedy_tokens(model, exported):
  transformers = pytest.importorskip("transformers")
  questions = [f"{a} + {b}" for a in range(10) for b in (0, 9)]
  words = transformers.AutoTokenizer.from_pretrained(exported)
  prompts = [words.apply_chat_template([{"role": "user", "content": q}], add_generation_prompt=True, return_dict=False)
             for q in questions]
  assert [tuple(p) for p in prompts] == [model.prompt(q) for q in questions]
  responses = sample(model, questions, sampling=Sampling(0.0), max_new=20)
  assert [r.tokens.tolist() for r in responses] == greedy(exported, prompts, 20)
  assert len({tuple(r.tokens) for r in responses}) > 10 and any(r.stopped for r in responses)
  assert words.decode(responses[0].tokens) == model.tokenizer.decode(responses[0].tokens)


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2.joinpath("config.json").is_file(), reason="needs R1JAX_SMOLLM2")
def test_a_run_that_starts_from_smollm2_gives_transformers_greedy_tokens(tmp_path):
  experiment = load_experiment(str(ROOT / "experiments" / "r1_zero_smollm2.py"), False, [f"weights={SMOLLM2}"])
  (stage,) = experiment.stages
  make_run(experiment, tmp_path / "run", (stage.name,), params=load(SMOLLM2, mesh=one_device()).params)
  model = load(tmp_path / "run", mesh=one_device())
  folder = export(model, tmp_path / "out")
  questions = [f"Tom has {n} apples and eats {n // 2}. How many are left?" for n in range(4, 24)]
  responses = sample(model, questions, sampling=Sampling(0.0), max_new=24)
  assert [r.tokens.tolist() for r in responses] == greedy(folder, [model.prompt(q) for q in questions], 24)


def test_the_card_says_where_it_came_from(model, exported):
  card = (exported / "README.md").read_text()
  for text in ("stage `r1_zero` of the experiment `small_run` left at step 3.",
               "| base | SFT | a random initialisation | 3 steps |", "| r1_zero | GRPO | base |",
               "| hash of r1_zero | - | 0.500 (0.250 to 0.750) |", '`"</answer>"`',
               "1 + {question} = <think>", "`made.jsonl`: SHA-256 ", f"config {model.trained.about['hash']}", "jax "):
    assert text in card, text
  assert "partial" not in card and str(model.trained.run_dir.parent) not in card
  code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
  compile(code, "card", "exec")
  assert f'"{exported.name}"' in code


def test_a_base_model_is_named_without_its_folder(tmp_path):
  experiment = dataclasses.replace(SMALL, weights="/somewhere/private/Base-1B")
  make_run(experiment, tmp_path / "run", begun=("r1_zero",))
  export(load(f"{tmp_path / 'run'}:r1_zero", mesh=one_device()), tmp_path / "out")
  card = (tmp_path / "out" / "README.md").read_text()
  assert "the folder `Base-1B`" in card and "private" not in card and "before it was finished" in card


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_in_half_the_bytes(model, tmp_path, dtype):
  folder = export(model, tmp_path / "out", dtype)
  assert json.loads((folder / "config.json").read_text())["torch_dtype"] == dtype
  again = load(folder, mesh=one_device()).params
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b.astype(dtype).astype("float32"))),
               again, model.params)


def test_nothing_is_overwritten_and_nothing_half_written_stays(model, exported, tmp_path, monkeypatch):
  with pytest.raises(InputError, match="exists and is not empty"):
    export(model, exported)

  def fail(*arguments):
    raise OSError("disk full")
  monkeypatch.setattr(huggingface, "_write_safetensors", fail)
  with pytest.raises(OSError, match="disk full"):
    export(model, tmp_path / "out")
  assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused(model, exported, tmp_path):
  with pytest.raises(InputError, match="a Hugging Face folder already"):
    export(load(exported, mesh=one_device()), tmp_path / "out")
  with pytest.raises(InputError, match="max_shard_bytes: 0"):
    export(model, tmp_path / "out", max_shard_bytes=0)
  other = dataclasses.replace(model, config=dataclasses.replace(model.config, family="deepseek_v3"))
  with pytest.raises(InputError, match="can be exported yet"):
    export(other, tmp_path / "out")
  assert not list(tmp_path.iterdir())


def test_the_verb_lists_what_it_has_written(model, tmp_path, capsys):
  run, out = str(model.trained.run_dir), str(tmp_path / "out")
  assert main(["export", run, out, "--dtype", "bfloat16"]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert {Path(line.split()[-1]).name for line in lines} == {
    "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json"}
  assert main(["export", run, out]) == 2 and "exists and is not empty" in capsys.readouterr().err
  assert main(["export", run, f"{out}2", "--shard_gb", "0"]) == 2 and "--shard_gb" in capsys.readouterr().err
