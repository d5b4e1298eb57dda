#!/usr/bin/env bash
# Train the embedded CLIP on one GPU in less than 8 minutes. Nothing is rendered: it needs the parts
# that `python -m experiments.embedded_clip compress` wrote, and writes the same model folder as the
# training on a CPU. Usage: experiments/embedded_clip/gpu.sh PARTS FOLDER [MINUTES [OPTION...]]
set -euo pipefail
parts=$1 folder=$2 minutes=${3:-6.5}
shift $(($# < 3 ? $# : 3))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${PYTHON:-python}
"$python" -m experiments.embedded_clip expand --parts "$parts" --out "$work/pack"
"$python" -m experiments.embedded_clip train --pack "$work/pack" --folder "$folder" \
    --work "$work" --minutes "$minutes" --device "${DEVICE:-cuda}" "$@"
