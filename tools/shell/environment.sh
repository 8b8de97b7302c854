# Sourced by the scripts at the root, from the root: sets PYTHON to an interpreter that has the
# packages of requirements.txt. The running Python serves when it has them all; otherwise .venv is
# made (about five gigabytes, as PyTorch brings its GPU libraries). EXTRAS, where it is set, names
# further requirements files (separated by spaces) that go into a .venv made here.

has_packages() {
    "$1" - <<'PROBE' 2>/dev/null
import importlib.util as util, sys
names = "torch torchvision h5py numpy pandas matplotlib imageio skimage cv2 scipy PIL tqdm jinja2 pytest"
sys.exit(any(util.find_spec(name) is None for name in names.split()))
PROBE
}

make_environment() {
    local base="$1"
    if ! "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "error: Python 3.11 or newer is needed, got $("$base" --version 2>&1); set PYTHON=" >&2
        return 2
    fi
    echo "Installing the packages of requirements.txt into .venv (once; a few minutes)." >&2
    if ! "$base" -m venv .venv; then
        echo "error: $base cannot make a virtual environment (Debian: apt install python3-venv)" >&2
        return 2
    fi
    local files=(-r requirements.txt) extra
    for extra in ${EXTRAS:-}; do files+=(-r "$extra"); done
    if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check "${files[@]}"; then
        echo "error: installing requirements.txt failed; the message above says why" >&2
        return 2
    fi
    # Compile the propagation now, not at the first image; numba keeps it in __pycache__.
    .venv/bin/python -c "from cspn.backends import numba_cpu as n
n.why_not('forward') or n.why_not('backward')" 2>/dev/null || true
}

PYTHON="${PYTHON:-python3}"
if ! command -v "$PYTHON" >/dev/null; then
    echo "error: $PYTHON not found; install Python 3.11 or newer, or set PYTHON=" >&2
    exit 2
fi
if ! has_packages "$PYTHON"; then
    if [ ! -x .venv/bin/python ] || ! has_packages .venv/bin/python; then
        make_environment "$PYTHON" || exit 2
    fi
    PYTHON=.venv/bin/python
fi
