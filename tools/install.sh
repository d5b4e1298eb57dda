#!/usr/bin/env bash
# What `make` calls: a virtual environment in .venv with the locked versions of constraints.txt.
#   PYTHON    the Python to build it with (default: the first fitting one found)
#   GOAL      what the user asked make for, for the messages
# .venv/.installed is written last, so that an installation that broke off is done again.
set -euo pipefail

venv=.venv
run="$venv/bin/python"
fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'

rm -f "$venv/.installed"

usable() { [ -x "$run" ] && "$run" -c "$fits" && "$run" -m pip --version >/dev/null 2>&1; }

create() {
  local names="${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}" name chosen=
  for name in $names; do
    if command -v "$name" >/dev/null && "$name" -c "$fits" 2>/dev/null; then
      chosen="$name"
      break
    fi
  done
  if [ -z "$chosen" ]; then
    {
      echo "error: Python 3.11, 3.12, 3.13 or 3.14 is needed."
      for name in ${PYTHON:-python3 python}; do
        if command -v "$name" >/dev/null; then
          echo "  found: $name, $("$name" --version 2>&1 | head -n 1)"
        else
          echo "  found: no $name"
        fi
      done
      echo "  Install one of them, or name it: make ${GOAL:-tutorial} PYTHON=/path/to/python3.12"
    } >&2
    exit 1
  fi
  echo "1/3 Creating $venv with $chosen ($("$chosen" --version))"
  "$chosen" -m venv --clear "$venv" || {
    rm -rf "$venv"
    echo "error: $chosen cannot create a virtual environment; on Debian and Ubuntu install" \
      "the package python3-venv" >&2
    exit 1
  }
}

# An NVIDIA or an AMD driver; elsewhere than on Linux the default torch is small.
gpu_or_small_torch() {
  [ "$(uname -s)" != Linux ] || [ -e /dev/kfd ] || [ -e /proc/driver/nvidia/version ] ||
    { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }
}

torch_for_the_cpu() {
  local uv=("$run" -m uv pip install --python "$run" --torch-backend=cpu --constraint constraints.txt)
  export UV_HTTP_TIMEOUT=10 UV_HTTP_RETRIES=1
  "$run" -m pip install --quiet --constraint constraints.txt uv &&
    "${uv[@]}" --dry-run torch torchvision >/dev/null 2>&1 && # says within seconds whether it is there
    "${uv[@]}" torch torchvision
}

# pip keeps all wheels of a call until its end, gigabytes with those of CUDA: a call for each.
torch_with_cuda() {
  local requirement
  grep -E '^(nvidia-|triton|torch=)' constraints.txt | while read -r requirement; do
    "$run" -m pip install --no-deps "$requirement" </dev/null
  done
}

usable || create
if gpu_or_small_torch; then
  echo "2/3 Taking the default build of torch"
  torch_with_cuda
else
  echo "2/3 No GPU seen: taking the CPU build of torch, which needs no CUDA libraries"
  torch_for_the_cpu || {
    echo "    It cannot be had here: going on with the default build of torch"
    torch_with_cuda
  }
fi
echo "3/3 Installing the versions of constraints.txt: a few minutes"
"$run" -m pip install --constraint constraints.txt -e ".[notebooks,test,video,onnx,cameras]"
touch "$venv/.installed"
