"""Several machines: two network namespaces train as one machine does, and disagreement is refused.

The faults, which take minutes, are in `python -m tests.cluster`.
"""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from engine import distributed
from engine.config import TrainConfig
from engine.errors import OptionError
from engine.resume import check_processes_agree
from tests import cluster
from tests.conftest import write_frames
from tests.faults.runs import ROOT, differing_files


@pytest.fixture
def nodes():
    """Two machines with a cable between them."""
    try:
        with cluster.two_nodes() as nodes:
            yield nodes
    except cluster.Unavailable as error:
        pytest.skip(f"no network namespaces here: {error}")


def test_two_machines_train_as_one_with_two_processes_bit_for_bit(nodes, tmp_path):
    data = write_frames(tmp_path / "frames", n_train=4, n_val=2)
    flags = ("--max_steps", "2")
    whole = cluster.untouched(data, tmp_path / "one", *flags)
    cluster.train(nodes, data, tmp_path / "two", *flags)
    cluster.finish(nodes)
    assert cluster.saved_step(whole) == 2
    assert not differing_files(whole, tmp_path / "two")
    assert "and 1 more" in nodes[0].log.read_text()  # each trained with the other
    assert "and 1 more" not in nodes[1].log.read_text()


SCRIPT = """
import os, sys
sys.path.insert(0, {root!r})
import torch
from engine import distributed
from engine.cli import exit_code

def disagree(argv):
    distributed.check_equal({{"--lr": 1 + distributed.rank()}}, "give one flag")

def lose_one(argv):
    with distributed.joined(torch.device("cpu"), minutes=0.5):
        exit_code(disagree, [], processes=True)
        if distributed.rank() == 1:
            os._exit(0)  # for which torchrun ends nobody else
        distributed.all_reduce_sum(torch.ones(1))

sys.exit(exit_code(lose_one, [], processes=True))
"""


def test_processes_say_which_value_differs_and_which_of_them_is_gone(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(root=str(ROOT)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, tmp_path / "script.py"], env=environment, capture_output=True, text=True
    )
    assert done.stderr.count("has --lr 2, and process 0 on ") == 2
    assert done.stderr.count("has 1; give one flag") == 2
    assert done.stderr.count("error: process 1 on ") == 3
    assert "ended, is stopped or cannot be reached (" in done.stderr
    assert "--resume auto" in done.stderr and "exitcode  : 2" in done.stderr


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"step": 4}, r"process 1 on b has steps done 4, and process 0 on a has 0; --save_dir"),
        ({"epoch": 1}, r"finished epochs 1, .*a folder that all machines share"),
        ({"position": 2}, r"images done 2"),
        ({"train": {"count": 3, "digest": "f" * 64}}, r"train frames 3 \(ffffffff\), .* has 4 \("),
        ({"val": {"count": 4, "digest": "f" * 64}}, r"val frames 4 \(f.*the same frames"),
        ({"lr": 0.5}, r"--lr 0.5, .* 0.01; start every machine with the same flags"),
        ({"batch_size_train": 4}, r"--batch_size_train 4"),
        ({"seed": 1}, r"--seed 1"),
        ({"max_steps": 5}, r"--max_steps 5, .* has None"),
        ({"num_workers": 7, "data_root": "/disk", "save_dir": "/other", "compile": True}, None),
    ],
    ids=str,
)
def test_machines_that_would_train_different_runs_are_refused(changed, sentence, monkeypatch):
    record = {"count": 4, "digest": "0" * 64}

    def told(values):
        """The values that a process whose state and flags are `values` gives to the others."""
        frames = {part: values.get(part, record) for part in ("train", "val")}
        place = {name: values.get(name, 0) for name in ("epoch", "step", "position")}
        flags = {n: v for n, v in values.items() if n in TrainConfig.fields()}
        found = []
        monkeypatch.setattr(distributed, "all_gather", lambda pair: found.append(pair[1]) or [pair])
        check_processes_agree(SimpleNamespace(frames=frames, **place), TrainConfig.of(flags))
        return found

    theirs = iter(told(changed))
    monkeypatch.setattr(
        distributed, "all_gather", lambda pair: [("a", pair[1]), ("b", next(theirs))]
    )
    run = SimpleNamespace(frames={"train": record, "val": record}, epoch=0, step=0, position=0)
    if sentence is None:
        check_processes_agree(run, TrainConfig.of({}))
        return
    with pytest.raises(OptionError, match=sentence):
        check_processes_agree(run, TrainConfig.of({}))


def test_gloo_is_left_alone_where_the_first_machine_is_this_one():
    assert distributed._interface_to("127.0.0.1") is None
    assert distributed._interface_to("no-such-host.invalid") is None
