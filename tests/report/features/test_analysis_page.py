"""The page of an analysis: every number is in its tables, and names are text."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from rhm.errors import OutputError
from rhm.evaluation.features.feature_moments import CellSampling
from rhm.evaluation.features.findings import BestTap, Inspection
from rhm.report.features.analysis_page import (
    FILES,
    headlines,
    is_analysis,
    left_out,
    quantities,
    render,
    stage_table,
    tap_sentence,
    write_analysis,
)
from tests.evaluation.features.made_findings import inspection, stage

SAMPLING = CellSampling(images=6, window_px=96, cells=50)


@pytest.fixture
def found() -> Inspection:
    """Two stages at home and away, of which the first is the better tap."""
    stages = [
        replace(stage(number, domain, 0.5 + number), probe=0.9 - 0.1 * number)
        for domain in ("home", "<away>")
        for number in range(2)
    ]
    return inspection(*stages, best=BestTap("m", "encoder[0]", True, 0.9, 0.8, 0.01))


def test_a_row_of_the_table_is_a_stage_in_a_domain(found: Inspection) -> None:
    table = stage_table([found, replace(found, model="n")])
    assert len(table) == 2 * 4
    assert list(table["number"][:4]) == [0, 1, 0, 1]
    assert set(table.columns) >= {"cells_building", "shift_building", "advance_building"}
    assert table["cells_building"].tolist() == [4] * 8


def test_all_files_are_written_or_none(found: Inspection, tmp_path: Path) -> None:
    written = write_analysis([found], SAMPLING, tmp_path / "out")
    assert [path.name for path in written] == list(FILES)
    values = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert values["models"] == [found.to_dict()]
    csv, parquet = (pd.read_csv(written[2]), pd.read_parquet(written[3]))
    pd.testing.assert_frame_equal(csv, parquet, check_dtype=False)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        write_analysis([found], SAMPLING, tmp_path / "file" / "out")


def test_the_files_of_an_analysis_are_known_again(found: Inspection, tmp_path: Path) -> None:
    _, *written = write_analysis([found], SAMPLING, tmp_path)
    assert all(map(is_analysis, written))
    for path in written:
        path.write_bytes(b"mine")
        assert not is_analysis(path)
        path.unlink()
        assert not is_analysis(path)
    pd.DataFrame({"model": ["t"], "price": [1]}).to_parquet(tmp_path / "stages.parquet")
    assert not is_analysis(tmp_path / "stages.parquet")


def test_names_are_text_and_numbers_are_those_of_the_table(found: Inspection) -> None:
    page = render([found], SAMPLING)
    assert "<away>" not in page
    assert "&lt;away&gt;" in page
    for each in found.stages:
        assert f"{each.compression:.3f}" in page
    assert not re.search(r"(src|href)=.https?:", page)
    assert page == render([found], SAMPLING)


def test_a_quantity_is_read_off_the_stage_that_it_is_of(found: Inspection) -> None:
    for quantity in quantities(found.classes):
        values = [quantity.value(each) for each in found.stages]
        assert all(value is None or isinstance(value, int | float) for value in values)
    (compression,) = [each for each in quantities(()) if each.label.startswith("C_l")]
    assert [compression.value(each) for each in found.stages] == [0.5, 1.5, 0.5, 1.5]


def test_headlines_name_the_class_that_looks_most_like_another_away(found: Inspection) -> None:
    (line,) = headlines([found])
    assert all(each in line for each in ("encoder[1]", "building", "<away>", "10%", "80%"))
    home = replace(found, stages=tuple(each for each in found.stages if each.trained_on))
    (line,) = headlines([home])
    assert "<away>" not in line


def test_the_headline_is_of_the_last_stage_that_an_unseen_domain_has(found: Inspection) -> None:
    """A stage that shows no pure cells of a class there is left out in that domain only."""
    kept = tuple(each for each in found.stages if each.trained_on or each.number == 0)
    (line,) = headlines([replace(found, stages=kept)])
    assert "at encoder[0], the mean of building in <away>" in line


def test_the_last_stage_is_not_compared_with_itself() -> None:
    best = BestTap("m", "decoder", True, 0.8, 0.8, 0.02)
    assert tap_sentence(best).endswith("are most accurate at the last stage (80.0%).")
    assert "use this stage" in tap_sentence(replace(best, probe=0.9))
    assert tap_sentence(replace(best, probe=0.81)).endswith("not clear: one of 2.0% would be.")
    alone = replace(best, probe=0.9, margin=math.nan)
    assert tap_sentence(alone).endswith("it takes more images to tell whether that is chance.")


def charts(inspection: Inspection) -> list[str]:
    return re.findall(r'aria-label="(.*?) over the stages of m"', render([inspection], SAMPLING))


def test_a_single_stage_in_a_single_domain_has_all_charts(found: Inspection) -> None:
    alone = replace(found, stages=found.stages[:1])
    assert charts(alone) == charts(found)


def test_classes_that_are_single_points_have_no_place_on_a_logarithmic_axis(
    found: Inspection,
) -> None:
    first, *others = found.stages
    point = replace(first, compression=0.0)
    assert charts(replace(found, stages=(point, *others))) == charts(found)
    without = charts(replace(found, stages=(point,)))
    assert without == [title for title in charts(found) if title != "Compression"]


def test_what_every_model_left_out_is_said_once(found: Inspection) -> None:
    others = [replace(found, model=name) for name in ("a", "b")]
    assert left_out(others) == ["<gone>"]
    alone = replace(found, model="c", left_out=("dead",))
    assert any("c" in line and "dead" in line for line in left_out([*others, alone]))
