r"""Mathematical answers as people and models write them: reading (`read`) and equality (`equal`).

`text`, `chinese` and `units` make a text tidy, `boxes` and `statement` find the answer in it, `expression` and `values` read
closed forms and compute them, `sets` and `regions` have the sets of real numbers, `labels` the chains of equations, `forms`
reads everything that an answer may be (`records`), `compare`, `special` and `equality` compare; `question` knows
copies. All of it is bounded in time for a text of
bounded length, and nothing evaluates text.

What counts as equal, where mathematics leaves a choice (ours):

* a decimal of at least ROUNDED_DIGITS significant digits equals a value that no decimal equals (1/3, \pi) when it
  is that value correctly rounded; any shorter one does not: 0.333333 is not 1/3;
* a unit, one of a closed list or a noun of the question, may be left out; two different units are different answers,
  and nothing is converted. The degree sign is
  such a unit, and besides 45^\circ is \pi/4. So is the percent sign of a number above 1, and besides 50% is 0.5;
* where the gold answer is a plain number or fraction, the answer has to be one: work left undone (2^{10}, 10/2,
  12+7) is wrong. Expressions may have any form: (x+1)^2 is x^2+2x+1;
* in lists and sets the order does not matter, in tuples it does; {1,1,2} is {1,2}, the list 1,1,2 is not 1,2;
* `x =` may be left out or added, x = 1 is not y = 1; equations are equal when their sides differ by a factor;
  one that is not solved (2x+1 = 7, 2x+1 > 7) is no solution; sides of a chain that contradict each other make it no answer;
* numerals of a base are compared as written: 52_8 is neither 52_9 nor 52 nor 42.
"""

from r1jax.verifiers.answers.equality import equal
from r1jax.verifiers.answers.expression import Unreadable
from r1jax.verifiers.answers.forms import read

__all__ = ["Unreadable", "equal", "read"]
