#!/usr/bin/env bash
# The whole test suite, in an environment made on first use. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source engine/environment.sh
exec "$PYTHON" -m pytest "$@"
