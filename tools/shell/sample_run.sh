# Sourced by the scripts at the root: what a run needs, on a built-in sample set too.

# Say in plain sight that the data are not the published ones:
# <missing folder> <sample> <data set> <command that fetches it, where there is one>
announce_sample() {
    cat <<NOTICE
================================================================================
$1 does not exist: training on the BUILT-IN $2.
These are rendered images. No number below is a $3 result.${4:+
$4 fetches $3.}
================================================================================
NOTICE
}

# The first of some run folders that holds a checkpoint; the first of all where none does.
first_run() {
    local folder file
    for folder in "$@"; do
        for file in best_model.pth last.pth model.safetensors; do
            [ ! -f "$folder/$file" ] || { echo "$folder"; return; }
        done
    done
    echo "$1"
}

has_gpu() {
    "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'
}

# The folder a run writes to: <default> <arguments of the script...>, where --save_dir wins.
run_folder() {
    local folder="$1" previous=
    shift
    for argument in "$@"; do
        case "$argument" in --save_dir=*) folder="${argument#*=}" ;; esac
        if [ "$previous" = --save_dir ]; then folder="$argument"; fi
        previous="$argument"
    done
    echo "$folder"
}

# Run a command; a signal that asks this script to stop is sent on to it. Ctrl-C and schedulers reach
# the command by themselves, which takes two signals at once for one.
pass_signals() {
    local child code=0 name
    "$@" &
    child=$!
    for name in TERM USR1 INT HUP; do trap "kill -$name $child 2>/dev/null || true" "$name"; done
    wait "$child" || code=$?
    # A signal ends the first wait; the next one waits for the command itself.
    while kill -0 "$child" 2>/dev/null; do code=0; wait "$child" || code=$?; done
    trap - TERM USR1 INT HUP
    return "$code"
}
