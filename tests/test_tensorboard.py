"""Event files as TensorBoard itself reads them."""

import sys
from importlib.util import find_spec

import pytest

from engine.metrics import METRICS
from visualize.tensorboard import TensorBoard

needs_tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="tensorboard is not installed"
)


def write_epochs(folder, epochs, purge_after_epoch, offset=0.0):
    board = TensorBoard(folder, purge_after_epoch)
    for epoch in epochs:
        scores = dict.fromkeys(METRICS, offset + epoch / 10)
        board.write(epoch, {"LOSS": 1 / epoch, **scores}, scores, lr=0.01)
    return board


def read_points(folder, tag):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


@needs_tensorboard
def test_every_score_has_a_point_an_epoch(tmp_path):
    write_epochs(tmp_path, (1, 2, 3), 0).close()
    assert [step for step, _ in read_points(tmp_path, "train/LOSS")] == [1, 2, 3]
    for metric in METRICS:
        points = read_points(tmp_path, f"validation/{metric}")
        assert [value for _, value in points] == pytest.approx([0.1, 0.2, 0.3])
    assert [value for _, value in read_points(tmp_path, "lr")] == pytest.approx([0.01] * 3)


@needs_tensorboard
def test_points_are_on_disk_before_the_run_ends(tmp_path):
    board = write_epochs(tmp_path, (1,), 0)
    assert [step for step, _ in read_points(tmp_path, "validation/RMSE")] == [1]
    board.close()


@needs_tensorboard
def test_a_resumed_run_replaces_the_points_it_writes_again(tmp_path):
    # Killed after epoch 3 was written, resumed after epoch 2.
    write_epochs(tmp_path, (1, 2, 3), 0).close()
    write_epochs(tmp_path, (3, 4), 2, offset=5.0).close()
    points = read_points(tmp_path, "validation/RMSE")
    assert [step for step, _ in points] == [1, 2, 3, 4]
    assert [value for _, value in points] == pytest.approx([0.1, 0.2, 5.3, 5.4])


def test_without_the_package_nothing_is_written_and_nothing_fails(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    write_epochs(tmp_path / "run", (1, 2), 0).close()
    assert not (tmp_path / "run").exists()


def test_a_package_that_cannot_be_imported_does_not_stop_a_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    write_epochs(tmp_path / "run", (1,), 0).close()
    assert not (tmp_path / "run").exists()
