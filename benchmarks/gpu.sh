#!/usr/bin/env bash
# All that needs a GPU: first the tests that the kernels compute the same, then the tables, written
# to benchmarks/results/*_cuda.csv. About a quarter of an hour on an H100.
#
#   bash benchmarks/gpu.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/shell/environment.sh
"$PYTHON" -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "error: PyTorch sees no GPU here")'
"$PYTHON" -m pytest -q tests/test_gpu_kernels.py -k on_a_gpu
"$PYTHON" -m benchmarks.tiles
"$PYTHON" -m benchmarks.propagation
"$PYTHON" -m benchmarks.propagation --scaling
"$PYTHON" -m benchmarks.training --arch resnet50 --batch 8
"$PYTHON" -m benchmarks.network
