r"""Equality of the forms of answers. The conventions are in the docstring of `r1jax.verifiers.answers`."""

import re

from r1jax.verifiers.answers.compare import is_literal, is_settled, proportional, same_expression
from r1jax.verifiers.answers.expression import Node, Unreadable, parse, symbols
from r1jax.verifiers.answers.forms import without_article
from r1jax.verifiers.answers.labels import says_more, without_words
from r1jax.verifiers.answers.records import Based, Clock, Congruence, Family, Group, Matrix, Named, Relation, Scalar, Words
from r1jax.verifiers.answers.regions import Region, alike
from r1jax.verifiers.answers.sets import as_region, marked
from r1jax.verifiers.answers.special import components, equal_congruences, equal_families, equal_times, is_vector, renamed
from r1jax.verifiers.answers.text import plain_words
from r1jax.verifiers.answers.units import same_units
from r1jax.verifiers.answers.values import Undefined, evaluate, is_zero, quotient, same


def equal(answer: object, gold: object, answer_text: str = "", gold_text: str = "") -> bool:
  """Whether an answer's form is equal to the gold one's. The texts are for words, where one side may be letters."""
  if says_more(answer):
    answer = without_words(answer)
  if isinstance(gold, Words) or isinstance(answer, Words):
    return _equal_words(answer, gold, answer_text, gold_text)
  if isinstance(gold, Named) or isinstance(answer, Named):
    return _equal_named(answer, gold)
  if isinstance(gold, Family) or isinstance(answer, Family):
    return equal_families(answer, gold)
  if isinstance(answer, Relation) and isinstance(gold, Scalar) and answer.value is not None:
    return is_literal(gold.node) and equal(answer.value, gold)  # x+y = 7 where x+y is asked for
  if isinstance(answer, Relation) and isinstance(gold, Scalar) and answer.sign == "=":
    # x^2-9 = (x-3)(x+3) where x^2-9 is to be factored
    return same_expression(answer.left, answer.right) and same_expression(answer.right, gold.node)
  if isinstance(gold, Relation) or isinstance(answer, Relation):
    return isinstance(gold, Relation) and isinstance(answer, Relation) and proportional(answer, gold)
  if isinstance(gold, Congruence) or isinstance(answer, Congruence):
    return equal_congruences(answer, gold)
  if isinstance(gold, Clock) or isinstance(answer, Clock):
    return equal_times(answer, gold)
  if isinstance(gold, Region) or isinstance(answer, Region):
    return _equal_regions(as_region(answer), as_region(gold))
  if is_vector(answer) and isinstance(gold, Group | Matrix):
    return _equal_vectors(answer, gold)
  if isinstance(gold, Matrix) or isinstance(answer, Matrix):
    return _equal_matrices(answer, gold)
  if isinstance(gold, Group) or isinstance(answer, Group):
    return _equal_groups(answer, gold)
  if isinstance(gold, Based) or isinstance(answer, Based):
    return answer == gold
  return _equal_scalars(answer, gold)


def _equal_words(answer: object, gold: object, answer_text: str, gold_text: str) -> bool:
  if answer == gold:
    return True
  if isinstance(gold, Words) and isinstance(answer, Words):
    return False
  for words, other in ((gold, answer), (answer, gold)):
    if isinstance(words, Words) and words.text == "empty" and isinstance(other, Region):
      return not other.intervals
  return without_article(plain_words(answer_text)) == without_article(plain_words(gold_text)) != ""


def _equal_named(answer: object, gold: object) -> bool:
  if isinstance(answer, Named) and isinstance(gold, Named):
    form = _with_variable(answer, gold) if _same_names(answer, gold) else None
    if form is not None and equal(form, gold.form):
      return True
    if isinstance(answer.form, Scalar) and isinstance(gold.form, Scalar):
      both = symbols(answer.form.node) and symbols(gold.form.node)
      return bool(both) and proportional(_as_relation(answer), _as_relation(gold))
    return False
  named, other = (gold, answer) if isinstance(gold, Named) else (answer, gold)
  if isinstance(other, Relation):
    if named is gold and not (isinstance(gold.form, Scalar) and symbols(gold.form.node)):
      return False  # 2x+1 = 7 is not solved for x
    relation = _as_relation(named)
    return relation is not None and proportional(*((other, relation) if named is gold else (relation, other)))
  if isinstance(other, Region) and other.name not in (None, named.name):
    return False
  return equal(answer.form if isinstance(answer, Named) else answer, gold.form if isinstance(gold, Named) else gold)


_OF_LETTER = re.compile(r"([A-Za-z]+(?:_\w+)?'*)\(([A-Za-z])\)")


def _same_names(answer: Named, gold: Named) -> bool:
  """The same name; a function of another letter; y for f(x); or words for a letter."""
  names = [re.sub(r"^m(?=\\angle)|[\s{}]", "", named.name) for named in (answer, gold)]
  functions = [_OF_LETTER.fullmatch(name) for name in names]
  if names[0] == names[1] or [named.label for named in (answer, gold)].count(True) == 1 and "\\text" in "".join(names):
    return True
  if all(functions):
    return functions[0][1] == functions[1][1] and all(match[2].islower() for match in functions)
  return any(match and match[2].islower() and name in (match[1], "y")
             for match, name in zip(functions, names[::-1], strict=True))


def _with_variable(answer: Named, gold: Named) -> object:
  """The answer's form, its function's letter written as the gold answer's: W(n) = 2n for W(x) = 2x."""
  old, new = (_OF_LETTER.fullmatch(re.sub(r"\s", "", named.name)) for named in (answer, gold))
  if not (old and new) or old[2] == new[2] or not isinstance(answer.form, Scalar):
    return answer.form
  if new[2] in symbols(answer.form.node):
    return None
  return Scalar(renamed(answer.form.node, old[2], new[2]), answer.form.mark, answer.form.unit)


def _as_relation(named: Named) -> Relation | None:
  try:
    return Relation("=", parse(named.name), named.form.node) if isinstance(named.form, Scalar) else None
  except Unreadable:
    return None


def _equal_regions(answer: Region | None, gold: Region | None) -> bool:
  if answer is None or gold is None or len(answer.intervals) != len(gold.intervals):
    return False
  if answer.name is not None and gold.name is not None and answer.name != gold.name:
    return False
  return all(
    a[1] == g[1] and a[3] == g[3] and alike(a[0], g[0]) and alike(a[2], g[2])
    for a, g in zip(answer.intervals, gold.intervals, strict=True)
  )


def _equal_matrices(answer: object, gold: object) -> bool:
  """Entry by entry; a column or a row may be written as a tuple."""
  forms = []
  for form, other in ((answer, gold), (gold, answer)):
    if isinstance(form, Group) and form.kind == "()":
      row = isinstance(other, Matrix) and len(other.rows) == 1
      form = Matrix((form.items,) if row else tuple((item,) for item in form.items))
    if not isinstance(form, Matrix):
      return False
    forms.append(form)
  entries, golds = (tuple(cell for row in form.rows for cell in row) for form in forms)
  return len(forms[0].rows) == len(forms[1].rows) and _same_tuple(entries, golds)


def _equal_vectors(answer: Scalar, gold: Group | Matrix) -> bool:
  items = gold.items if isinstance(gold, Group) else tuple(cell for row in gold.rows for cell in row)
  found = components(answer, len(items)) if len(items) in (2, 3) else None
  try:
    return found is not None and all(same(a, evaluate(_plain_scalar(g), {})) for a, g in zip(found, items, strict=True))
  except (Undefined, Unreadable):
    return False


def _equal_groups(answer: object, gold: object) -> bool:
  if not (isinstance(answer, Group) and isinstance(gold, Group)):
    group, other = (answer, gold) if isinstance(answer, Group) else (gold, answer)
    if group.kind == "ratio" and len(group.items) == 2 and isinstance(other, Scalar):
      return _equal_ratios(group.items, (other, Scalar(parse("1"))))
    if group is answer and group.kind in ("list", "set"):
      return all(equal(item, gold) for item in group.items)  # one answer in two writings, 15 39/40 or 639/40
    return group.kind == "set" and len(group.items) == 1 and equal(answer, group.items[0])
  kinds = {answer.kind, gold.kind}
  if kinds == {"cases"}:
    return _same_items(answer.items, gold.items)
  if kinds == {"ratio"}:
    return len(answer.items) == len(gold.items) and _equal_ratios(answer.items, gold.items)
  if "ratio" in kinds:
    return False
  items, golds = answer.items, gold.items
  if kinds <= {"list", "set"}:
    if ("set" in kinds and len(kinds) == 1) or all(isinstance(item, Group) for item in golds):
      return _covers(items, golds) and _covers(golds, items)
    return _same_items(items, golds)
  if kinds == {"()", "list"}:
    return _same_tuple(_in_order_of_names(items), _in_order_of_names(golds))
  if kinds in ({"][", "()"}, {"]["}):
    return _same_tuple(items, golds)
  if gold.kind == "[]" and answer.kind in ("list", "set") and as_region(gold) is None:
    return _same_tuple(items, golds)  # a list as programs print it, no interval
  return len(kinds) == 1 and _same_tuple(items, golds)


def _same_tuple(items: tuple, golds: tuple) -> bool:
  return len(items) == len(golds) and all(equal(a, g) for a, g in zip(items, golds, strict=True))


def _covers(items: tuple, golds: tuple) -> bool:
  return all(any(equal(a, g) for a in items) for g in golds)


def _same_items(items: tuple, golds: tuple) -> bool:
  """The same items in any order, each as often."""
  left = list(items)
  for gold in golds:
    for place, item in enumerate(left):
      if equal(item, gold):
        del left[place]
        break
    else:
      return False
  return not left


def _in_order_of_names(items: tuple) -> tuple:
  """y = 2, x = 1 as 1, 2, where every item has a name of its own; otherwise as they are."""
  names = [item.name for item in items if isinstance(item, Named)]
  if len(set(names)) != len(items):
    return items
  return tuple(item.form for item in sorted(items, key=lambda item: item.name))


def _equal_ratios(items: tuple, golds: tuple) -> bool:
  """Proportional and none 0; two numbers that could be a time of day have to be the same."""
  try:
    sides = [[evaluate(_plain_scalar(item), {}) for item in each] for each in (items, golds)]
  except (Undefined, Unreadable):
    return False
  if any(is_zero(value) for side in sides for value in side):
    return False
  if len(items) == 2 and all(len(item.node.text) == 2 for item in (items[1], golds[1])):
    return sides[0] == sides[1]
  return all(same(quotient(a, sides[0][0]), quotient(b, sides[1][0])) for a, b in zip(*sides, strict=True))


def _plain_scalar(form: object) -> Node:
  if not isinstance(form, Scalar) or symbols(form.node):
    raise Unreadable("no number")
  return form.node


def _equal_scalars(answer: Scalar, gold: Scalar) -> bool:
  if not same_units(answer.unit, gold.unit):
    return False
  if "radian" in (answer.unit, gold.unit) and "degrees" in (answer.mark, gold.mark):
    return same_expression(marked(answer), marked(gold))
  if is_literal(gold.node) and not is_settled(answer.node):
    # Of degrees the radians are another value, \pi/4 for 45 degrees, and no work left undone.
    return gold.mark == "degrees" and not answer.mark and same_expression(answer.node, marked(gold))
  if answer.mark == gold.mark or not (answer.mark or gold.mark):
    return same_expression(answer.node, gold.node)
  if same_expression(marked(answer), marked(gold)):  # 45 degrees and pi/4, 50% and 1/2
    return True
  if {answer.mark, gold.mark} == {"degrees", "percent"} or not same_expression(answer.node, gold.node):
    return False
  # The sign left out: as a unit may be, but 0.5% is not 0.5.
  return "degrees" in (answer.mark, gold.mark) or not _at_most_one(gold.node)


def _at_most_one(node: Node) -> bool:
  try:
    return bool(symbols(node)) or not abs(evaluate(node, {})) > 1
  except Undefined:
    return True
