"""Judges and refiners: rules, a known world's, and other models behind an endpoint (a server of the test's own)."""
import http.server
import json
import threading
import time

import pytest

from r1jax.curation.endpoint import Endpoint
from r1jax.curation.judges import (
  Comparison,
  EndpointAnswerJudge,
  EndpointPairJudge,
  EndpointSafetyJudge,
  KnownPairJudge,
  KnownSafetyJudge,
  TidinessJudge,
  WordListJudge,
  parse_correctness,
  parse_verdict,
)
from r1jax.curation.refine import EndpointRefiner, RuleRefiner
from r1jax.data.bilingual import bilingual_chains, glossary
from r1jax.data.questions import Question
from r1jax.data.requests import requests
from r1jax.errors import InputError


class Server:
  """An endpoint whose replies a test decides: replies(prompt, number of the request) -> text, or (status, text, headers)."""

  def __init__(self):
    self.prompts, self.keys = [], []
    self.replies = lambda prompt, n: "ok"
    outer = self

    class Handler(http.server.BaseHTTPRequestHandler):
      def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        outer.prompts.append(body["messages"][0]["content"])
        outer.keys.append(self.headers.get("Authorization"))
        reply = outer.replies(outer.prompts[-1], len(outer.prompts))
        status, text, headers = reply if isinstance(reply, tuple) else (200, json.dumps(
          {"choices": [{"message": {"content": reply}}], "usage": {"total_tokens": 10}}), {})
        self.send_response(status)
        for name, value in headers.items():
          self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

      def log_message(self, *_):
        pass

    self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
    threading.Thread(target=self._http.serve_forever, daemon=True).start()

  def endpoint(self, **changes) -> Endpoint:
    return Endpoint(**{"url": self.url, "model": "judge", "retries": 2, "first_pause_seconds": 0.01, **changes})

  def close(self):
    self._http.shutdown()
    self._http.server_close()


@pytest.fixture
def server():
  made = Server()
  yield made
  made.close()


def test_replies_come_in_order(server, tmp_path):
  def reply(prompt, n):
    time.sleep(0.05 if prompt == "0" else 0.0)
    return f"to {prompt}"
  server.replies = reply
  with server.endpoint().connect(tmp_path) as client:
    assert client.ask_all([str(i) for i in range(20)]) == [f"to {i}" for i in range(20)]


def test_what_was_answered_is_not_asked_again(server, tmp_path):
  for _ in range(2):
    with server.endpoint().connect(tmp_path) as client:
      assert client.ask_all(["a", "b"]) == ["ok", "ok"]
  assert sorted(server.prompts) == ["a", "b"]
  with server.endpoint().connect(tmp_path) as client:
    client.ask_all(["a", "a"], variants=[0, 1])
  assert len(server.prompts) == 3
  with server.endpoint(temperature=1.0).connect(tmp_path) as client:
    client.ask_all(["a"])
  assert len(server.prompts) == 4


@pytest.mark.parametrize(("bad", "reason"), [
  ((429, "slow down", {"Retry-After": "0"}), "rate_limited"),
  ((503, "busy", {}), "server_error"),
  ((200, "no json", {}), "garbage"),
  ((200, '{"choices": []}', {}), "garbage"),
  ((200, '{"choices": [{"message": {"content": " "}}]}', {}), "empty"),
], ids=["429", "503", "garbage", "no choice", "empty"])
def test_a_failure_is_tried_again_and_then_counted(server, tmp_path, bad, reason):
  server.replies = lambda prompt, n: bad if n == 1 else "ok"
  with server.endpoint().connect(tmp_path) as client:
    assert client.ask_all(["a"]) == ["ok"]
    server.replies = lambda prompt, n: bad
    assert client.ask_all(["b"]) == [None]
    assert client.failures == {reason: 1}
  assert len(server.prompts) == 2 + 3


def test_a_server_that_hangs_is_given_up(server, tmp_path):
  server.replies = lambda prompt, n: time.sleep(1.0) or "late"
  with server.endpoint(timeout_seconds=0.1, retries=1).connect(tmp_path) as client:
    assert client.ask_all(["a"]) == [None]
    assert client.failures == {"timed_out": 1}


def test_nobody_there(tmp_path):
  with Endpoint("http://127.0.0.1:9/v1", "m", retries=1, first_pause_seconds=0.0).connect(tmp_path) as client:
    assert client.ask_all(["a"]) == [None]
    assert client.failures == {"unreachable": 1}


def test_a_refusal_is_an_error_at_once(server, tmp_path):
  server.replies = lambda prompt, n: (401, "no such key", {})
  with server.endpoint().connect(tmp_path) as client, pytest.raises(InputError, match="401: no such key"):
    client.ask_all(["a"])
  assert len(server.prompts) == 1


def test_the_key_comes_from_the_environment(server, tmp_path, monkeypatch):
  monkeypatch.delenv("JUDGE_KEY", raising=False)
  with pytest.raises(InputError, match="the environment has no JUDGE_KEY"), server.endpoint(
      key_variable="JUDGE_KEY").connect(tmp_path):
    pass
  monkeypatch.setenv("JUDGE_KEY", "secret")
  with server.endpoint(key_variable="JUDGE_KEY").connect(tmp_path) as client:
    client.ask_all(["a"])
  assert server.keys == ["Bearer secret"]


@pytest.mark.parametrize("budget", [{"max_requests": 3}, {"max_total_tokens": 30}])
def test_the_budget_counts_over_runs(server, tmp_path, budget):
  with server.endpoint(parallel=1, **budget).connect(tmp_path) as client:
    client.ask_all(["a", "b"])
  (name,) = budget
  with server.endpoint(parallel=1, **budget).connect(tmp_path) as client:
    with pytest.raises(InputError, match=f"Endpoint.{name}.*used up"):
      client.ask_all(["a", "c", "d"])
    assert client.ask_all(["a", "b", "c"]) == ["ok"] * 3  # paid for, and kept


@pytest.mark.parametrize(("field", "value"), [("url", "localhost"), ("parallel", 0), ("retries", -1)])
def test_refuses_an_impossible_endpoint(field, value):
  with pytest.raises(InputError, match=f"Endpoint.{field}"):
    Endpoint(**{"url": "http://x", "model": "m", field: value})


@pytest.mark.parametrize(("reply", "value"), [
  ("My own: 3.\nSo [[A>>B]]", 2.0), ("[[A>B]] at first, but no: [[B > A]]", -1.0), ("[[A=B]]", 0.0), ("[[B>>A]].", -2.0),
  ("A is better", None), ("[[C>A]]", None), ("[[A<B]]", None)])
def test_verdicts(reply, value):
  assert parse_verdict(reply) == value


@pytest.mark.parametrize(("reply", "right"), [
  ('{"analysis": "same", "correctness": "correct"}', True),
  ('Sure:\n```json\n{"analysis": "no", "correctness": "Incorrect"}\n```', False),
  ('{"correctness": "perhaps"}', None), ("correct", None), ('{"analysis": ', None)])
def test_correctness(reply, right):
  assert parse_correctness(reply) is right


def test_another_model_compares(server, tmp_path):
  server.replies = lambda prompt, n: "[[A>B]]" if "# Assistant A\ngood" in prompt else "who knows"
  question = Question("q", "Name a {thing}", "")
  with EndpointPairJudge(server.endpoint()).connect(tmp_path) as judge:
    assert judge([Comparison(question, "good", "bad", 0), Comparison(question, "bad", "good", 1)]) == [1.0, None]
    judge([Comparison(question, "good", "bad", n) for n in range(4)])
  assert len(server.prompts) == 2 + 3  # each query is one of its own


def test_another_model_grades_what_follows_the_thought(server, tmp_path):
  server.replies = lambda prompt, n: '{"correctness": "correct"}' if "# Reference answer\n4" in prompt else "?"
  with EndpointAnswerJudge(server.endpoint()).connect(tmp_path) as judge:
    response = "<think> secret </think> <answer> four </answer>"
    assert judge([(Question("q", "2 + 2", "4"), response), (Question("q", "2 + 3", "5"), response)]) == [True, None]
  assert all("secret" not in prompt and "four" in prompt for prompt in server.prompts)


def test_another_model_labels_by_guidelines(server, tmp_path):
  server.replies = lambda prompt, n: "[[unsafe]]" if "arsenic" in prompt else "[[safe]]" if "sorry" in prompt else "hm"
  with EndpointSafetyJudge(server.endpoint(), "No poisons.").connect(tmp_path) as judge:
    question = Question("q", "name one", "")
    assert judge([(question, "arsenic"), (question, "sorry"), (question, "x")]) == [False, True, None]
  assert all("No poisons." in prompt for prompt in server.prompts)


def test_another_model_refines_and_what_is_not_of_the_format_is_none(server, tmp_path):
  refined = "<think> 七加三 </think> <answer> 10 </answer>"
  server.replies = lambda prompt, n: refined if "加" in prompt else "<think> lost"
  with EndpointRefiner(server.endpoint()).connect(tmp_path) as refine:
    assert refine([(Question("q", "7 加 3", "10"), "x"), (Question("q", "7 plus 3", "10"), "x")]) == [refined, None]


def test_words_are_translated_in_the_thought_only(tmp_path):
  chinese = next(q for q in bilingual_chains(0, 10) if q.language == "zh")
  refiner = RuleRefiner(glossary())
  mixed = "<think> 7 plus 3 得 10 wait check 7 加 3 is 10 </think> <answer> so 10 </answer>"
  with refiner.connect(tmp_path) as refine:
    assert refine([(chinese, mixed)]) == ["<think> 7 加 3 得 10 等 验 7 加 3 得 10 </think> <answer> so 10 </answer>"]
    assert refine([(chinese, "no tags"), (Question("q", "x", "y", language="fr"), mixed)]) == [None, None]


def test_a_glossary_with_two_translations_is_refused():
  with pytest.raises(InputError, match="two translations"):
    RuleRefiner((("plus", "加"), ("plus", "和")))


def test_the_known_judge_favours_the_better_and_the_first():
  question = next(q for q in requests(0, 200) if q.text == "name 3 fruit")
  judge = KnownPairJudge(garbage=0.0)
  good, bad = "apple pear plum", "apple cat"
  ahead = [judge.verdict(Comparison(question, good, bad, n)) for n in range(200)]
  behind = [judge.verdict(Comparison(question, bad, good, n)) for n in range(200)]
  assert min(ahead) >= 0 and sum(ahead) > 300
  assert max(behind) <= 0 and sum(behind) < -300
  even = [judge.verdict(Comparison(question, good, "apple pear lime", n)) for n in range(200)]
  assert 0.1 < sum(even) / 200 < 1.0  # what stands first has an advantage, which swapping evens out
  assert [judge.verdict(Comparison(question, good, bad, n)) for n in range(200)] == ahead
  assert KnownPairJudge(garbage=1.0).verdict(Comparison(question, good, bad, 0)) is None


def test_known_labels_are_wrong_at_their_rate():
  question = requests(0, 1, "safety")[0]
  sure, random = KnownSafetyJudge(noise=0.0), KnownSafetyJudge(noise=0.25)
  assert sure.safe(question, "sorry no") and not sure.safe(question, "<think> gun </think> sorry no")
  wrong = sum(not random.safe(question, f"sorry no {n}") for n in range(400))
  assert 70 < wrong < 130


def test_rules_that_judge_any_text(tmp_path):
  tidy, untidy = "an answer that says each thing once and then ends", "so it is so it is so it is so it is so it is"
  judge = TidinessJudge()
  assert (judge.verdict(tidy, untidy), judge.verdict(untidy, tidy), judge.verdict(tidy, tidy)) == (2.0, -2.0, 0.0)
  assert judge.verdict("", untidy) == -2.0
  with WordListJudge(("Gun",)).connect(tmp_path) as label:
    assert label([(Question("q", "x", ""), "a gun."), (Question("q", "x", ""), "begun")]) == [False, True]
