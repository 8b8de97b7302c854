"""The tables and logs of a run."""

import csv
import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest

from engine.errors import RunError
from engine.run_folder import RunFolder, format_table


def test_a_table_is_replaced_as_a_whole(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_rows("train", [{"epoch": e, "RMSE": 1 / e} for e in (1, 2, 3)])
    folder.write_rows("train", [{"epoch": 1, "RMSE": 1.0}, {"epoch": 2, "RMSE": 0.25}])
    assert (folder.path / "train.csv").read_text() == "epoch,RMSE\n1,1\n2,0.25\n"
    folder.write_rows("train", [])
    assert not (folder.path / "train.csv").exists()
    folder.write_args({"lr": 0.01})
    assert json.loads((tmp_path / "run" / "args.json").read_text())["args"] == {"lr": 0.01}


def test_a_log_goes_on_after_a_line_that_was_cut_short(tmp_path):
    folder = RunFolder(tmp_path)
    folder.log("epoch", RMSE=0.5)
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"time": "2026-')
    folder.log("end")
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["RMSE"] == 0.5 and json.loads(lines[2])["event"] == "end"
    assert len(lines) == 3


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_a_warning_and_the_run_goes_on(
    number, tmp_path, monkeypatch, capsys
):
    def lockf(stream, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with RunFolder(tmp_path).owned():
        assert os.strerror(number) in capsys.readouterr().err
    for taken in (errno.EAGAIN, errno.EACCES):
        number = taken
        with pytest.raises(RunError, match="is in use by another run"):
            RunFolder(tmp_path).owned().__enter__()


def test_a_folder_belongs_to_one_process_and_is_free_again_when_it_is_gone(tmp_path):
    hold = "import sys; from pathlib import Path; from engine.run_folder import RunFolder\n"
    hold += "with RunFolder(Path(sys.argv[1])).owned(): print('held', flush=True); input()"
    owner = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout.readline() == "held\n"
        sentence = rf"{tmp_path} is in use by another run \(process {owner.pid} on "
        with pytest.raises(RunError, match=sentence), RunFolder(tmp_path).owned():
            pass
    finally:
        owner.kill()
        owner.communicate()
    with RunFolder(tmp_path).owned():
        pass


def test_tables_are_aligned():
    text = format_table([{"method": "linear", "RMSE": 0.25}, {"method": "cspn", "RMSE": 10.0}])
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2] == "linear   0.2500"


def test_csv_cells_are_plain_numbers(tmp_path):
    RunFolder(tmp_path).write_rows("eval", [{"epoch": 1, "DELTA1.25^2": 0.123456789}])
    with (tmp_path / "eval.csv").open() as stream:
        assert next(csv.DictReader(stream)) == {"epoch": "1", "DELTA1.25^2": "0.123457"}
