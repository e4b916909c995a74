"""An endpoint that breaks, lies or listens: bounded time and memory, and no key anywhere."""
import base64
import email.utils
import json
import socket
import sqlite3
import threading
import time

import pytest

from r1jax.curation import endpoint as module
from r1jax.curation.endpoint import Endpoint
from r1jax.errors import InputError

KEY = "sk-judge-0123456789abcdef"


def answer(content="ok", status="200 OK", headers="", usage=None, finish="stop", body=None) -> bytes:
  if body is None:
    body = json.dumps({"choices": [{"message": {"content": content}, "finish_reason": finish}], "usage": usage}).encode()
  body = body if isinstance(body, bytes) else body.encode()
  return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n".encode() + body


def drip(data: bytes, seconds: float):
  def send(connection):
    for i in range(len(data)):
      connection.sendall(data[i:i + 1])
      time.sleep(seconds)
  return send


def flood(connection):
  connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
  for _ in range(1_000):
    connection.sendall(b"100000\r\n" + b" " * 2**20 + b"\r\n")


WHOLE = answer()
LONG_HEAD = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 1_000) for i in range(1_000)) + b"\r\n"
# name -> (what the server sends, or does with the connection; the reason that is counted, or a word of the error)
FAILURES = {
  "nothing": (b"", "broken"),
  "cut in the status line": (WHOLE[:9], "broken"),
  "cut in the headers": (WHOLE[:30], "broken"),
  "cut in the body": (WHOLE[:-10], "broken"),
  "a body that never comes": (lambda c: (c.sendall(WHOLE[:60]), time.sleep(2)), "timed_out"),
  "no answer": (lambda c: time.sleep(2), "timed_out"),
  "one byte at a time": (drip(WHOLE, 0.05), "timed_out"),
  "one byte of a header at a time": (drip(LONG_HEAD, 0.02), "timed_out"),
  "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "broken"),
  "a bad status": (WHOLE.replace(b"200 OK", b"2x0 OK"), "broken"),
  "a status without a number": (WHOLE.replace(b"200 OK", b"fine"), "broken"),
  "long headers": (LONG_HEAD, "broken"),
  "a header without a colon": (b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n{}", "broken"),
  "a negative length": (WHOLE.replace(b"Content-Length: ", b"Content-Length: -"), "broken"),
  "two lengths": (WHOLE.replace(b"Connection", b"Content-Length: 3\r\nConnection"), "broken"),
  "a bad chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", "broken"),
  "a flood": (flood, "too_long"),
  "gzip": (answer(headers="Content-Encoding: gzip\r\n"), "garbage"),
  "an unknown encoding": (answer(headers="Content-Encoding: rot13\r\n"), "garbage"),
  "no JSON": (answer(body="<html>"), "garbage"),
  "no body": (answer(body=""), "garbage"),
  "bytes": (answer(body=bytes(range(256))), "garbage"),
  "half a JSON": (answer(body='{"choices": [{"mess'), "garbage"),
  "a list": (answer(body="[]"), "garbage"),
  "a number": (answer(body="7"), "garbage"),
  "null": (answer(body="null"), "garbage"),
  "a number of 10,000 digits": (answer(body="9" * 10_000), "garbage"),
  "deep JSON": (answer(body="[" * 200_000), "garbage"),
  "deep choices": (answer(body='{"choices": ' + "[" * 100_000 + "]" * 100_000 + "}"), "garbage"),
  "no choices": (answer(body='{"choices": []}'), "garbage"),
  "choices as text": (answer(body='{"choices": "ok"}'), "garbage"),
  "choices null": (answer(body='{"choices": null}'), "garbage"),
  "a choice that is null": (answer(body='{"choices": [null]}'), "garbage"),
  "a message as text": (answer(body='{"choices": [{"message": "ok"}]}'), "garbage"),
  "no content": (answer(body='{"choices": [{"message": {}}]}'), "garbage"),
  "content null": (answer(content=None), "empty"),
  "content as a list": (answer(content=["ok"]), "empty"),
  "white space": (answer(content=" \n"), "empty"),
  "cut at the token limit": (answer(finish="length"), "cut"),
  "400": (answer(status="400 Bad Request", body="content filter"), "refused"),
  "413": (answer(status="413 Too Large"), "refused"),
  "418 whose body never comes": (
    lambda c: (c.sendall(b"HTTP/1.1 418 T\r\nContent-Length: 9\r\n\r\n"), time.sleep(2)), "timed_out"),
  "204": (b"HTTP/1.1 204 No Content\r\n\r\n", "refused"),
  "429": (answer(status="429 Slow"), "rate_limited"),
  "429 with a strange pause": (answer(status="429 Slow", headers="Retry-After: \u00b2\r\n"), "rate_limited"),
  "429 with a date long ago": (
    answer(status="429 Slow", headers="Retry-After: Mon, 01 Jan 2001 00:00:00 GMT\r\n"), "rate_limited"),
  "503 with a negative pause": (answer(status="503 Busy", headers="Retry-After: -5\r\n"), "server_error"),
  "503 with a broken date": (answer(status="503 Busy", headers="Retry-After: Mon, 99 Foo\r\n"), "server_error"),
  "500": (answer(status="500 Oops"), "server_error"),
}
REFUSALS = {
  "401 that echoes the key": (answer(status="401 No", body=f"bad key {KEY}"), "401"),
  "401 that echoes half of it": (answer(status="401 No", body=f"bad key {KEY[:12]}..."), "401"),
  "403 in base64": (answer(status="403 No", body=base64.b64encode(KEY.encode())), "403"),
  "404": (answer(status="404 No", body="no such model\n\x1b[31m"), "no such model"),
  "301": (answer(status="301 Moved", headers="Location: http://elsewhere.example/v1?k=1\r\n"), "elsewhere"),
  "302 with the key": (answer(status="302 Found", headers=f"Location: http://elsewhere.example/{KEY}\r\n"), "elsewhere"),
  "307": (answer(status="307 Found", headers="Location: //elsewhere.example\r\n"), "elsewhere"),
  "308 to nowhere": (answer(status="308 Found"), "nowhere"),
}
REPLIES = {  # what is a reply all the same
  "a list as usage": (answer(usage=[1]), "ok"),
  "text as usage": (answer(usage="many"), "ok"),
  "endless tokens": (answer(body=WHOLE.split(b"\r\n\r\n")[1].replace(b"null", b'{"total_tokens": 1e999}')), "ok"),
  "10^30 tokens": (answer(usage={"total_tokens": 10**30}), "ok"),
  "negative tokens": (answer(usage={"total_tokens": -5}), "ok"),
  "half a surrogate": (answer(body=WHOLE.split(b"\r\n\r\n")[1].replace(b'"ok"', b'"a\\ud83d"')), "a\ufffd"),
  "a null character": (answer(content="a\0b"), "a\0b"),
  "the key in the reply": (answer(content=f"my key is {KEY}!"), f"my key is {'*' * len(KEY)}!"),
  "chunks of a byte": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
    b"1\r\n%c\r\n" % b for b in WHOLE.split(b"\r\n\r\n")[1]) + b"0\r\n\r\n", "ok"),
}


class Hostile:
  """Accepts connections, reads a request, and does what the test says."""

  def __init__(self, does):
    self.does, self.requests = does, []
    self._socket = socket.create_server(("127.0.0.1", 0))
    self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
    threading.Thread(target=self._serve, daemon=True).start()

  def _serve(self):
    while True:
      try:
        connection, _ = self._socket.accept()
      except OSError:
        return
      threading.Thread(target=self._one, args=(connection,), daemon=True).start()

  def _one(self, connection):
    with connection:
      request = connection.recv(65_536)
      while not request.endswith(b"}"):  # the end of the body
        request += connection.recv(65_536)
      self.requests.append(request)
      try:
        does = self.does(request) if getattr(self.does, "reads", False) else self.does
        does(connection) if callable(does) else connection.sendall(does)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
      except OSError:
        pass  # the client left

  def close(self):
    self._socket.close()


@pytest.fixture
def hostile(monkeypatch):
  monkeypatch.setenv("JUDGE_KEY", KEY)
  made = []

  def make(does):
    made.append(Hostile(does))
    return made[-1]
  yield make
  for server in made:
    server.close()


def asks(server, folder, prompts=("a",), **changes):
  settings = {"timeout_seconds": 20.0, "retries": 1, "first_pause_seconds": 0.0, "key_variable": "JUDGE_KEY", **changes}
  with Endpoint(server.url, "judge", **settings).connect(folder) as client:
    return client.ask_all(list(prompts)), dict(client.failures)


def keyless(folder, output) -> bool:
  """Whether neither the files nor what was printed hold eight characters of the key."""
  texts = [output.out.encode(), output.err.encode(), *(f.read_bytes() for f in folder.rglob("*") if f.is_file())]
  return not any(KEY[i:i + 8].encode() in text for text in texts for i in range(len(KEY) - 7))


@pytest.mark.parametrize("name", FAILURES)
def test_a_broken_answer_is_counted(name, hostile, tmp_path, capfd):
  does, reason = FAILURES[name]
  seconds = {"timeout_seconds": 0.5} if reason == "timed_out" else {}
  assert asks(hostile(does), tmp_path, **seconds) == ([None], {reason: 1})
  output = capfd.readouterr()
  assert f"1 of 1 prompts without a usable reply ({reason} 1)" in output.err
  assert keyless(tmp_path, output)


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_wrong_for_every_prompt_is_an_error_without_the_key(name, hostile, tmp_path, capfd):
  does, word = REFUSALS[name]
  server = hostile(does)
  with pytest.raises(InputError, match=word) as error:
    asks(server, tmp_path)
  assert len(server.requests) == 1 and "\n" not in str(error.value) and "\x1b" not in str(error.value)
  assert not any(KEY[i:i + 8] in str(error.value) for i in range(len(KEY) - 7))
  assert keyless(tmp_path, capfd.readouterr())


@pytest.mark.parametrize("name", REPLIES)
def test_a_strange_answer_with_a_reply_is_used(name, hostile, tmp_path, capfd):
  does, reply = REPLIES[name]
  assert asks(hostile(does), tmp_path) == ([reply], {})
  assert keyless(tmp_path, capfd.readouterr())


def test_a_redirect_takes_the_key_nowhere(hostile, tmp_path):
  other = hostile(answer())
  with pytest.raises(InputError, match="redirects are not followed"):
    asks(hostile(answer(status="302 Found", headers=f"Location: {other.url}/chat/completions\r\n")), tmp_path)
  assert other.requests == []


def by_prompt(bad, *spoilt):
  def does(request):
    return bad if any(f'"content": "{p}"'.encode() in request for p in spoilt) else answer()
  does.reads = True
  return does


def test_one_refused_prompt_costs_itself_alone(hostile, tmp_path):
  server = hostile(by_prompt(answer(status="400 Bad"), "3"))
  prompts = [str(i) for i in range(30)]
  assert asks(server, tmp_path, prompts) == (["ok"] * 3 + [None] + ["ok"] * 26, {"refused": 1})


def test_too_many_failures_stop_the_stage(hostile, tmp_path):
  server = hostile(by_prompt(answer(status="400 Bad"), *map(str, range(0, 60, 2))))
  with pytest.raises(InputError, match="Endpoint.max_failed.*of .* prompts have no usable reply: refused"):
    asks(server, tmp_path, map(str, range(60)), max_failed=0.2)
  assert asks(server, tmp_path, map(str, range(60)))[1] == {"refused": 30}


def test_a_cut_reply_is_paid_for_once_and_never_whole(hostile, tmp_path):
  server = hostile(answer(finish="length"))
  for _ in range(2):
    assert asks(server, tmp_path) == ([None], {"cut": 1})
  assert len(server.requests) == 1


def test_a_pause_by_date_is_kept(monkeypatch):
  monkeypatch.setattr(module.time, "time", lambda: 1_000_000.0)
  assert module._seconds(email.utils.formatdate(1_000_030.0, usegmt=True)) == 30.0
  assert module._seconds("7") == 7.0 and module._seconds("²") is None and module._seconds("soon") is None


@pytest.mark.parametrize("damage", [b"", b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4_000],
                         ids=["empty", "text", "torn"])
def test_a_damaged_cache_is_set_aside(hostile, tmp_path, capfd, damage):
  server, file = hostile(answer()), tmp_path / "endpoint.sqlite"
  asks(server, tmp_path)
  file.write_bytes(damage)
  assert asks(server, tmp_path) == (["ok"], {})
  if damage:
    assert (tmp_path / "endpoint.sqlite.unsound-1").read_bytes() == damage
    assert "set aside as endpoint.sqlite.unsound-1" in capfd.readouterr().err
  assert asks(server, tmp_path) == (["ok"], {}) and len(server.requests) == 2


def test_a_locked_cache_is_set_aside(hostile, tmp_path, capfd):
  server = hostile(answer())
  asks(server, tmp_path)
  other = sqlite3.connect(tmp_path / "endpoint.sqlite")
  other.execute("begin exclusive")
  assert asks(server, tmp_path) == (["ok"], {})
  assert "database is locked; set aside" in capfd.readouterr().err
  other.close()


@pytest.mark.parametrize("key", ["", "a\nb", "a b", "ключ", "a\0b"[:1] + "\t" + "b"])
def test_a_key_that_no_header_can_carry(key, monkeypatch, tmp_path):
  monkeypatch.setenv("JUDGE_KEY", key)
  with pytest.raises(InputError, match="JUDGE_KEY") as error, Endpoint(
      "http://x/v1", "m", key_variable="JUDGE_KEY").connect(tmp_path):
    pass
  assert not key or key not in str(error.value)


@pytest.mark.parametrize("changes", [
  {"url": "http://x:99999/v1"}, {"url": "http://x:port/v1"}, {"url": "http://a b/v1"}, {"url": "http://x/v1 "},
  {"url": "http://me:secret@x/v1"}, {"url": "http://x/v1?key=3"}, {"url": "ftp://x/v1"}, {"url": "http:///v1"}, {"url": 7},
  {"retries": 2.5}, {"retries": True}, {"parallel": "8"}, {"timeout_seconds": float("nan")},
  {"timeout_seconds": float("inf")}, {"temperature": -1}, {"max_failed": 2},
  {"max_total_tokens": 0}, {"max_requests": None}, {"first_pause_seconds": 1e9}])
def test_refuses_an_endpoint_that_cannot_be(changes):
  (name,) = changes
  with pytest.raises(InputError, match=f"Endpoint.{name}") as error:
    Endpoint(**{"url": "http://x/v1", "model": "m", **changes})
  assert "secret" not in str(error.value)
