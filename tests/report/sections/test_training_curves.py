"""Training: curves, features and costs of the runs that recorded them, and of no others."""

from pathlib import Path

import pytest

from rhm.report.numbers import MISSING
from rhm.report.sections.training_curves import section
from rhm.training.callbacks.run_cost import Cost, write_cost
from tests.report.conftest import MakeRun
from tests.report.sections.shown import HOSTILE, Shown, check_harmless, compared

LOG = "step,train_loss,val_iou\n9,1.5,\n19,1.25,\n19,,0.4\n29,1.0,\n29,,0.35\n"
FEATURES = (
    "step,train_loss,val_iou,nc1,compression/first,compression/last\n"
    "9,1.5,,,,\n9,,0.3,0.8,3.0,2.0\n19,,0.4,0.5,2.5,1.0\n"
)


def logged(run: Path, text: str = LOG) -> Path:
    (run / "metrics.csv").write_text(text)
    return run


def test_runs_that_recorded_nothing_have_no_section(make_run: MakeRun) -> None:
    built = section(compared(make_run("a", {"town": 0.6})))
    assert not built.shown
    assert built.numbers == {"curves": [], "feature_curves": [], "costs": []}


def test_the_table_gives_the_end_and_the_best_on_the_way(make_run: MakeRun) -> None:
    runs = [logged(make_run("a", {"town": 0.6})), make_run("b", {"town": 0.5}, method="rhm")]
    built = section(compared(*runs))
    assert built.shown
    shown = Shown(built)
    # The run that logged nothing has no row.
    assert shown.table("End of training").body == [["a", "none", "0", "29", "1.000", "0.400", "19"]]
    assert shown.captions == ["Training loss", "Validation IoU"]
    assert "none, a, seed 0" in shown.titles


def test_a_log_without_validation_has_one_panel_and_dashes(make_run: MakeRun) -> None:
    run = logged(make_run("a", {"town": 0.6}), "step,train_loss\n1999,0.5\n")
    shown = Shown(section(compared(run)))
    assert shown.captions == ["Training loss"]
    assert shown.table("End of training").body == [
        ["a", "none", "0", "1,999", "0.500", MISSING, MISSING]
    ]


def test_features_of_the_same_sources_are_one_block(make_run: MakeRun) -> None:
    """Their curves come by quantity, so that those of one source are not beside each other."""
    runs = [
        logged(make_run(source, {"city": 0.3}, sources=(source,)), FEATURES)
        for source in ("town", "port")
    ]
    built = section(compared(*runs))
    blocks = built.view["feature_blocks"]
    assert [block["sources"] for block in blocks] == [("port",), ("town",)]
    for block in blocks:
        assert [curve.quantity for curve in block["curves"]] == ["nc1", "compression"]
        assert len(block["panels"]) == 2
    shown = Shown(built)
    assert [each for each in shown.of("h4")] == ["Trained on port", "Trained on town"]
    tables = [table for table in shown.tables if table.caption == "Features while training"]
    assert tables[1].body == [
        ["town", "nc1", "9", "0.8000"],
        ["town", "nc1", "19", "0.5000"],
        ["town", "compression", "first", "2.5000"],
        ["town", "compression", "last", "1.0000"],
    ]


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (
            Cost(90.0, 1200, 9000, "CPU", 1, 1234.0, None),
            ["CPU", "1.5", "1,200", "100.0", "1,234", MISSING],
        ),
        (
            Cost(60.0, 10, 30, "A GPU", 2, None, 512.0),
            ["A GPU \N{MULTIPLICATION SIGN} 2", "1.0", "10", "0.5", MISSING, "512"],
        ),
        # A clock that did not move gives no speed.
        (Cost(0.0, 0, 0, "CPU", 1, None, None), ["CPU", "0.0", "0", MISSING, MISSING, MISSING]),
    ],
    ids=["CPU", "GPUs", "no time"],
)
def test_a_cost_alone_is_shown(make_run: MakeRun, cost: Cost, expected: list[str]) -> None:
    run = make_run("a", {"town": 0.6}, seed=3)
    write_cost(cost, run)
    built = section(compared(run))
    assert built.shown
    shown = Shown(built)
    assert shown.headings == ["Cost"]
    assert "svg" not in shown.tags
    assert shown.table("What training took").body == [["a", "none", "3", *expected]]


def test_hostile_names_are_text(make_run: MakeRun) -> None:
    run = make_run(HOSTILE, {"town": 0.6}, method=HOSTILE, sources=(HOSTILE,), folder="a")
    quoted = HOSTILE.replace('"', '""')
    logged(run, FEATURES.replace("compression/first", f'"compression/{quoted}"'))
    write_cost(Cost(60.0, 1, 1, HOSTILE, 1, None, None), run)
    other = logged(make_run("b", {"town": 0.5}))
    shown = Shown(section(compared(run, other)))
    check_harmless(shown)
    assert shown.table("What training took").body[0][3] == HOSTILE
    assert f"{HOSTILE}, {HOSTILE}, seed 0" in shown.titles
    assert f"Trained on {HOSTILE}" in shown.headings
    assert [HOSTILE, "compression", HOSTILE, "2.5000"] in shown.table("Features while").body
