"""Files that are written whole or not at all."""

import errno

import numpy as np
import pandas as pd
import pytest

from engine.files import replace_file, replace_text, whole_file, write_csv
from visualize import pictures


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_write_that_fails_leaves_the_old_file_and_names_it(number, tmp_path):
    path = tmp_path / "a.csv"
    replace_text(path, "old")

    def write(stream):
        stream.write(b"half")
        raise OSError(number, "in its own words")

    with pytest.raises(OSError, match=r"a\.csv") as error:
        replace_file(path, write)
    assert error.value.errno == number
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_numpys_own_error_names_the_file_too(tmp_path):
    def save(part):
        with part.open("wb") as stream:
            np.save(stream, np.zeros(3))
        raise OSError("3 requested and 1 written")

    sentence = r"a\.npy could not be written: 3 requested"
    with pytest.raises(OSError, match=sentence), whole_file(tmp_path / "a.npy") as part:
        save(part)
    assert not list(tmp_path.iterdir())


def test_what_is_written_beside_has_the_same_ending_and_the_old_file_can_stay(tmp_path):
    path = tmp_path / "a.npy"
    for value in (1, 2):
        with whole_file(path, keep_as=tmp_path / "before.npy") as part:
            assert part.suffix == ".npy" and part.parent == tmp_path
            np.save(part, value)
    assert np.load(path) == 2 and np.load(tmp_path / "before.npy") == 1


def test_a_picture_on_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    def full(path, pixels, **options):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pictures.imageio, "imwrite", full)
    with pytest.raises(OSError, match=r"No space left on device.*a\.png"):
        pictures.save_depth_png(tmp_path / "a.png", np.ones((2, 2)))
    assert not list(tmp_path.iterdir())


def test_an_interruption_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_name_in_another_encoding_is_written_with_backslashes(tmp_path):
    write_csv(tmp_path / "a.csv", pd.DataFrame([{"name": "caf\udce9.h5", "RMSE": 1 / 3}]))
    assert (tmp_path / "a.csv").read_text() == "name,RMSE\ncaf\\udce9.h5,0.333333\n"
