"""The tables and logs of a run."""

import csv
import json

import pytest

from engine.failure import RunError
from engine.run_folder import RunFolder, format_table


def test_run_folders_append_rows_and_forget_epochs_that_come_again(tmp_path):
    folder = RunFolder(tmp_path / "run")
    for epoch in (1, 2, 3):
        folder.append_row("train", {"epoch": epoch, "RMSE": 1 / epoch})
    folder.forget_epochs("train", after=1)
    folder.append_row("train", {"epoch": 2, "RMSE": 0.25})
    assert folder.read_rows("train") == [{"epoch": 1, "RMSE": 1}, {"epoch": 2, "RMSE": 0.25}]
    folder.write_args({"lr": 0.01})
    assert json.loads((tmp_path / "run" / "args.json").read_text())["args"] == {"lr": 0.01}
    folder.log("epoch", RMSE=0.5)
    assert json.loads((tmp_path / "run" / "log.jsonl").read_text())["RMSE"] == 0.5


def test_tables_are_aligned():
    text = format_table([{"method": "linear", "RMSE": 0.25}, {"method": "cspn", "RMSE": 10.0}])
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2] == "linear   0.2500"


def test_csv_cells_are_plain_numbers(tmp_path):
    RunFolder(tmp_path).append_row("eval", {"epoch": 1, "DELTA1.25^2": 0.123456789})
    with (tmp_path / "eval.csv").open() as stream:
        assert next(csv.DictReader(stream)) == {"epoch": "1", "DELTA1.25^2": "0.123457"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epoch,RMSE\n1\n", "has a damaged row"),
        ("epoch,RMSE\n1,0.5,0.5\n", "has a damaged row"),
        ("epoch,RMSE\n1,word\n", "has a damaged row"),
        ("epoch,RMSE\none,0.5\n", "row of epoch 'one'"),
        ("step,RMSE\n1,0.5\n", "has no column epoch"),
        ("epoch,MAE\n1,0.5\n", "has no column RMSE"),
        ("epoch,RMSE\n", "holds no row"),
    ],
)
def test_damaged_tables_are_named_before_an_epoch_is_trained(tmp_path, text, sentence):
    path = tmp_path / "train.csv"
    path.write_text(text)
    with pytest.raises(RunError, match=sentence) as error:
        RunFolder(tmp_path).forget_epochs("train", after=2, columns=["RMSE"])
    assert str(path) in str(error.value) and path.read_text() == text
