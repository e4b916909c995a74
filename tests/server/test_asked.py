"""What a request may say."""
import pytest

from r1jax.sampling.choice import Sampling
from r1jax.server.asked import Refused, read

DEFAULT = Sampling(0.6, 0.95)
PLAIN = {"model": "m", "prompt": "a"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
BAD = [
  ([], None), ({}, "model"), ({"model": 3}, "model"), ({"prompt": None}, "prompt"),
  ({"prompt": []}, "prompt"), ({"prompt": [[]]}, "prompt"), ({"prompt": [1.5]}, "prompt"), ({"prompt": [True]}, "prompt"),
  ({"prompt": {}}, "prompt"), ({"n": 0}, "n"), ({"n": True}, "n"), ({"n": 1000}, "n"), ({"best_of": 3}, "best_of"),
  ({"max_tokens": -1}, "max_tokens"), ({"max_tokens": "9"}, "max_tokens"), ({"temperature": -0.1}, "temperature"),
  ({"temperature": 2.1}, "temperature"), ({"temperature": float("nan")}, "temperature"), ({"top_p": 1.1}, "top_p"),
  ({"seed": 0.5}, "seed"), ({"stop": [""]}, "stop"), ({"stop": 3}, "stop"), ({"stop": ["a"] * 17}, "stop"),
  ({"logprobs": 21}, "logprobs"), ({"logprobs": True}, "logprobs"), ({"echo": 1}, "echo"), ({"stream": "yes"}, "stream"),
  ({"stream_options": {"include_usage": True}}, "stream_options"), ({"presence_penalty": 1}, "presence_penalty"),
  ({"logit_bias": {"5": 1}}, "logit_bias"), ({"suffix": "x"}, "suffix"), ({"whatever": 1}, "whatever"),
]
BAD_CHAT = [
  ({"messages": []}, "messages"), ({"messages": "a"}, "messages"), ({"messages": [{"role": "robot", "content": "a"}]},
                                                                   "messages"),
  ({"messages": [{"role": "user"}]}, "messages"), ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
                                                   "messages"),
  ({"max_tokens": 0}, "max_tokens"), ({"top_logprobs": 2}, "top_logprobs"), ({"logprobs": 1}, "logprobs"),
  ({"tools": [{}]}, "tools"), ({"response_format": {"type": "json_object"}}, "response_format"), ({"echo": True}, "echo"),
]


@pytest.mark.parametrize(("chat", "change", "param"), [(False, *case) for case in BAD]
                         + [(True, *case) for case in BAD_CHAT], ids=str)
def test_a_bad_request_is_refused_with_the_field_that_is_wrong(chat, change, param):
  body = ({**(CHAT if chat else PLAIN), **change} if change else change) if isinstance(change, dict) else change
  with pytest.raises(Refused) as found:
    read(body, chat, DEFAULT)
  assert (found.value.status, found.value.param) == (400, param)


def test_what_a_request_does_not_say_is_the_servers_default():
  asked = read({**PLAIN, "temperature": None, "user": "somebody", "presence_penalty": 0.0, "tools": []}, False, DEFAULT)
  assert (asked.prompts, asked.sampling, asked.n, asked.max_tokens, asked.seed, asked.logprobs) == (
    ("a",), DEFAULT, 1, 16, None, None)
  chat = read(CHAT, True, DEFAULT)
  assert (chat.messages, chat.max_tokens, chat.stops) == (({"role": "user", "content": "a"},), None, ())


def test_prompts_and_messages_come_in_several_forms():
  forms = ["a", ["a", "b"], [1, 2], [[1, 2], [3]], ["a", [3]]]
  wanted = [("a",), ("a", "b"), ((1, 2),), ((1, 2), (3,)), ("a", (3,))]
  assert [read({**PLAIN, "prompt": form}, False, DEFAULT).prompts for form in forms] == wanted
  said = [{"role": "developer", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
          {"role": "assistant", "content": None}]
  assert read({**CHAT, "messages": said}, True, DEFAULT).messages == (
    {"role": "system", "content": "bc"}, {"role": "assistant", "content": ""})
  assert read({**CHAT, "max_completion_tokens": 7}, True, DEFAULT).max_tokens == 7


def test_the_coldest_temperatures_are_greedy():
  assert read({**PLAIN, "temperature": 0, "top_p": 0}, False, DEFAULT).sampling.temperature == 0
  assert read({**PLAIN, "temperature": 1e-30}, False, DEFAULT).sampling.temperature == 0
  assert read({**PLAIN, "temperature": 0.02}, False, DEFAULT).sampling.temperature == 0.02
