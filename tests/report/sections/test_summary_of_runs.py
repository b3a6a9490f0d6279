"""The summary: the table names what tells the runs apart, once what they share, and the ranks."""

import json
from pathlib import Path
from typing import Any

from rhm.report.numbers import MISSING
from rhm.report.sections.summary_of_runs import section
from tests.report.conftest import MakeRun
from tests.report.sections.shown import HOSTILE, Shown, check_harmless, compared

ALWAYS = ["Run", "Sources", "Method", "Seed"]


def with_model(run: Path, **changes: Any) -> Path:
    """Change what a run's scores say of its model."""
    path = run / "evaluation" / "scores.json"
    scores = json.loads(path.read_text())
    scores["model"] |= changes
    path.write_text(json.dumps(scores))
    return run


def shared(shown: Shown) -> dict[str, str]:
    return dict(zip(shown.of("dt"), shown.of("dd"), strict=True))


def test_what_runs_share_is_said_once_beside_the_table(make_run: MakeRun) -> None:
    shown = Shown(
        section(compared(make_run("a", {"town": 0.6}), make_run("b", {"town": 0.5}, seed=1)))
    )
    table = shown.table("Runs")
    assert table.rows == [ALWAYS, ["a", "town", "none", "0"], ["b", "town", "none", "1"]]
    assert shared(shown) == {
        "Model": "unet, tf_efficientnet_lite0",
        "Parameters": "5,590,000",
        "Bands": "1",
        "Pixel, m": "1",
        "Training images": "40",
        "Split hash": "0123456789ab",
        "Licence of the data": "CC BY 4.0 <b>bold</b>",
        "rhm version": "0.1.0",
        "Threshold": "0.5",
        "Averaged views": "no",
        "Runtime": "torch",
        "Scored on": "test of catalog.parquet",
        "Evaluated": "2026-11-23T10:00:00+00:00",
    }


def test_what_differs_becomes_a_column_in_its_place(make_run: MakeRun) -> None:
    other = with_model(
        make_run("b", {"town": 0.5}, seed=1, threshold=0.45), gsd_m=None, training_images=9
    )
    shown = Shown(section(compared(make_run("a", {"town": 0.6}), other)))
    table = shown.table("Runs")
    assert table.rows[0] == [*ALWAYS, "Pixel, m", "Training images", "Threshold"]
    assert [row[4:] for row in table.body] == [["1", "40", "0.5"], [MISSING, "9", "0.45"]]
    assert not {"Pixel, m", "Training images", "Threshold"} & set(shared(shown))


def test_conditions_that_differ_become_columns(make_run: MakeRun) -> None:
    other = make_run(
        "b", {"town": 0.5}, seed=1, views=True, runtime="onnx-int8", catalog="b.parquet"
    )
    built = section(compared(make_run("a", {"town": 0.6}), other))
    table = Shown(built).table("Runs")
    assert table.rows[0] == [*ALWAYS, "Averaged views", "Runtime", "Scored on"]
    assert [row[4:] for row in table.body] == [
        ["no", "torch", "test of catalog.parquet"],
        ["yes", "onnx-int8", "test of b.parquet"],
    ]
    for run, row in zip(built.numbers["runs"], table.body, strict=True):
        (evaluation,) = run["evaluations"]
        assert evaluation["runtime"] == run["runtime"] == row[5]
        assert evaluation["views"] == run["views"] == (row[4] == "yes")
        assert evaluation["catalog"] in row[6]


def test_domains_of_earlier_evaluations_keep_their_own_conditions(make_run: MakeRun) -> None:
    """A file keeps the domains that its last evaluation did not score again."""
    run = make_run("a", {"town": 0.6, "city": 0.5}, format=6)
    path = run / "evaluation" / "scores.json"
    scores = json.loads(path.read_text())
    earlier = {"catalog": "old.parquet", "split": "all", "created": "2026-11-01T08:00:00+00:00"}
    scores["domains"][0] |= earlier | {"views": True, "runtime": "openvino"}
    path.write_text(json.dumps(scores))
    built = section(compared(run))
    facts = shared(Shown(built))
    assert facts["Scored on"] == "all of old.parquet, test of catalog.parquet"
    assert facts["Evaluated"] == "2026-11-01T08:00:00+00:00 to 2026-11-23T10:00:00+00:00"
    assert (facts["Averaged views"], facts["Runtime"]) == ("no and yes", "openvino and torch")
    first, second = built.numbers["runs"][0]["evaluations"]
    assert first == {**earlier, "views": True, "runtime": "openvino", "domains": ["town"]}
    assert (second["domains"], second["created"]) == (["city"], scores["created"])
    del scores["domains"][0]["runtime"]
    path.write_text(json.dumps(scores))
    assert shared(Shown(section(compared(run))))["Runtime"] == "torch and unknown"


def test_what_a_model_does_not_say_is_a_dash(make_run: MakeRun) -> None:
    run = with_model(make_run("a", {}), split_hash=None, licence=None, rhm_version=None)
    unknown = {
        name for name, text in shared(Shown(section(compared(run)))).items() if text == MISSING
    }
    assert unknown == {"Split hash", "Licence of the data", "rhm version"}


def test_methods_stand_in_the_order_of_the_unseen_domains(make_run: MakeRun) -> None:
    """And the means on other domains follow that order, though they rank otherwise."""
    ious = {"none": (0.8, 0.2), "rhm": (0.7, 0.5), "gamma": (0.9, 0.3)}
    runs = [
        make_run(method, {"town": town, "city": city}, method=method)
        for method, (town, city) in ious.items()
    ]
    table = Shown(section(compared(*runs))).table("Mean IoU over domains")
    assert table.rows[0][1:3] == ["trained ontown", "unseencity"]
    assert [(row[0], row[1][:5], row[2][:5]) for row in table.body] == [
        ("rhm", "0.700", "0.500"),
        ("gamma", "0.900", "0.300"),
        ("none", "0.800", "0.200"),
    ]


def test_each_set_of_sources_has_its_table(make_run: MakeRun) -> None:
    town, port = (
        make_run(source, {"town": 0.6, "port": 0.4}, sources=(source,))
        for source in ("town", "port")
    )
    captions = [table.caption for table in Shown(section(compared(town, port))).tables]
    assert "Trained on town: mean IoU over domains" in captions
    assert "Trained on port: mean IoU over domains" in captions


def test_without_a_common_domain_there_is_nothing_to_rank(make_run: MakeRun) -> None:
    first = make_run("a", {"town": 0.6})
    second = make_run("b", {"city": 0.6}, method="rhm")
    built = section(compared(first, second))
    shown = Shown(built)
    assert "there is nothing to compare" in shown.text
    assert [table.caption[:4] for table in shown.tables] == ["Runs"]
    assert built.numbers["rankings"] == []


def test_only_configurations_that_are_known_are_listed(make_run: MakeRun) -> None:
    first, second = make_run("a", {"town": 0.6}), make_run("b", {"town": 0.5}, seed=1)
    assert "Configurations" not in Shown(section(compared(first, second))).text
    (second / "config.yaml").write_text("name: b\nseed: 1\n")
    shown = Shown(section(compared(first, second)))
    assert shown.headings[-1] == "b"
    assert shown.of("pre") == ["name: b seed: 1"]


def test_the_numbers_of_a_run_leave_out_its_histograms(make_run: MakeRun) -> None:
    (run,) = section(compared(make_run("a", {"town": 0.6}))).numbers["runs"]
    assert "histograms" not in run
    assert (run["run"], run["parameters"], run["threshold"]) == ("a", 5_590_000, 0.5)


def test_hostile_names_are_text(make_run: MakeRun) -> None:
    run = make_run(HOSTILE, {"town": 0.6}, method=HOSTILE, folder="a", catalog=HOSTILE)
    with_model(run, licence=HOSTILE, encoder=HOSTILE)
    (run / "config.yaml").write_text(f"name: {HOSTILE}</pre>\n")
    shown = Shown(section(compared(run)))
    check_harmless(shown)
    assert shown.table("Runs").body == [[HOSTILE, "town", HOSTILE, "0"]]
    assert shown.of("pre") == [f"name: {HOSTILE}</pre>"]
    assert shared(shown)["Scored on"] == f"test of {HOSTILE}"
