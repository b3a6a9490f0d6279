"""The matrix: a row for what was trained, a column for what was scored, shaded up to the best."""

from collections.abc import Sequence

import pytest

from rhm.report.numbers import MISSING
from rhm.report.sections.source_by_target import section
from tests.report.conftest import MakeRun
from tests.report.sections.shown import HOSTILE, Shown, check_harmless, compared


def shares(shown: Shown) -> list[str]:
    return [style.removeprefix("--share: ") for style in shown.values("style")]


def test_a_cell_is_the_mean_over_seeds_or_one_seeds_interval(make_run: MakeRun) -> None:
    """Of two values, the spread is their difference by the square root of two."""
    runs = [
        make_run(f"none-{seed}", {"town": 0.6, "city": city}, seed=seed)
        for seed, city in ((0, 0.2), (1, 0.4))
    ]
    runs.append(make_run("rhm", {"town": 0.5, "city": 0.45}, method="rhm", seed=7))
    table = Shown(section(compared(*runs))).table("Pixel IoU")
    assert table.rows == [
        ["Trained", "town", "city"],
        ["none on town, seeds 0, 1", "0.60 ± 0.00trained on", "0.30 ± 0.14"],
        ["rhm on town, seed 7", "0.50 0.01 to 0.99trained on", "0.45 0.01 to 0.99"],
    ]


def test_what_was_not_scored_or_has_no_score_is_a_dash(make_run: MakeRun) -> None:
    first = make_run("a", {"town": 0.6, "city": None})
    second = make_run("b", {"port": 0.3}, method="rhm", sources=("port",))
    built = section(compared(first, second))
    town, port = Shown(built).table("Pixel IoU").body[::-1]
    assert [cell[:4] for cell in town[1:]] == [MISSING, "0.60", MISSING]
    assert [cell[:4] for cell in port[1:]] == ["0.30", MISSING, MISSING]
    assert [row["cells"].count(None) for row in built.numbers["matrix"]["rows"]] == [2, 1]


@pytest.mark.parametrize(
    ("ious", "expected"),
    [
        ([0.6, 0.3, 0.15], ["1.000", "0.500", "0.250"]),
        ([0.0, 0.2], ["0.000", "1.000"]),
        # Where no score is above zero, none is the strongest.
        ([0.0, 0.0], ["0.000", "0.000"]),
        ([0.0, None], ["0.000"]),
        ([None, None], []),
    ],
    ids=str,
)
def test_colour_is_the_share_of_the_best_score(
    make_run: MakeRun, ious: Sequence[float | None], expected: list[str]
) -> None:
    run = make_run("a", {f"domain {number}": iou for number, iou in enumerate(ious)})
    assert shares(Shown(section(compared(run)))) == expected


def test_a_frame_marks_what_the_row_was_trained_on_and_no_shift_of_it(make_run: MakeRun) -> None:
    shift = "town (gamma shift)"
    run = make_run("a", {"town": 0.6, "city": 0.3, shift: 0.2}, shifts=(shift,))
    shown = Shown(section(compared(run)))
    kinds = [value.removeprefix("num heat ") for value in shown.values("class") if "heat" in value]
    assert kinds == ["source", "unseen", "shifted"]
    assert shown.of("small").count("trained on") == 1


def test_hostile_names_are_text(make_run: MakeRun) -> None:
    run = make_run("a", {HOSTILE: 0.6, "city": 0.2}, method=HOSTILE, sources=(HOSTILE,), folder="a")
    shown = Shown(section(compared(run)))
    check_harmless(shown)
    head, row = shown.table("Pixel IoU").rows
    assert head[1] == HOSTILE
    assert row[0] == f"{HOSTILE} on {HOSTILE}, seed 0"
