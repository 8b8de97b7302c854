"""Every flag the shell scripts pass, the published recipe, and the release's flag names."""

import re
from pathlib import Path

import pytest

import eval as eval_script
import train as train_script
from engine.config import TrainConfig

ROOT = Path(__file__).resolve().parent.parent


def script_flags(script, array):
    """The flags a shell array of the script holds, word by word."""
    text = (ROOT / script).read_text()
    block = re.search(rf"^{array}=\(\n(.*?)^\)", text, re.DOTALL | re.MULTILINE)
    return block.group(1).split()


@pytest.mark.parametrize(
    ("script", "array", "parser"),
    [
        ("train_cspn_nyu.sh", "published", train_script.build_parser),
        ("train_cspn_nyu.sh", "small", train_script.build_parser),
        ("eval_nyudepth_cspn.sh", "protocol", eval_script.build_parser),
        ("train_cspn_kitti.sh", "published", train_script.build_parser),
        ("train_cspn_kitti.sh", "small", train_script.build_parser),
        ("eval_kittidepth_cspn.sh", "protocol", eval_script.build_parser),
    ],
)
def test_every_flag_of_the_shell_scripts_parses(script, array, parser):
    flags = script_flags(script, array)
    assert len(flags) >= 4
    parser().parse_args(flags)


def test_the_training_script_states_the_published_recipe():
    args = train_script.build_parser().parse_args(script_flags("train_cspn_nyu.sh", "published"))
    expected = {
        "arch": "resnet50",
        "pretrain": True,
        "n_sample": 500,
        "lr": 0.01,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 1e-4,
        "num_epoch": 40,
        "batch_size_train": 8,
        "cspn_step": 24,
        "cspn_norm_type": "8sum",
        "cspn_anchor": "coarse",
        "sampler": "bernoulli",
        "rgb_encoding": "released",
        "depth_resize": "released",
    }
    assert {name: getattr(args, name) for name in expected} == expected


RELEASE_FLAGS = """
    --data_set --n_sample --lr --momentum --weight_decay --nesterov -n --num_epoch --cspn_step
    --cspn_norm_type --batch_size_train --batch_size_eval --save_dir --best_model_dir --train_list
    --eval_list --model --resume -r --pretrain -p
"""


def test_the_releases_flag_names_are_kept():
    text = train_script.build_parser().format_help()
    for flag in RELEASE_FLAGS.split():
        assert re.search(rf"(^|[\s,]){flag}\b", text), flag
    args = train_script.build_parser().parse_args(["-n", "-p", "-r", "--model", "unet"])
    assert (args.nesterov, args.pretrain, args.resume, args.refine) == (True, True, "auto", "none")


def test_adamw_brings_its_own_defaults_and_flags_win_over_them():
    sgd, adamw = TrainConfig.of({}), TrainConfig.of({"optimizer": "adamw"})
    assert (sgd.lr, sgd.weight_decay, sgd.lr_schedule) == (0.01, 1e-4, "plateau")
    assert (adamw.lr, adamw.weight_decay, adamw.lr_schedule) == (1e-3, 1e-2, "warmup_cosine")
    saved = {"optimizer": "adamw", "lr": 0.02, "lr_schedule": "plateau"}
    followed = TrainConfig.of(saved, {"weight_decay": 0.5})
    assert (followed.lr, followed.weight_decay, followed.lr_schedule) == (0.02, 0.5, "plateau")
