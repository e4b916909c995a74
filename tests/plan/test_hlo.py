"""The text of a program, read: loops with their trips, collectives in every form, copies, and what moves."""
from pathlib import Path

import pytest

from r1jax.plan.hlo import ParseError, parse

# A loop of 12 iterations, in steps of 2, around a gather, a gather written as an update and a reduction, and a reduction; a
# gather that begins before the loop and is spread over a fusion in it; a kernel with lines of its own.
TEXT = (Path(__file__).parent / "sample.hlo").read_text()
ROW = 4 * 1_024  # bytes of a row of the stacked array


def test_loops_have_their_trips_from_bound_and_step():
  places = parse(TEXT).places
  assert (places["body"].times, places["taken"].times, places["main"].times) == (12, 12, 1)
  assert places["body"].loops == ("body",) and places["main"].loops == ()


def test_a_loop_that_the_data_end_has_the_steps_it_is_said_to_have():
  endless = TEXT.replace("compare(%i, %bound), direction=LT", "compare(%i, %i), direction=NE")
  assert parse(endless, steps=7).places["body"].times == 7


def test_collectives_count_by_kind_and_loop_and_one_that_is_spread_counts_once():
  found = {(c.kind, c.bytes, c.times, c.loop, c.gathers) for c in parse(TEXT).collectives()}
  gathered = 2 * 32 * 128
  assert found == {("all-gather", gathered, 12, True, True), ("all-reduce", gathered, 12, True, True),
                   ("all-reduce", ROW + 4, 12, True, False), ("all-gather", gathered, 1, False, True)}
  assert parse(TEXT).collectives()[0].where in ("jit(f)/while/body/reshard", "")


def test_a_collective_that_is_not_read_is_an_error_and_no_lower_count():
  with pytest.raises(ParseError, match="6 collectives in the text, 5 read"):
    parse(TEXT.replace("ENTRY", "  %all-to-all.9 = f32[8]{0} all-to-all(%j), channel_id=9\nENTRY"))
  with pytest.raises(ParseError, match="no entry"):
    parse(TEXT.replace("ENTRY %main", "%main"))


def test_a_copy_in_main_memory_is_found_and_one_to_a_faster_memory_is_none():
  ((one, place),) = parse(TEXT).copies(10 * ROW)
  assert (one.name, one.where, place.times) == ("copy.1", "jit(f)/copied", 1)
  assert [x.name for x, _ in parse(TEXT).copies(ROW)] == ["copy.1", "layer"], "a layer taken out of a stacked array"


def test_a_part_that_is_taken_moves_that_part_alone():
  text = TEXT[:TEXT.index("  %all-gather.3")] + TEXT[TEXT.index("  ROOT %carry"):]
  loops = parse(text).traffic()["loops"]
  assert loops == 12 * (2 * ROW + 4 + 4 + 4 + 4), "a row read and written, the counter read twice and written, and a 2"
