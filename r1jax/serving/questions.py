"""Questions out of a file for `r1jax sample`: a line each, or rows of JSONL or Parquet."""
from r1jax.errors import InputError
from r1jax.files import holds_rows, read_lines, read_rows


def read_questions(file: str, field: str = "question") -> list[dict]:
  """The rows of a file, whose `field` is a question: those of a .jsonl (.jsonl.gz) or .parquet file; of any other,
  {field: line} for each line that is not blank. InputError for a missing file, no questions, or a row without the field."""
  remedy = "Name a .jsonl or .parquet file of rows, or a text file with a question a line."
  if holds_rows(file):
    found = list(read_rows(file, remedy))
  else:
    found = [(number, {field: line.strip()}) for number, line in read_lines(file, remedy) if line.strip()]
  if not found:
    raise InputError(file, "no questions in it", "Give one a line, or a .jsonl or .parquet file of rows.")
  for number, row in found:
    if not isinstance(row.get(field), str) or not row[field].strip():
      known = ", ".join(key for key, value in row.items() if isinstance(value, str)) or "none"
      raise InputError(f"{file}:{number}, field {field!r}", repr(row.get(field)),
                       f"Name the field that holds the question with --field; fields with text: {known}.")
  return [row for _, row in found]
