"""`r1jax export`."""
from pathlib import Path

from r1jax.errors import InputError


def add(verbs) -> None:
  """Adds the verb."""
  export = verbs.add_parser(
    "export", help="write a trained policy as a Hugging Face folder",
    description="Writes a new folder that transformers and vLLM load: safetensors, config, tokenizer, chat template with "
    "the run's own prompt, generation_config with its stop ids, and a model card that says how it was trained. The folder "
    "appears whole or not at all, and one that holds anything is refused.")
  export.add_argument("model", metavar="RUN[:STAGE]", help="a run directory, for its last finished policy, or a stage of it")
  export.add_argument("out", metavar="OUT", help="the folder to write")
  export.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32",
                      help="of the weights (default: float32, as they were trained)")
  export.add_argument("--shard_gb", type=float, default=5.0, metavar="GB", help="largest file of weights (default: 5)")
  export.add_argument("--tokenizer", metavar="DIR", help="use this tokenizer instead of the one that the run names")
  export.set_defaults(call=_export)


def _export(args) -> None:
  from r1jax.hub import load
  from r1jax.hub.export import export
  from r1jax.models.huggingface import require_new

  if not args.shard_gb > 0:
    raise InputError("--shard_gb", args.shard_gb, "It must be more than 0.")
  require_new(Path(args.out))  # before anything large is read
  folder = export(load(args.model, tokenizer=args.tokenizer), args.out, args.dtype, max(1, int(args.shard_gb * 1e9)))
  for file in sorted(folder.iterdir()):
    print(f"{file.stat().st_size:>14,}  {file}")
