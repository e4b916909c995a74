"""The clients that people use, where they are installed, against a live server."""

import numpy as np
import pytest
from served import KEY, live, speaker_of
from tiny import quick_compiles

from r1jax.records import Request
from r1jax.sampling.choice import Sampling
from r1jax.sampling.sampler import Decoding
from r1jax.serving import Speaker

pytestmark = pytest.mark.slow
compile_quickly = pytest.fixture(scope="module", autouse=True)(quick_compiles)


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
  return speaker_of(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def address(speaker):
  with live(speaker) as found:
    yield found[0]


def test_the_openai_client_streams_stops_counts_and_errs(speaker, address):
  openai = pytest.importorskip("openai")
  client = openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)
  assert [model.id for model in client.models.list()] == ["words"]
  messages = [{"role": "user", "content": "w1 w2"}]
  asked = {"model": "words", "messages": messages, "temperature": 0, "max_tokens": 12, "seed": 3}
  whole = client.chat.completions.create(**asked)
  text = whole.choices[0].message.content
  chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
  assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
  assert chunks[-1].usage == whole.usage and whole.usage.prompt_tokens == 2
  stop = text.split()[3]
  cut = client.chat.completions.create(**asked, stop=[stop])
  assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == (text[:text.find(stop)], "stop")
  scored = client.completions.create(model="words", prompt="w1 w2", max_tokens=2, echo=True, logprobs=2, temperature=0)
  assert len(scored.choices[0].logprobs.token_logprobs) == 4
  thought = client.chat.completions.create(**{**asked, "messages": [{"role": "user", "content": "w1 <think>"}]})
  assert thought.choices[0].message.reasoning_content and not thought.choices[0].message.content
  for change, error in (({"model": "x"}, openai.NotFoundError), ({"max_tokens": 64}, openai.BadRequestError),
                        ({"messages": [{"role": "user", "content": "w1 " * 20_000}]}, openai.APIStatusError)):
    with pytest.raises(error) as found:
      client.chat.completions.create(**{**asked, **change})
    assert found.value.body["message"]
  assert found.value.status_code == 413
  with pytest.raises(openai.AuthenticationError):
    openai.OpenAI(base_url=f"{address}/v1", api_key="no", max_retries=0).models.list()


def test_lm_evals_client_gets_the_samplers_text_and_the_models_logprobs(speaker, address, monkeypatch):
  clients = pytest.importorskip("lm_eval.models.openai_completions")
  from lm_eval.api.instance import Instance

  monkeypatch.setenv("OPENAI_API_KEY", KEY)
  client = clients.LocalCompletionsAPI(
    base_url=f"{address}/v1/completions", model="words", tokenizer=speaker.model.name, max_length=64)
  asks = [("w1 w2", " w3 w4"), ("w5", " w6 w7 w8")]
  found = client.loglikelihood([Instance("loglikelihood", {}, ask, i) for i, ask in enumerate(asks)])
  [first] = client.generate_until([Instance("generate_until", {}, (
    "w1 w2", {"until": ["<eos>"], "max_gen_toks": 12, "temperature": 0}), 0)])
  alone = Speaker(speaker.model, Sampling(0.0), Decoding(slots=5))
  prompt = speaker.model.prompt("w1 w2")
  [wanted] = [g.response for g in alone.stream([Request(0, 0, prompt, 12)]) if g.response]
  assert first == wanted.text
  for (value, _), (context, rest) in zip(found, asks, strict=True):
    import jax

    from r1jax.server.scoring import score

    ids = speaker.model.tokenizer.encode(context + rest)
    with jax.set_mesh(speaker.model.mesh):
      logprobs = score(speaker.model, tuple(ids)).logprobs
    np.testing.assert_allclose(value, logprobs[len(context.split()):].sum(), atol=1e-4)
