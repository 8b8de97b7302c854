#!/usr/bin/env bash
# Evaluate the NYU networks by the published protocol: 500 samples, batch 1, mean of 5 draws.
#   README table rows "CSPN, 8sum" (RMSE 0.1172 m) and "CSPN, 8sum_abs" (RMSE 0.1169 m)
#
#   bash eval_nyudepth_cspn.sh                 # the 8sum network
#   bash eval_nyudepth_cspn.sh 8sum_abs        # the positive-affinity network
#
# The checkpoint is best_model.pth in the published run folder, the authors' file or one trained
# here (last.pth until the first epoch has ended); where that folder holds none, the sample run of
# train_cspn_nyu.sh is evaluated, and without one the network in pretrained/. The images are data/nyudepth_hdf5 where it exists, the sample
# rooms otherwise.
# Further arguments are handed to eval.py and win:  bash eval_nyudepth_cspn.sh --repeat 1
set -euo pipefail
cd "$(dirname "$0")"
source tools/shell/environment.sh
source tools/shell/sample_run.sh

run=output/nyu_pretrain_cspn_1_net_cp500_bs8_adlr_ep40
case "${1:-8sum}" in
    8sum_abs) norm_type=8sum_abs; shift ;;
    8sum) norm_type=8sum; run="${run}_8norm"; [ $# -eq 0 ] || shift ;;
    *) norm_type=8sum; run="${run}_8norm" ;;
esac
protocol=(
    --data_set nyudepth
    --n_sample 500
    --sampler bernoulli
    --batch_size_eval 1
    --repeat 5
)
published="$run"
run="$(first_run "$published" output/sample_rooms_resnet{18,50} pretrained/cspn_resnet18_any)"
if [ "$run" = "$published" ]; then
    protocol+=(--cspn_norm_type "$norm_type")
else
    echo "No checkpoint in $published: evaluating $run."
fi
case "$run" in pretrained/*) protocol+=(--save_dir output/cspn_resnet18_any) ;; esac
root=data/nyudepth_hdf5
if [ -d "$root" ]; then
    "$PYTHON" -m tools.nyu found "$root"
else
    echo "No data/nyudepth_hdf5 (python -m tools.nyu download fetches it): the images are the"
    echo "BUILT-IN SAMPLE ROOMS, not NYU Depth v2."
    root=data/sample_rooms
    "$PYTHON" -m sample_data.rooms --root "$root"
fi
exec "$PYTHON" eval.py --resume "$run" --data_root "$root" "${protocol[@]}" "$@"
