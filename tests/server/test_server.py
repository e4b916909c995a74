"""A live server, asked over HTTP: what it answers is what the sampler and the trainer's log-probs say."""
import asyncio
import json
import zlib

import jax
import numpy as np
import pytest
from served import HEADERS, KEY, LIMITS, live, send, speaker_of, until
from tiny import quick_compiles

httpx = pytest.importorskip("httpx2")
from r1jax.records import Request  # noqa: E402
from r1jax.sampling import generate  # noqa: E402
from r1jax.sampling.choice import Sampling  # noqa: E402
from r1jax.sampling.sampler import Decoding  # noqa: E402
from r1jax.serving import Speaker  # noqa: E402
from r1jax.sharding import put_batch  # noqa: E402
from r1jax.training.logprobs import logprobs  # noqa: E402

compile_quickly = pytest.fixture(scope="module", autouse=True)(quick_compiles)
GREEDY = {"model": "words", "temperature": 0, "max_tokens": 12}
WARM = {"model": "words", "temperature": 1.3, "top_p": 0.9, "max_tokens": 12, "seed": 7}


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
  return speaker_of(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def served(speaker):
  with live(speaker) as found:
    yield found


@pytest.fixture
def ask(served):
  """Posts a body and returns the JSON of the reply."""
  with httpx.Client(base_url=served[0], headers=HEADERS, timeout=300) as client:
    def post(body, path="completions", status=200):
      reply = client.post(f"/v1/{path}", **({"content": body} if isinstance(body, bytes) else {"json": body}))
      assert reply.status_code == status, reply.text
      return reply.json()
    post.client = client
    yield post


def sampled(speaker, sampling, requests):
  """The responses of the sampler itself, alone, to requests."""
  alone = Speaker(speaker.model, sampling, Decoding(slots=5))
  found = {(g.number, g.sample): g.response for g in alone.stream(requests) if g.response}
  return [found[r.question_id, r.sample] for r in requests]


def events(client, body, path="completions"):
  """The chunks of a stream."""
  with client.stream("POST", f"/v1/{path}", json={**body, "stream": True}) as reply:
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
  assert lines[-1] == "[DONE]"
  return [json.loads(line) for line in lines[:-1]]


def said(chunks, index, name="text"):
  choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
  return "".join((c["text"] if name == "text" else c["delta"].get(name, "")) for c in choices), choices[-1]["finish_reason"]


def test_a_completion_is_what_the_sampler_samples(speaker, ask):
  prompts = ["w1 w2", "w3", "w4 w5 w6"]
  ids = [speaker.model.prompt(prompt) for prompt in prompts]
  wanted = sampled(speaker, Sampling(0.0), [Request(i, 0, prompt, 12) for i, prompt in enumerate(ids)])
  for form in prompts, [list(some) for some in ids]:
    found = ask({**GREEDY, "prompt": form})
    assert [(c["index"], c["text"], c["finish_reason"]) for c in found["choices"]] == [
      (i, r.text, "stop" if r.stopped else "length") for i, r in enumerate(wanted)]
    sizes = sum(map(len, ids)), sum(len(r.tokens) for r in wanted)
    assert found["usage"] == {"prompt_tokens": sizes[0], "completion_tokens": sizes[1], "total_tokens": sum(sizes)}
  assert (found["object"], found["model"]) == ("text_completion", "words")


def test_a_seed_and_the_number_of_the_choice_decide(speaker, ask):
  base = zlib.crc32(b"7")
  wanted = sampled(speaker, Sampling(1.3, 0.9), [Request(base, s, speaker.model.prompt("w1"), 12) for s in range(3)])
  found = ask({**WARM, "prompt": "w1", "n": 3})
  assert [c["text"] for c in found["choices"]] == [r.text for r in wanted]
  assert len({c["text"] for c in found["choices"]}) == 3
  free = {**WARM, "prompt": "w1", "seed": None}
  assert len({ask(free)["choices"][0]["text"] for _ in range(4)}) > 1


def test_a_stream_is_the_whole_reply_in_pieces(ask):
  body = {**WARM, "prompt": ["w1", "w5 w6"], "n": 2, "echo": True, "stream_options": {"include_usage": True}}
  whole = ask({name: value for name, value in body.items() if name != "stream_options"})
  chunks = events(ask.client, body)
  assert [said(chunks, i) for i in range(4)] == [(c["text"], c["finish_reason"]) for c in whole["choices"]]
  assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], whole["usage"])
  assert all(chunk["usage"] is None and chunk["object"] == "text_completion" for chunk in chunks[:-1])
  assert len({chunk["id"] for chunk in chunks}) == 1 and len(chunks) > 9


def test_a_chat_streams_what_it_answers(speaker, ask):
  body = {**WARM, "messages": [{"role": "user", "content": "w1 w2"}], "max_tokens": None}
  whole = ask(body, "chat/completions")
  message = whole["choices"][0]["message"]
  [wanted] = sampled(speaker, Sampling(1.3, 0.9), [Request(zlib.crc32(b"7"), 0, speaker.model.prompt("w1 w2"), 62)])
  assert message["role"] == "assistant" and whole["object"] == "chat.completion"
  assert wanted.text == message["content"]  # this one has no thought
  chunks = events(ask.client, body, "chat/completions")
  assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
  assert said(chunks, 0, "content") == (message["content"], whole["choices"][0]["finish_reason"])


def test_a_thought_is_told_from_the_answer(ask):
  """The prompt opens it, and a forced text closes it: what the model says is `thought </think> answer` by its stop text."""
  body = {**WARM, "messages": [{"role": "user", "content": "w1 <think>"}]}
  message = ask(body, "chat/completions")["choices"][0]["message"]
  plain = ask({**WARM, "prompt": "w1 <think>"})["choices"][0]["text"]
  assert (message["content"], message["reasoning_content"]) == ("", plain)
  chunks = events(ask.client, body, "chat/completions")
  assert said(chunks, 0, "reasoning_content")[0] == plain and said(chunks, 0, "content")[0] == ""


def test_a_stop_text_ends_a_reply_and_what_it_costs(ask):
  whole = ask({**GREEDY, "prompt": "w1"})
  text = whole["choices"][0]["text"]
  stop = text.split()[4]
  for body in ({**GREEDY, "prompt": "w1", "stop": stop}, {**GREEDY, "prompt": "w1", "stop": ["nothing", stop]}):
    found = ask(body)
    assert (found["choices"][0]["text"], found["choices"][0]["finish_reason"]) == (text[:text.find(stop)], "stop")
    assert found["usage"]["completion_tokens"] == len(text[:text.find(stop)].split()) + 1
    assert said(events(ask.client, body), 0) == (text[:text.find(stop)], "stop")


def test_logprobs_are_those_of_the_trainers_code(speaker, ask):
  found = ask({**GREEDY, "prompt": "w1 w2 w3", "echo": True, "logprobs": 3})
  given, model = found["choices"][0]["logprobs"], speaker.model
  ids = model.tokenizer.encode(" ".join(given["tokens"]))
  tokens, positions = np.array([ids], np.int32), np.arange(len(ids), dtype=np.int32)[None]
  with jax.set_mesh(model.mesh):
    wanted = np.asarray(logprobs(model.params, *put_batch(model.mesh, (tokens, positions)), None, config=model.config,
                                 compute=model.compute, temperature=1.0))[0]
  assert given["token_logprobs"][0] is None and given["top_logprobs"][0] is None
  np.testing.assert_allclose(given["token_logprobs"][1:], wanted[1:], atol=1e-5)
  for place, (token, value, top) in enumerate(zip(given["tokens"], given["token_logprobs"], given["top_logprobs"],
                                                  strict=True)):
    if place:
      assert top[token] == value and 3 <= len(top) <= 4
    if place >= 3:
      assert value == max(top.values())  # greedy, bit for bit: clients compare them
  text = found["choices"][0]["text"]
  assert text.startswith("w1 w2 w3")
  assert [text[at:at + len(token)] for at, token in zip(given["text_offset"][:3], given["tokens"], strict=False)] == [
    "w1", " w", " w"]
  alone = ask({**GREEDY, "prompt": "w1 w2 w3", "logprobs": 0})["choices"][0]["logprobs"]
  np.testing.assert_allclose(alone["token_logprobs"], given["token_logprobs"][3:], atol=1e-6)
  assert alone["top_logprobs"] is None


def test_a_prompt_alone_is_scored_and_nothing_is_sampled(ask):
  body = {"model": "words", "prompt": [[3, 4, 5], [6]], "max_tokens": 0, "echo": True, "logprobs": 1}
  found = ask(body)
  assert [len(c["logprobs"]["tokens"]) for c in found["choices"]] == [3, 1]
  assert found["usage"] == {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4}
  chunks = events(ask.client, body)
  assert [chunk["choices"][0]["logprobs"] for chunk in chunks] == [c["logprobs"] for c in found["choices"]]


def test_a_chat_has_logprobs_too(ask):
  body = {**WARM, "messages": [{"role": "user", "content": "w1"}], "logprobs": True, "top_logprobs": 2}
  whole = ask(body, "chat/completions")["choices"][0]
  content = whole["logprobs"]["content"]
  assert " ".join(entry["token"] for entry in content) == whole["message"]["content"]
  assert all(len(entry["top_logprobs"]) == 2 and bytes(entry["bytes"]).decode() == entry["token"] for entry in content)
  assert events(ask.client, body, "chat/completions")[-1]["choices"][0]["logprobs"] == whole["logprobs"]


def test_models_health_and_metrics(served, ask):
  model = ask.client.get("/v1/models").json()["data"][0]
  assert (model["id"], model["object"], model["max_model_len"]) == ("words", "model", 64)
  assert ask.client.get("/v1/models/words").json() == model
  assert httpx.get(f"{served[0]}/health").json() == {"status": "ok"}
  ask({**GREEDY, "prompt": "w1"})
  metrics = dict(line.rsplit(" ", 1) for line in httpx.get(f"{served[0]}/metrics").text.splitlines())
  assert int(metrics['r1jax_replies_total{status="200"}']) > 3 and int(metrics["r1jax_completion_tokens_total"]) > 1


PLAIN = {"model": "words", "prompt": "w1"}
BAD = [
  (b"{", 400, None, None), (b"", 400, None, None), (b"\xff\xfe", 400, None, None), (b"[" * 40_000, 400, None, None),
  (rb'{"model": "words", "prompt": "\ud83d"}', 400, None, None), (b'{"model": "\xed\xa0\x80"}', 400, None, None),
  (b"[]", 400, None, None), ({**PLAIN, "model": "gpt"}, 404, "model", "model_not_found"),
  ({**PLAIN, "prompt": "nonsense"}, 400, "prompt", None), ({**PLAIN, "prompt": ""}, 400, "prompt", None),
  ({**PLAIN, "prompt": [99]}, 400, "prompt", None), ({**PLAIN, "prompt": [-1]}, 400, "prompt", None),
  ({**PLAIN, "prompt": "w1 " * 64, "max_tokens": 1}, 400, "prompt", "context_length_exceeded"),
  ({**PLAIN, "max_tokens": 64}, 400, "prompt", "context_length_exceeded"),
  ({**PLAIN, "prompt": "w1 " * 10_000}, 400, "prompt", "context_length_exceeded"),
  ({**PLAIN, "prompt": "w1 " * 20_000}, 413, None, "request_too_large"),
  ({**PLAIN, "prompt": ["w1"] * 128, "n": 128}, 400, "n", None), ({**PLAIN, "tools": [1]}, 400, "tools", None),
]


@pytest.mark.parametrize(("body", "status", "param", "code"), BAD, ids=range(len(BAD)))
def test_a_bad_request_gets_an_error_in_the_form_of_the_api(ask, body, status, param, code):
  error = ask(body, status=status)["error"]
  assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error") and error["message"]


def test_callers_are_checked_and_paths_are_known(served, ask):
  for key in None, "another", f"{KEY} ":
    headers = {} if key is None else {"Authorization": f"Bearer {key}é".encode()}
    reply = httpx.post(f"{served[0]}/v1/completions", json=PLAIN, headers=headers)
    assert reply.status_code == 401 and reply.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(f"{served[0]}/v1/models", headers=headers).status_code == 401
  for method, path, status in (("GET", "/v1/completions", 405), ("POST", "/v1/nothing", 404), ("GET", "/v1/models/x", 404)):
    reply = ask.client.request(method, path)
    assert reply.status_code == status and reply.json()["error"]["type"] == "invalid_request_error"


def test_a_full_queue_refuses_and_says_when_to_come_back(served, ask, monkeypatch):
  monkeypatch.setattr(served[1].engine, "most", 1)
  reply = ask.client.post("/v1/completions", json={**GREEDY, "prompt": ["w1", "w2"]})
  assert reply.status_code == 400  # it would not fit into an empty queue
  monkeypatch.setattr(served[1].engine, "_jobs", {0: (None, None), **served[1].engine._jobs})
  reply = ask.client.post("/v1/completions", json={**GREEDY, "prompt": "w1"})
  assert (reply.status_code, reply.json()["error"]["code"], reply.headers["retry-after"]) == (429, "queue_full", "1")


def test_a_batch_that_fails_is_told_and_the_next_one_works(ask, monkeypatch):
  def fails(*_, **__):
    raise RuntimeError("out of memory")

  with monkeypatch.context() as broken:
    broken.setattr(generate, "decode_segment", fails)
    assert ask({**GREEDY, "prompt": "w1"}, status=500)["error"]["type"] == "server_error"
    with ask.client.stream("POST", "/v1/completions", json={**GREEDY, "prompt": "w1", "stream": True}) as reply:
      assert "server_error" in reply.read().decode()
  assert ask({**GREEDY, "prompt": "w1"})["choices"][0]["text"]


def slowly(engine, seconds=0.05):
  """Makes an engine take its time after every segment."""
  import time

  obey = engine._obey

  def slow(session):
    time.sleep(seconds)
    return obey(session)
  engine._obey = slow


def test_a_client_that_has_gone_leaves_nothing_behind(speaker):
  # Greedy: that answer has all 60 tokens, while one in ten that are sampled stops before it can be seen to run.
  body = json.dumps({"model": "words", "prompt": "w1", "max_tokens": 60, "temperature": 0}).encode()
  with live(speaker) as (address, service, _):
    slowly(service.engine)
    for gone in (body, body.replace(b'"max_tokens"', b'"stream": true, "max_tokens"')):
      before = service.counts["cancelled"]
      connection = send(address, gone)
      until(lambda: service.engine.counts()["running"] == 1)
      connection.close()
      until(lambda before=before: service.counts["cancelled"] == before + 1)
    cut = send(address, body[:10], len(body))
    cut.close()
    until(lambda: not service.engine._jobs and service.counts["in_hand"] == 0)
    assert httpx.post(f"{address}/v1/completions", content=body, headers=HEADERS).status_code == 200


def test_a_server_that_stops_answers_what_it_has_begun(speaker):
  body = {"model": "words", "prompt": "w1", "max_tokens": 40, "temperature": 0, "stream": True}
  with live(speaker) as (address, service, server):
    slowly(service.engine)
    with httpx.stream("POST", f"{address}/v1/completions", json=body, headers=HEADERS, timeout=120) as reply:
      lines = reply.iter_lines()
      next(lines)
      server.should_exit = True
      until(lambda: service.stopping)
      assert list(lines)[-2:] == ["data: [DONE]", ""]
    until(lambda: not service.engine.alive)
  with live(speaker, grace=0) as (address, service, server):
    slowly(service.engine)
    with httpx.stream("POST", f"{address}/v1/completions", json=body, headers=HEADERS, timeout=120) as reply:
      lines = reply.iter_lines()
      next(lines)
      server.should_exit = True
      assert json.loads(list(lines)[-2].removeprefix("data: "))["error"]["code"] == "shutting_down"


def test_every_one_of_200_clients_is_answered_or_refused(speaker):
  """At once: patient and impatient ones, streams, those that go away, too much, broken JSON, and more than may wait."""
  limits = LIMITS

  async def one(client, number):
    kind = number % 8
    body = {"model": "words", "prompt": f"w{number % 50}", "max_tokens": 1 + number % 16, "temperature": number % 3 / 2}
    if kind == 0:
      return (await client.post("/v1/completions", content=b'{"model": "words", ')).status_code
    if kind == 1:
      return (await client.post("/v1/completions", json={**body, "prompt": "w1 " * 30_000})).status_code
    if kind == 2:
      async with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as reply:
        return "gone" if reply.status_code == 200 else reply.status_code  # before it has read anything
    if kind == 3:
      async with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as reply:
        text = b""
        async for part in reply.aiter_raw():
          text += part
          await asyncio.sleep(0.02)
        assert reply.status_code == 429 or text.endswith(b"data: [DONE]\n\n")
        return reply.status_code
    return (await client.post("/v1/completions", json=body)).status_code

  async def everybody(address):
    async with httpx.AsyncClient(base_url=address, headers=HEADERS, timeout=300,
                                 limits=httpx.Limits(max_connections=200)) as client:
      return await asyncio.gather(*(one(client, number) for number in range(200)))

  with live(speaker, most=60, limits=limits) as (address, service, _):
    found = asyncio.run(everybody(address))
    until(lambda: not service.engine._jobs and service.counts["in_hand"] == 0)
    assert service.engine._session is None  # and with it the cache
  assert [found[n] for n in range(200) if n % 8 < 2] == [400, 413] * 25
  assert {status for n, status in enumerate(found) if n % 8 == 2} <= {"gone", 429}
  others = [status for n, status in enumerate(found) if n % 8 > 2]
  assert set(others) <= {200, 429} and others.count(200) >= 30
