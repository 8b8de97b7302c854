#!/usr/bin/env bash
# The whole test suite, in an environment made on first use. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
# What optional parts need; where it is not installed their tests are skipped with the reason.
EXTRAS="requirements-test.txt"
source tools/shell/environment.sh
exec "$PYTHON" -m pytest "$@"
