"""The training log, from files made by hand."""

from pathlib import Path

import pytest

from rhm.errors import ConfigError
from rhm.training.callbacks.training_log import FILE, TrainingLog, read_log


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    assert read_log(tmp_path) == TrainingLog((), (), {})


def test_curves_are_in_order_and_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(
        "step,train_loss,val_iou,lr\n19,1.25,,1\n9,1.5,0.25,1\n29,nan,inf,1\nx,1.0,,\n39,\0"
        + "1e99,,"
    )
    assert read_log(tmp_path) == TrainingLog(((9, 1.5), (19, 1.25)), ((9, 0.25),))


def test_features_are_those_that_the_monitor_logs(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(
        "step,nc1,compression/b\x07,discrimination/decoder,nc4,self_duality\n9,2.5,1.0,0.5,3,3\n"
    )
    assert read_log(tmp_path).features == {
        "nc1": ((9, 2.5),),
        "compression/b\ufffd": ((9, 1.0),),
        "discrimination/decoder": ((9, 0.5),),
    }


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('step,train_loss\n1,"' + "9" * 200_000)
    with pytest.raises(ConfigError, match=r"metrics\.csv cannot be read .*field larger"):
        read_log(tmp_path)
