#!/usr/bin/env bash
# Whether every experiment that names a slice fits there, at its own lengths and at longer ones: what `r1jax plan` says, and one
# table of all, below experiments/results/plan. Needs libtpu (pip install -e '.[tpu]') and hours; what was compiled before is
# not compiled again. With names, those plans alone: experiments/plans.sh distill_llama8b.
set -uo pipefail
cd "$(dirname "$0")/.."
out=experiments/results/plan
names=" $* "
mkdir -p "$out"

plan() {
  local name=$1
  shift
  if [ "$names" = "  " ] || [[ "$names" == *" $name "* ]]; then
    python -m r1jax plan "$@" --json "$out/$name.json" > "$out/$name.txt"
  fi
}

zero_7b=experiments/r1_zero_qwen2p5_7b.py
zero_32b=experiments/r1_zero_qwen2p5_32b.py
long_32b=(--length 65536 --set mesh.sequence=2 --set mesh.tensor=4 --set stages.r1_zero.decoding.slots=1024)

plan r1_zero_1p5b experiments/r1_zero_qwen2p5_math_1p5b.py --topology v6e:2x4
plan r1_zero_1p5b_32k experiments/r1_zero_qwen2p5_math_1p5b.py --topology v6e:2x4 --length 32768 \
  --set model.max_position=32768 --set stages.r1_zero.decoding.slots=128
plan r1_zero_7b "$zero_7b" --topology v5p:4x4x4
plan r1_zero_7b_32k "$zero_7b" --topology v5p:4x4x4 --length 32768
plan r1_zero_7b_32k_v5e "$zero_7b" --topology v5e:16x16 --length 32768 --set mesh.fsdp=64 --set mesh.tensor=4
plan r1_zero_7b_64k "$zero_7b" --topology v5p:4x4x4 --length 65536 --set mesh.fsdp=16 --set mesh.sequence=2
plan r1_zero_7b_64k_v5e "$zero_7b" --topology v5e:8x8 --length 65536 # too large
plan r1_zero_32b "$zero_32b" --topology v5p:8x8x8
plan r1_zero_32b_64k "$zero_32b" --topology v5p:8x8x8 "${long_32b[@]}"
plan r1_32b experiments/r1_qwen2p5_32b.py --topology v5p:8x8x8
for student in qwen1p5b:v5p:4x4x4 qwen7b:v5p:4x4x4 qwen14b:v5p:4x4x8 qwen32b:v5p:8x8x8 llama8b:v5p:4x4x4 llama70b:v5p:8x8x8; do
  plan "distill_${student%%:*}" "experiments/distill.py:${student%%:*}" --topology "${student#*:}"
done
plan r1_deepseek_v3 experiments/r1_deepseek_v3.py --topology v5p:8x8x8 --stage r1_zero # too large; the other stages are alike

{
  echo "# Plans"
  echo
  echo "Written by \`experiments/plans.sh\`; each line has a text and a JSON file of its name here. Nothing was run on a TPU: a plan"
  echo "says that the TPU's compiler takes every program and that it fits beside what the stage holds."
  echo
  python -m r1jax.plan.table "$out"/*.json
} > "$out/README.md"
