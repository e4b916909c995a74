"""Responses of a loaded model: the sampler's own, as text, in the order of the questions, whatever they are sampled with."""
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from asked_model import CONFIG, write_model
from made_run import make_run
from tiny import one_device, quick_compiles

from r1jax.errors import InputError
from r1jax.experiment_file import load_experiment
from r1jax.hub import load
from r1jax.records import Request
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding, Sampler
from r1jax.serving import Speaker, sample

compile_quickly = pytest.fixture(scope="module", autouse=True)(quick_compiles)
QUESTIONS = ["w1 w2", "w3", "w4 w5 w6 w7", "w8"]
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  return load(write_model(tmp_path_factory.mktemp("models") / "words"), mesh=one_device())


def same(found, expected):
  assert [(r.number, r.sample, r.text, r.stopped) for r in found] == [
    (r.number, r.sample, r.text, r.stopped) for r in expected]
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_array_equal(a.tokens, b.tokens)
    np.testing.assert_allclose(a.logprobs, b.logprobs, atol=2e-5)


def test_a_response_is_what_the_sampler_samples(model):
  responses = sample(model, QUESTIONS, samples=3, max_new=12, seed=5)
  assert [(r.number, r.sample) for r in responses] == [(q, s) for q in range(4) for s in range(3)]
  sampler = Sampler(model.config, model.compute, model.mesh, Sampling(0.6, 0.95), model.tokenizer.stop_ids)
  requests = [Request(q, s, model.prompt(QUESTIONS[q]), 12) for q in range(4) for s in range(3)]
  with jax.set_mesh(model.mesh):
    episodes = [e for some in sampler.run(sampler.weights(model.params), jax.random.key(5), requests) for e in some]
  wanted = {(e.request.question_id, e.request.sample): e for e in episodes}
  for response in responses:
    episode = wanted[response.number, response.sample]
    np.testing.assert_array_equal(response.tokens, episode.tokens)
    assert response.text == model.tokenizer.response_text(episode.tokens.tolist(), episode.stopped)
    assert response.stopped == episode.stopped and max(response.tokens) < 60
  assert len({r.text for r in responses}) > 6 and any(r.stopped for r in responses) and not all(r.stopped for r in responses)


def test_slots_and_the_other_questions_do_not_change_a_response(model):
  responses = sample(model, QUESTIONS, samples=2, max_new=12)
  same(sample(model, QUESTIONS, samples=2, max_new=12, decoding=Decoding(slots=1, segment=3)), responses)
  same(sample(model, QUESTIONS[0], max_new=12), responses[:1])


def test_devices_do_not_change_a_response(model):
  everywhere = load(model.name)
  assert everywhere.mesh.size == 8
  same(sample(everywhere, QUESTIONS, max_new=12, decoding=Decoding(slots=3)), sample(model, QUESTIONS, max_new=12))


def test_the_seed_decides(model):
  assert [r.text for r in sample(model, QUESTIONS, seed=1)] != [r.text for r in sample(model, QUESTIONS, seed=2)]
  same(sample(model, QUESTIONS, seed=1), sample(model, QUESTIONS, seed=1))


def test_growth_adds_up_to_the_response(model):
  speaker = Speaker(model, decoding=Decoding(segment=4))
  growths = list(speaker.stream(speaker.requests([model.prompt(q) for q in QUESTIONS], max_new=20)))
  responses = {g.number: g.response for g in growths if g.response}
  assert len(growths) > 2 * len(responses) == 8
  for number, response in responses.items():
    own = [g for g in growths if g.number == number]
    assert "".join(g.text for g in own) == response.text and own[-1].response is response
    np.testing.assert_array_equal(np.concatenate([g.tokens for g in own]), response.tokens)


def test_a_response_may_fill_the_context_and_no_more(model):
  assert model.context == CONFIG.max_position == 64
  requests = Speaker(model).requests([(5,) * 60, (5,) * 63], max_new=50)
  assert [r.max_new for r in requests] == [4, 1]


@pytest.mark.parametrize(("arguments", "says"), [
  ({"questions": ["w1", "w2 " * 64]}, "question 2: its prompt has 64 tokens. The model takes 64"),
  ({"questions": "w1 nonsense"}, "unknown word 'nonsense'"), ({"questions": "w1", "samples": 0}, "samples: 0"),
  ({"questions": "w1", "max_new": 0}, "max_new: 0"), ({"questions": " "}, "makes no tokens"),
])
def test_a_bad_question_is_refused(model, arguments, says):
  with pytest.raises(InputError, match=re.escape(says)):
    sample(model, **arguments)


def test_the_lines_of_the_readme_answer_a_question(tmp_path, monkeypatch, capsys):
  block = re.search(r"((?:    from r1jax[^\n]*\n){2}\n(?:    [^\n]*\n){3})\n", README.read_text(encoding="utf-8"))[1]
  (tmp_path / "runs").mkdir()
  experiment = load_experiment(str(README.parent / "experiments" / "r1_zero_tiny.py"), smoke=False, settings=[])
  make_run(experiment, tmp_path / "runs" / "r1_zero_tiny", ("base", "r1_zero"))
  monkeypatch.chdir(tmp_path)
  exec(re.sub(r"^    ", "", block, flags=re.MULTILINE), {})
  assert capsys.readouterr().out.strip()
