#!/usr/bin/env bash
# CSPN on KITTI odometry: the published recipe with ResNet-18, whose network the authors never
# published (the decoder is the community's, release PR 25).
#   Expected  not known: no number for this setting was published with code
#   Hardware  one GPU
#   Data      data/kitti_hdf5 (81 GB); weights pretrained/resnet18.pth or a download
#
# Where data/kitti_hdf5 does not exist it trains on the built-in sample streets instead, into a run
# folder named for them: on a GPU with the settings below, on a CPU for a few minutes, which shows
# that everything works, not how good CSPN gets.
#
# Further arguments are handed on and win:  bash train_cspn_kitti.sh --batch_size_train 16
# Run it again to go on after an interruption.
set -euo pipefail
cd "$(dirname "$0")"
source tools/shell/environment.sh

published=(
    --data_set kitti
    --n_sample 500
    --sampler bernoulli
    --rgb_encoding released
    --depth_resize hole_aware
    --model cspn_unet
    --arch resnet18
    --pretrain
    --refine cspn
    --cspn_step 24
    --cspn_kernel_size 3
    --cspn_norm_type 8sum
    --cspn_anchor coarse
    --lr 0.01
    --momentum 0.9
    --nesterov
    --weight_decay 0.0001
    --lr_schedule plateau
    --num_epoch 40
    --batch_size_train 8
    --batch_size_eval 1
    --num_workers 4
    --seed 0
)

# The sample run on a CPU: a few minutes on two cores.
small=(
    --no-pretrain
    --lr_schedule cosine
    --num_epoch 3
    --batch_size_train 2
    --num_workers 2
)

source tools/shell/sample_run.sh
root=data/kitti_hdf5
save_dir=output/kitti_pretrain_cspn_1_net_cp500_bs8_adlr_ep40_8norm
recipe=("${published[@]}")
if [ ! -d "$root" ]; then
    announce_sample "$root" "SAMPLE STREETS" "KITTI"
    root=data/sample_streets
    save_dir=output/sample_streets
    if ! has_gpu; then
        echo "No GPU found: a short run, which shows that everything works, not how good CSPN gets."
        recipe+=("${small[@]}")
    fi
    "$PYTHON" -m sample_data.streets --root "$root"
fi
save_dir="$(run_folder "$save_dir" "$@")"
pass_signals "$PYTHON" train.py "${recipe[@]}" \
    --data_root "$root" \
    --resume auto \
    "$@" \
    --save_dir "$save_dir"
"$PYTHON" eval.py --resume "$save_dir"
