"""The page: it stands alone, nothing in a run becomes markup, and whatever is missing is named."""

import html.parser
import json
import re
import shutil

import numpy as np
import pytest

from r1jax import launch
from r1jax.reports import browse
from r1jax.reports.draw import Group, binned, draw_curves, edges_of, figure_of, to_svg
from r1jax.reports.page import groups_of, labels_of, report
from r1jax.reports.panels import ACCURACY, RL_PANELS, lines_of
from r1jax.reports.run import read_run

from . import logs

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & <!-- \u2028 {{js}} \ud800 $x$"
STAGE = {"type": "GRPO", "name": "r1_zero", "steps": 60, "reference_every": 20, "minibatches": 1, "kl_coef": 0.1}


def a_run(path, seed=0, few=False, **config):
  """few: only metrics of rewards, whose figures are quickly drawn."""
  log, samples = logs.healthy(seed, steps=60)
  log["eval/pass_at_1"] = np.where(log["step"] % 20 == 1, log["reward/accuracy"], np.nan)
  log["policy/ratio"] = 1 + 0 * log["step"]
  for name in ("low", "high"):
    log[f"eval/pass_at_1_{name}"] = log["eval/pass_at_1"]
  if few:
    log = {name: log[name] for name in ("step", "reward/mean", "reward/format", "policy/loss")}
  logs.write(path, log, [{**s, "reward": 1.0, "parts": {"accuracy": 1.0}} for s in samples],
             config={"config": {"name": "toy", "seed": seed, "stages": [STAGE], **config}})
  return path


class Page(html.parser.HTMLParser):
  """Tags, attributes and the text of each <script>."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.scripts, self.text = [], [], ""
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))
    if tag == "script":
      self.scripts.append("")

  def handle_data(self, data):
    if self.tags and self.tags[-1][0] == "script" and self.scripts:
      self.scripts[-1] += data
    self.text += data


def page_of(*paths, out=None, **options):
  return report(paths, out, **options)[0].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  """The page of a plain run; drawing it takes most of a test's time."""
  return page_of(a_run(tmp_path_factory.mktemp("plain") / "run"))


def test_the_page_stands_alone(text):
  page = Page(text)
  for _, attributes in page.tags:
    for name in ("src", "href", "xlink:href", "data", "action"):
      assert not attributes.get(name) or attributes[name].startswith("#")
  assert "default-src 'none'" in text and not re.search(r"@import|url\((?!#)|https?://(?!www\.w3\.org/)", text)
  assert page.tags.count(("h1", {})) == 1 and text.count("<svg") >= 8


def test_ids_are_unique_and_what_refers_to_them_finds_them(text):
  ids = [attributes["id"] for _, attributes in Page(text).tags if "id" in attributes]
  assert len(ids) == len(set(ids))
  wanted = set(re.findall(r'(?:xlink:href="#|url\(#|<a href="#|getElementById\(")([\w-]+)', text))
  assert wanted and wanted <= set(ids)


def test_nothing_in_a_run_becomes_markup(tmp_path):
  run = a_run(tmp_path / "run", name=EVIL.replace("\ud800", ""))
  lines = (run / "metrics.jsonl").read_text().replace('"r1_zero"', json.dumps(EVIL.replace("\ud800", "")))
  (run / "metrics.jsonl").write_text(lines.replace("reward/format", 'reward/<b id=\\"evil\\">'))
  sample = {"stage": EVIL, "step": 1, "question": EVIL, "response": f"<think>{EVIL}</think>{EVIL}", "answer": EVIL,
            "level": EVIL, "reward": 1.0, "parts": {EVIL: 1.0, "accuracy": 1.0}, "status": EVIL}
  (run / "samples.jsonl").write_text("".join(json.dumps({**sample, "step": step}) + "\n" for step in range(1, 61)))
  (run / "summary.json").write_text(json.dumps({"stages": {EVIL: {"status": EVIL, "rows": 1, f"count/{EVIL}": 2,
                                                                 "after": {EVIL: {EVIL: 1.0}}}}}))
  page = Page(page_of(run))
  assert len(page.scripts) == 2 and not [tag for tag, _ in page.tags if tag == "img"]
  assert not [attributes for _, attributes in page.tags if "onerror" in attributes or attributes.get("id") == "evil"]
  data = json.loads(page.scripts[0])
  assert EVIL.replace("\ud800", "?") in data["samples"][0]["question"]
  assert "alert(1)" not in page.scripts[1] and "{{" not in page.scripts[1]


def test_every_panel_shows_its_lines_or_names_what_it_needs(text):
  page = Page(text)
  for panel in RL_PANELS:
    assert panel.title in page.text
  assert "Not in this log: rollout/occupancy, update/padding." in page.text
  assert "Not in this log: level/*. Of questions" in page.text


def test_what_is_missing_is_named_on_the_page(tmp_path):
  run = a_run(tmp_path / "run", few=True)
  (run / "samples.jsonl").unlink()
  (run / "config.json").write_text("{")
  with (run / "metrics.jsonl").open("a") as f:
    f.write('{"stage": "r1_zero", "step": 61, "policy/loss": null}\n{"sta')
  text = Page(page_of(run)).text
  for said in ("samples.jsonl is missing.", "config.json is not JSON", "in the middle of a line", "policy/loss is null"):
    assert said in text


@pytest.mark.parametrize("kept", [("config.json",), ("metrics.jsonl",), ("config.json", "samples.jsonl")])
def test_a_run_of_few_files_is_shown(tmp_path, kept):
  run = a_run(tmp_path / "run", few=True)
  for file in run.iterdir():
    if file.name not in kept:
      file.unlink()
  assert "is missing" in Page(page_of(run)).text


def test_an_empty_log_is_shown(tmp_path):
  for name in ("metrics", "samples"):
    (tmp_path / f"{name}.jsonl").write_text("")
  assert "metrics.jsonl is empty." in Page(page_of(tmp_path)).text


def test_seeds_are_one_group_and_other_configs_another(tmp_path):
  runs = [read_run(a_run(tmp_path / name, seed, **config)) for name, seed, config in (
    ("a", 0, {}), ("b", 1, {}), ("c", 0, {"mesh": {"fsdp": 2}}))]
  assert [len(group.runs) for group in groups_of(runs)] == [2, 1]
  assert len(set(labels_of(runs))) == 3
  figure, remarks = figure_of(ACCURACY, "r1_zero", groups_of(runs))
  assert "Band: least and greatest of 2 seeds." in remarks
  labels = figure.axes[0].get_legend_handles_labels()[1]
  assert len([label for label in labels if label.endswith("training samples")]) == 2 and "reference replaced" in labels


def test_several_runs_make_one_page(tmp_path):
  text = Page(page_of(a_run(tmp_path / "a", few=True), a_run(tmp_path / "b", 1, few=True), out=tmp_path / "out")).text
  assert "toy, seed 0" in text and "toy, seed 1" in text


def test_lines_are_means_over_bins_with_their_extremes():
  steps = np.arange(1000)
  edges = edges_of(steps, 10)
  mean, low, high = binned((steps, steps.astype(float)), edges)
  assert (mean[0], low[0], high[0]) == (49.5, 0, 99) and (mean[-1], low[-1], high[-1]) == (949.5, 900, 999)
  assert edges_of(np.array([3, 1, 7]), 10).tolist() == [1, 3, 7, 8]
  gaps = np.where(steps < 100, np.nan, 1.0)
  assert np.isnan(binned((steps, gaps), edges)[0][0])


def test_patterns_of_metrics_find_theirs_only(tmp_path):
  run = read_run(a_run(tmp_path / "run"))
  steps = run.series["r1_zero"]["step" if "step" in run.series["r1_zero"] else "reward/mean"]
  for name in ("eval/cons_at_16", "eval/pass_at_8", "level/10", "level/9"):
    run.series["r1_zero"][name] = steps
  found = lines_of(ACCURACY, [run], "r1_zero")
  assert found["eval/cons_at_16"] == "cons@16, held out" and found["eval/pass_at_8"] == "pass@8, held out"
  assert found["eval/pass_at_1"] == "pass@1, held out" and "eval/pass_at_1_low" not in found
  assert list(lines_of(RL_PANELS[4], [run], "r1_zero")) == ["level/9", "level/10"]
  assert "reward/equal_groups" not in lines_of(RL_PANELS[5], [run], "r1_zero")


def test_an_svg_takes_its_colours_from_the_page(tmp_path):
  run = read_run(a_run(tmp_path / "run"))
  svg = to_svg(figure_of(ACCURACY, "r1_zero", [Group("$a_b$", (run,))])[0], "salt")
  assert "var(--ink)" in svg and "var(--grid)" in svg and "#1b1c1d" not in svg and "font-family" not in svg
  assert not re.search(r'<svg[^>]* (width|height)="', svg)


def test_samples_are_spread_over_stages_and_steps(tmp_path):
  run = read_run(a_run(tmp_path / "run"))
  run.samples += [{"stage": "sft", "step": 5, "response": "x"}]
  chosen = browse.choose([run], most=21)
  assert len(chosen) == 21 and chosen[-1][1]["stage"] == "sft"
  steps = [sample["step"] for _, sample in chosen[:-1]]
  assert (steps[0], steps[-1]) == (1, 60) and max(np.diff(steps)) <= 4


@pytest.mark.parametrize(("response", "parts"), [
  ("<think> a </think> <answer> b </answer>", ("a", "b")), ("a </think> b", ("a", "b")), ("b", ("", "b")),
  ("<think> never ends", ("never ends", "")), ("</think>", ("", "")),
  ("<think> a </think> c </think> b", ("a  c", "b"))])
def test_thinking_and_answer_are_told_apart(response, parts):
  assert browse.split_thinking(response) == parts


def test_a_long_text_says_what_was_left_out():
  row = browse.rows([(0, {"stage": "a", "step": 1, "response": "x" * 30_000})])[0]
  assert "[... 10,000 characters left out ...]" in row["answer"] and len(row["answer"]) < 20_100


def test_curves_are_drawn_for_rl_only(tmp_path):
  run = a_run(tmp_path / "run")
  assert draw_curves(run) == run / "curves.png" and (run / "curves.png").stat().st_size > 10_000
  shutil.rmtree(run)
  logs.write(run, {"step": np.array([1]), "policy/loss": np.array([1.0])}, [], stage="sft")
  assert draw_curves(run) is None


def test_the_verb_writes_the_page_and_refuses_what_is_no_run(tmp_path, capsys):
  run = a_run(tmp_path / "run", few=True)
  assert launch.main(["report", str(run), "--price", "3.5"]) == 0
  out = capsys.readouterr().out
  assert str(run / "report.html") in out and (run / "figures" / "r1_zero_rewards.png").exists()
  assert "At $3.5 a chip-hour" in (run / "report.html").read_text(encoding="utf-8")
  for command in (["report", str(tmp_path)], ["report", str(run), "--price", "-1"], ["report", str(run), "--chips", "0"],
                  ["report", str(run), "--out", str(run / "report.html")]):
    assert launch.main(command) == 2
    assert capsys.readouterr().err.startswith("error: ")
