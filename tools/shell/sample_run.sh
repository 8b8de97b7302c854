# Sourced by the training scripts: what a run on a built-in sample set needs.

# Say in plain sight that the data are not the published ones: <missing folder> <sample> <data set>
announce_sample() {
    cat <<NOTICE
================================================================================
$1 does not exist: training on the BUILT-IN $2.
These are rendered images. No number below is a $3 result.
================================================================================
NOTICE
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
