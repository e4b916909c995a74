"""Packaging of r1jax. Each dependency carries the reason it is here."""
from setuptools import find_packages, setup

setup(
    name="r1jax",
    version="0.1.0",
    description="DeepSeek-R1 and R1-Zero in JAX: sharded models, GRPO, experiment files that declare the stages",
    license="Apache-2.0",
    packages=find_packages(include=["r1jax", "r1jax.*"]),
    package_data={"r1jax.reports": ["page.html", "page.css", "page.js"], "r1jax.verifiers": ["README.md"]},
    python_requires=">=3.11,<3.14",
    install_requires=[
        "jax>=0.10.2",  # explicit sharding is the default from here on
        "flax>=0.12.8",  # flax.struct: the pytree records that cross folders
        "optax>=0.2.8",  # optimizers, schedules, gradient clipping
        "orbax-checkpoint>=0.12.8",  # checkpoints: atomic, sharded, restored under another mesh
        "tensorflow-datasets>=4.9.10",  # data sets as array_record; TensorFlow itself is not needed
        "importlib_resources",  # tensorflow-datasets imports it and does not declare it
        "array_record",  # the file format of those data sets
        "pyarrow>=17",  # Parquet, the form in which data sets are published most
        "grain>=0.2.18",  # deterministic shuffling with random access: the data cursor is one integer
        "tokenizers>=0.21",  # tokenizer.json of the hub's folders
        "safetensors>=0.5",  # weights of the hub's folders
        "httpx>=0.28",  # judges behind an endpoint: deadlines, streamed bodies, no redirects
        "tenacity>=9",  # their retries
        "pydantic>=2.10",  # one value against one annotation: what fields of configs may hold
        "annotated-types>=0.7",  # the words that such annotations are written in
        "jinja2>=3.1",  # chat templates of the hub's folders, rendered as transformers renders them
        "mpmath>=1.3",  # values of answers to more digits than a float has
        "matplotlib>=3.9",  # curves.png, and the figures of reports as SVG and PNG: no script, no build step
        "xxhash>=3.4",  # checksums of checkpoints and inputs: OCDBT has none over values, and SHA-256 is slower than a disk
        "rich>=13",  # terminal tables, and the display of a run
        "tensorboardX>=2.6",  # tensorboard logs without TensorFlow
    ],
    extras_require={
        # math-verify beside our own verdicts, and its parser, which it leaves unpinned; nltk and langdetect as in ifeval;
        # the server as in serve, and httpx2 to ask it: 200 clients at once, streams that are left half-read; nbclient and a
        # kernel for the notebooks in colab/
        # jax[tpu] for libtpu, 200 MB: the compiler of TPUs, for plans of tiny programs; without it nobody would look for the
        # faults that are planted. Its versions compile differently: this is the one that users have.
        "test": ["pytest>=8", "pytest-xdist>=3.6", "ruff>=0.8", "math-verify>=0.9", "latex2sympy2_extended>=1.11",
                 "nltk>=3.9.1", "langdetect>=1.0.9", "starlette>=1.0", "uvicorn>=0.40", "httpx2>=2.0", "nbclient>=0.10",
                 "ipykernel>=6.29", "jax[tpu]>=0.10.2; sys_platform == 'linux' and platform_machine == 'x86_64'"],
        # r1jax serve: routes and streams, and the HTTP/1.1 below them. An extra: training needs neither, and what can listen
        # on a port should be installed by choice
        "serve": ["starlette>=1.0", "uvicorn>=0.40"],
        "ifeval": ["nltk>=3.9.1", "langdetect>=1.0.9"],  # sentences, words and languages as IFEval's own checks tell them
        "tpu": ["jax[tpu]>=0.10.2"],
        "wandb": ["wandb>=0.18"],  # run --report_to wandb
        "trackio": ["trackio>=0.10"],  # run --report_to trackio: the same, on one's own machine
        "language": ["pycld2>=0.41"],  # language consistency in other languages than Chinese and English
        "reference": ["torch==2.13.0", "transformers>=5.0"],  # live comparison with the reference implementation
    },
    entry_points={"console_scripts": ["r1jax = r1jax.launch:main"]},
)
