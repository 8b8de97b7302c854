"""Training is the release's training: the same losses from the same weights and batches."""

import pytest
import torch
from release_training import losses, released_losses


def test_two_steps_of_training_follow_the_released_losses():
    """In float32, whose rounding grows with each step: the released code itself is 1e-4 off its own
    float64 loss after one step. `python -m tests.release_training` follows four in float64."""
    released = released_losses(torch.float32)
    ours = list(losses(torch.float32, 3))
    assert ours[0] == pytest.approx(released[0], rel=2e-6)
    assert ours[1] == pytest.approx(released[1], rel=3e-4)
    assert ours[2] == pytest.approx(released[2], rel=1e-3)
