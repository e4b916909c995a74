"""`r1jax sample` and `r1jax chat` as a user types them."""
import io
import json
import sys
from pathlib import Path

import pytest
from asked_model import write_model
from tiny import quick_compiles

from r1jax.hub import load
from r1jax.launch import main
from r1jax.sampling.sampler import Decoding
from r1jax.serving import sample
from r1jax.serving.chat import Chat
from r1jax.serving.responses import Speaker

FEW = ("--max_new", "8")
compile_quickly = pytest.fixture(scope="module", autouse=True)(quick_compiles)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return str(write_model(tmp_path_factory.mktemp("models") / "words"))


def run(capsys, *arguments, status=0):
  assert main(list(arguments)) == status
  return capsys.readouterr()


@pytest.fixture(scope="module")
def wanted(folder):
  return sample(load(folder), ["w1 w2", "w3"], samples=2, max_new=8, seed=3)


def test_one_question_streams_its_response(folder, wanted, capsys):
  out = run(capsys, "sample", folder, "w1 w2", "--seed", "3", "--thinking", "raw", *FEW).out
  assert out == wanted[0].text + ("\n" if wanted[0].stopped else " [cut after 8 tokens]\n")


def test_several_responses_come_in_order(folder, wanted, capsys):
  out = run(capsys, "sample", folder, "w1 w2", "w3", "--samples", "2", "--seed", "3", "--thinking", "raw", *FEW).out
  lines = out.splitlines()
  assert lines[::2] == ["1.1 w1 w2", "1.2 w1 w2", "2.1 w3", "2.2 w3"]
  assert [line.removesuffix(" [cut after 8 tokens]") for line in lines[1::2]] == [r.text for r in wanted]


def test_rows_of_a_file_come_back_with_their_responses(folder, wanted, capsys, tmp_path):
  (tmp_path / "asked.jsonl").write_text('{"id": "a", "problem": "w1 w2", "answer": "7"}\n\n{"id": "b", "problem": "w3"}\n')
  out = run(capsys, "sample", folder, "--questions", str(tmp_path / "asked.jsonl"), "--field", "problem", "--json",
            "--samples", "2", "--seed", "3", "--slots", "3", "--logprobs", *FEW).out
  rows = sorted(map(json.loads, out.splitlines()), key=lambda row: (row["id"], row["sample"]))
  assert [row["response"] for row in rows] == [r.text for r in wanted]
  assert rows[0]["answer"] == "7" and rows[0]["problem"] == "w1 w2"
  assert rows[0]["tokens"] == wanted[0].tokens.tolist() and rows[0]["length"] == len(rows[0]["logprobs"])


def test_a_text_file_has_a_question_a_line(folder, wanted, capsys, tmp_path):
  (tmp_path / "asked.txt").write_text("w1 w2\n\n  w3  \n")
  out = run(capsys, "sample", folder, "--questions", str(tmp_path / "asked.txt"), "--json", "--seed", "3", *FEW).out
  rows = sorted(map(json.loads, out.splitlines()), key=lambda row: row["question"])
  assert [(row["question"], row["response"]) for row in rows] == [("w1 w2", wanted[0].text), ("w3", wanted[2].text)]


BAD = [
  ((), "QUESTION, --questions: neither is given"), (("w1", "--questions", "x.jsonl"), "both are given"),
  (("w1", "--samples", "0"), "--samples: 0"), (("w1", "--slots", "0"), "--slots: 0"), (("w1", "--seed", "-1"), "--seed: -1"),
  (("w1", "--temperature", "-1"), "sampling.temperature: -1"), (("w1", "--top_p", "1.5"), "sampling.top_p: 1.5"),
  (("w1", "--max_new", "0"), "--max_new: 0"), (("w1", "nonsense"), "unknown word 'nonsense'"),
  (("w1 " * 64,), "question 1: its prompt has 64 tokens. The model takes 64"), (("",), "makes no tokens"),
  (("w1 \udcff",), "half of a surrogate pair"),
  (("--questions", "gone.txt"), "gone.txt: no such file"), (("--questions", "gone.jsonl"), "gone.jsonl"),
  (("--questions", "empty.txt"), "empty.txt: no questions"), (("--questions", "rows.jsonl"), "fields with text: problem."),
  (("--questions", "broken.jsonl"), "broken.jsonl:1: not JSON"),
  (("--questions", "binary.txt"), "binary.txt:1: byte 1 (0xff): this is UTF-16, not UTF-8"),
]


@pytest.mark.parametrize(("arguments", "says"), BAD)
def test_bad_input_is_one_sentence(folder, arguments, says, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name, text in (("empty.txt", " \n"), ("rows.jsonl", '{"problem": "w1"}\n'), ("broken.jsonl", "{\n")):
    Path(name).write_text(text)
  Path("binary.txt").write_bytes(b"\xff\xfe\x00")
  found = run(capsys, "sample", folder, *arguments, status=2)
  assert found.out == "" and says in found.err and found.err.count("\n") == 1


def test_a_missing_model_is_named(capsys):
  for verb in (("sample", "no/model", "1?"), ("chat", "no/model"), ("export", "no/model", "out")):
    assert "no/model: no such folder" in run(capsys, *verb, status=2).err


def chat(folder, capsys, monkeypatch, lines, *arguments):
  monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
  return run(capsys, "chat", folder, "--thinking", "raw", *FEW, *arguments)


def test_a_conversation_goes_on_from_what_was_said(folder, capsys, monkeypatch):
  found = chat(folder, capsys, monkeypatch, "w1\nw2\n/new\nw2\n/what\n/quit\nw4\n")
  first, second, third = [line.removesuffix(" [cut after 8 tokens]") for line in found.out.splitlines()]
  assert "/new forgets" in found.err
  model = load(folder)
  speaker = Speaker(model)
  said = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": first}, {"role": "user", "content": "w2"}]
  for number, (prompt, answer) in enumerate(((model.prompt("w1"), first), (model.conversation(said), second),
                                             (model.prompt("w2"), third))):
    requests = speaker.requests([prompt], max_new=8, first=number)
    assert [g.response.text for g in speaker.stream(requests) if g.response] == [answer]
  assert second != third


def test_without_history_each_question_stands_alone(folder, capsys, monkeypatch):
  alone = chat(folder, capsys, monkeypatch, "w1\nw2\n", "--no-history").out.splitlines()
  new = chat(folder, capsys, monkeypatch, "w1\n/new\nw2", ).out.splitlines()
  assert alone == new != chat(folder, capsys, monkeypatch, "w1\nw2\n").out.splitlines()


def test_a_bad_question_does_not_end_the_conversation(folder, capsys, monkeypatch):
  found = chat(folder, capsys, monkeypatch, f"nonsense\n{'w1 ' * 64}\nw1\n")
  assert "unknown word 'nonsense'" in found.err and "its prompt has 64 tokens" in found.err
  assert len(found.out.splitlines()) == 1


def test_a_conversation_that_grows_too_long_forgets_its_oldest_turns(folder, capsys):
  from rich.console import Console

  said = Chat(Speaker(load(folder)), Console(file=io.StringIO()), max_new=8)
  for _ in range(5):
    said.ask("w1 w2 w3 w4 w5 w6 w7")
  assert "oldest question and answer are forgotten" in capsys.readouterr().err
  assert 2 <= len(said.messages) < 10 and said.turns == 5
  assert len(said.speaker.model.conversation(said.messages[:-1])) <= 56


def test_an_answer_that_is_stopped_is_kept_as_far_as_it_came(folder, monkeypatch):
  from rich.console import Console

  speaker, console = Speaker(load(folder), decoding=Decoding(segment=4)), Console(file=io.StringIO())
  whole = Speaker.stream

  def interrupted(self, requests):
    yield next(whole(self, requests))
    raise KeyboardInterrupt
  monkeypatch.setattr(Speaker, "stream", interrupted)
  said = Chat(speaker, console, "raw")
  answer = said.ask("w1")
  assert answer and console.file.getvalue() == f"{answer} [stopped]\n"
  assert said.messages[-1] == {"role": "assistant", "content": answer}
