#!/usr/bin/env bash
# Evaluate the KITTI network: 500 samples of the LiDAR's points, batch 1, mean of 5 draws.
#   No number for this setting was published with code.
#
# The checkpoint is best_model.pth in the run folder of train_cspn_kitti.sh, or that of its sample
# run; the images are data/kitti_hdf5 where it exists, the sample streets otherwise.
# Further arguments are handed to eval.py and win:  bash eval_kittidepth_cspn.sh --repeat 1
set -euo pipefail
cd "$(dirname "$0")"
source tools/shell/environment.sh
source tools/shell/sample_run.sh

run=output/kitti_pretrain_cspn_1_net_cp500_bs8_adlr_ep40_8norm
protocol=(
    --data_set kitti
    --n_sample 500
    --sampler bernoulli
    --batch_size_eval 1
    --repeat 5
)
published="$run"
run="$(first_run "$published" output/sample_streets)"
[ "$run" = "$published" ] || echo "No checkpoint in $published: evaluating the sample run $run."
root=data/kitti_hdf5
if [ ! -d "$root" ]; then
    echo "No data/kitti_hdf5: the images are the BUILT-IN SAMPLE STREETS, not KITTI."
    root=data/sample_streets
    "$PYTHON" -m sample_data.streets --root "$root"
fi
exec "$PYTHON" eval.py --resume "$run" --data_root "$root" "${protocol[@]}" "$@"
