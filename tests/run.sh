#!/usr/bin/env bash
# The whole test suite, in an environment made on first use. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
# What optional parts need; where it is not installed their tests are skipped with the reason.
EXTRAS="requirements-test.txt"
source tools/shell/environment.sh
# Two processes of one thread each take half the time of one with two. What the tests of a file
# share is made in one of them; `-n 0` runs all in one process, as `-s` and `--pdb` need.
if "$PYTHON" -c 'import xdist' 2>/dev/null; then
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
    set -- -n 2 --dist loadfile "$@"
fi
exec "$PYTHON" -m pytest "$@"
