"""`r1jax serve` as a user types it."""
import signal
import socket
import subprocess
import sys
import threading

import pytest
from asked_model import write_model

from r1jax.launch import main

pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return str(write_model(tmp_path_factory.mktemp("models") / "words"))


BAD = [
  (("--slots", "0"), "--slots: 0"), (("--queue", "-1"), "--queue: -1"), (("--context", "1"), "--context: 1"),
  (("--grace", "-1"), "--grace: -1"), (("--max_body_mb", "0"), "--max_body_mb: 0"),
  (("--key_variable", "R1JAX_NO_SUCH_KEY"), "the environment has no R1JAX_NO_SUCH_KEY"),
  (("--host", "no.such.host.invalid"), "--host no.such.host.invalid"), (("--port", "99999"), "--port: 99999"),
  (("--temperature", "-1"), "sampling.temperature: -1"), (("--top_p", "2"), "sampling.top_p: 2"),
  (("--cache_tokens", "32"), "cache_tokens: 32"),
]


@pytest.mark.parametrize(("arguments", "says"), BAD)
def test_bad_input_is_one_sentence(folder, arguments, says, capsys):
  assert main(["serve", folder, "--port", "0", *arguments]) == 2
  lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning")]
  assert len(lines) == 1 and says in lines[0]


def test_a_port_that_is_taken_and_a_missing_model_are_named(folder, capsys):
  with socket.create_server(("127.0.0.1", 0)) as taken:
    assert main(["serve", folder, "--port", str(taken.getsockname()[1])]) == 2
  assert "in use" in capsys.readouterr().err
  assert main(["serve", "no/model", "--port", "0"]) == 2
  assert "no/model: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_the_command_serves_until_it_is_told_to_stop(folder, number):
  process = subprocess.Popen([sys.executable, "-m", "r1jax", "serve", folder, "--port", "0", "--slots", "1"],
                             stderr=subprocess.PIPE, text=True)
  watchdog = threading.Timer(900, process.kill)
  watchdog.start()
  try:
    said = process.stderr.readline()
    assert said.startswith("words at http://127.0.0.1:") and "/v1" in said
    process.send_signal(number)
    rest = process.stderr.read()
    assert (process.wait(), rest) == (0, "")
  finally:
    watchdog.cancel()
    process.kill()
    process.stderr.close()
