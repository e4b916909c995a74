"""The report of `run --seeds`: the seeds as a band, the claims over them, and what is missing named."""

import json

import pytest

from r1jax import launch
from r1jax.errors import InputError
from r1jax.evaluation.claims import Claim, claims_table, spread_table
from r1jax.reports.run import Run
from r1jax.reports.seeds import read

from .test_page import Page, a_run, page_of

SEEDS = (101, 102, 103, 104, 105)
CLAIMS = (Claim("It learns", "zero eval/pass_at_1", 0.5),
          Claim("and keeps it", "zero eval/format", "zero.before eval/format"))


def a_folder(path, seeds=SEEDS, finished=SEEDS):
  """As r1jax.seeds leaves it."""
  for seed in seeds:
    a_run(path / f"seed_{seed}", seed, few=True)
  summaries = {seed: {"stages": {"zero": {"before": {"eval/format": 0.4}, "after": {
    "eval/pass_at_1": seed / 204, "eval/format": 0.5}}}} for seed in finished}
  text = "# toy\n\nMinutes.\n\n" + claims_table(CLAIMS, summaries) + "\n" + spread_table(summaries)
  (path / "seeds.md").write_text(text, encoding="utf-8")
  about = {"experiment": "toy", "seeds": list(seeds), "finished": list(finished),
           "claims": {claim.says: {seed: seed > 102 for seed in finished} for claim in CLAIMS}}
  (path / "seeds.json").write_text(json.dumps(about))
  return path


def test_five_seeds_are_a_band_with_their_claims_above_it(tmp_path):
  folder = a_folder(tmp_path / "seeds")
  assert launch.main(["report", str(folder)]) == 0
  page = Page((folder / "report.html").read_text(encoding="utf-8"))
  assert "Band: least and greatest of 5 seeds." in page.text
  assert "Claims over 5 seeds" in page.text and "It learns (zero eval/pass_at_1 over 0.5)" in page.text
  assert "0.495 / 0.500 no" in page.text and "0.515 / 0.500 yes" in page.text and "3 of 5" in page.text
  assert read(folder).notes == () and len(read(folder).claims.rows) == 2  # not those of the table below that of claims


def test_runs_and_folders_of_seeds_make_one_page_each_run_once(tmp_path):
  folder = a_folder(tmp_path / "seeds", SEEDS[:2], SEEDS[:2])
  text = page_of(folder, folder / "seed_101", a_run(tmp_path / "other", few=True, mesh={"fsdp": 2}), out=tmp_path / "out")
  assert "toy, seed 102" in text and text.count(f">{folder / 'seed_101'}</td>") == 1


def test_what_is_missing_of_the_seeds_is_named(tmp_path):
  folder = a_folder(tmp_path / "seeds", (101, 102, 104), (101,))
  about = json.loads((folder / "seeds.json").read_text())
  (folder / "seeds.json").write_text(json.dumps({**about, "seeds": [101, 102, 103, 104]}))
  for file in (folder / "seed_104").iterdir():
    file.unlink()
  text = Page(page_of(folder)).text
  for said in ("Seed 104 has no run yet: seed_104.log may say why.", "Seed 103 is in seeds.json and has no folder.",
               "Seed 102 did not finish", "Claims over 2 seeds"):
    assert said in text


def test_seeds_that_are_being_run_have_no_claims_yet(tmp_path):
  folder = a_folder(tmp_path / "seeds", SEEDS[:2])
  for name in ("seeds.md", "seeds.json"):
    (folder / name).unlink()
  assert "seeds.json is missing: the seeds are still being run, or that was stopped." in Page(page_of(folder)).text
  (folder / "seeds.json").write_text('{"seeds": 3')
  assert "seeds.json is damaged" in Page(page_of(folder)).text


def test_without_the_table_claims_are_those_of_the_json(tmp_path):
  folder = a_folder(tmp_path / "seeds")
  (folder / "seeds.md").unlink()
  assert read(folder).claims.rows[0] == ["It learns", "no", "no", "yes", "yes", "yes", "3 of 5"]
  (folder / "seeds.json").write_text('{"seeds": [101], "claims": {"It learns": {"101": null}, "odd": 4}}')
  assert read(folder).claims.rows == [["It learns", "not measured", "0 of 1"]]


def test_an_experiment_without_claims_says_so(tmp_path):
  folder = a_folder(tmp_path / "seeds", SEEDS[:1], SEEDS[:1])
  (folder / "seeds.md").write_text("# toy\n")
  (folder / "seeds.json").write_text('{"seeds": [101], "finished": [101], "claims": {}}')
  assert "This experiment makes no claims." in Page(page_of(folder)).text


def test_a_run_is_a_run_even_if_it_holds_a_folder_of_that_name(tmp_path):
  run = a_run(tmp_path / "run", few=True)
  (run / "seed_1").mkdir()
  assert isinstance(read(run), Run)
  (tmp_path / "seeds" / "seed_1").mkdir(parents=True)
  with pytest.raises(InputError, match="none of its seeds has a run yet"):
    read(tmp_path / "seeds")
