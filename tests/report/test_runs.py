import base64
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rhm.errors import ConfigError
from rhm.evaluation.scores import Shift
from rhm.report.cross_domain import target_of
from rhm.report.runs import load_run, load_runs, read_image
from rhm.training.callbacks.training_log import TrainingLog
from tests.report.conftest import MakeRun

MORE_THAN_ALL = {"low": 0.0, "high": 1.0, "footprints": -3, "correct": 0, "promised": 0.5}


def edit(run: Path, change: Any) -> None:
    path = run / "evaluation" / "scores.json"
    scores = json.loads(path.read_text())
    change(scores)
    path.write_text(json.dumps(scores))


def test_a_written_run_is_read_back(make_run: MakeRun) -> None:
    run = load_run(make_run("a", {"town": 0.6, "city": None}, method="rhm", seed=3))
    assert (run.scores.method, run.scores.seed) == ("rhm", 3)
    town, city = run.scores.domains
    assert (town.pixel.iou.value, city.pixel.iou.value) == (0.6, None)
    assert town.histogram is not None
    assert town.histogram[0][100] == 1.0
    assert run.log == TrainingLog()


def test_missing_scores_name_the_folder_and_the_command(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match=r"run has no evaluation/scores\.json.*`rhm evaluate`"):
        load_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="is not a run folder"):
        load_run(tmp_path / "absent")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format": 2}', '{"format": 1}', "[" * 100_000, "\x00"]
)
def test_malformed_scores_are_one_line(make_run: MakeRun, text: str) -> None:
    run = make_run("a", {"town": 0.6})
    (run / "evaluation" / "scores.json").write_text(text)
    with pytest.raises(ConfigError, match="`rhm evaluate`") as caught:
        load_run(run)
    assert "\n" not in str(caught.value)


def test_the_place_of_a_wrong_value_is_told(make_run: MakeRun) -> None:
    run = make_run("a", {"town": 0.6, "city": 0.3})
    edit(run, lambda scores: scores["domains"][1]["pixel"]["iou"].update(value="high"))
    with pytest.raises(ConfigError, match=r"domains\[1\]\.pixel\.iou\.value \(expected a number\)"):
        load_run(run)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s["domains"].append(s["domains"][0]), "twice"),
        (lambda s: s["domains"][0].update(histogram=[[1.0]]), "256 shares"),
        (lambda s: s["domains"][0].update(histogram=[[1.0]] * 2), "1 bands"),
        (lambda s: s["domains"][0].update(histogram=[[1.0] * 255 + [1e15]]), "256 shares"),
        (lambda s: s["model"]["histograms"].update(town=[[-1.0] + [0.0] * 255]), "256 shares"),
        (
            lambda s: s["domains"][0]["calibration"]["bins"][0].update(count=-1),
            "pixels in every bin",
        ),
        (
            lambda s: s["domains"][0].update(footprint_scores=[MORE_THAN_ALL]),
            "footprints of every score",
        ),
        (lambda s: s["domains"][0]["examples"][0].update(width=0), "no size"),
        (lambda s: s["model"].update(sources=[]), "no sources"),
        (lambda s: s["domains"][0].update(histogram=[[1e-12] * 256]), "add up to one"),
        (lambda s: s["model"]["histograms"].update(town=[[0.5] * 256]), "add up to one"),
        (lambda s: s.update(seed=10**400), "whole number"),
        (lambda s: s.update(threshold=10**400), "whole number of 401 digits"),
    ],
)
def test_impossible_values_are_refused(make_run: MakeRun, change: Any, problem: str) -> None:
    run = make_run("a", {"town": 0.6})
    edit(run, change)
    with pytest.raises(ConfigError, match=problem):
        load_run(run)


@pytest.mark.parametrize("image", ["../../b.png", "/etc/passwd", "examples/../../a.png"])
def test_an_image_outside_the_evaluation_is_refused(make_run: MakeRun, image: str) -> None:
    run = make_run("a", {"town": 0.6})
    edit(run, lambda scores: scores["domains"][0]["examples"][0].update(image=image))
    with pytest.raises(ConfigError, match="outside the evaluation folder"):
        load_run(run)


def test_an_image_behind_a_link_outside_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("a", {"town": 0.6})
    picture = run / "evaluation" / "examples" / "a.png"
    picture.rename(tmp_path / "secret.png")
    picture.symlink_to(tmp_path / "secret.png")
    with pytest.raises(ConfigError, match="outside the evaluation folder"):
        load_run(run)


def test_only_png_of_the_stated_size_is_embedded(make_run: MakeRun) -> None:
    run = make_run("a", {"town": 0.6})
    example = load_run(run).scores.domains[0].examples[0]
    packed = np.frombuffer(base64.b64decode(read_image(run, example)), np.uint8)
    assert packed[:4].tobytes() == b"RIFF"
    pixels = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.float64)
    assert np.abs(pixels - 90.0).max() <= 2
    with pytest.raises(ConfigError, match="not a PNG image of 9 x 6 pixels"):
        read_image(run, replace(example, width=9))
    picture = run / "evaluation" / "examples" / "a.png"
    picture.write_bytes(picture.read_bytes()[:40])
    with pytest.raises(ConfigError, match="not a PNG"):
        read_image(run, example)
    picture.write_bytes(b"<svg onload='alert(1)'/>")
    with pytest.raises(ConfigError, match="not a PNG"):
        read_image(run, example)
    picture.unlink()
    with pytest.raises(ConfigError, match="is missing"):
        read_image(run, example)


def test_a_picture_whose_name_no_file_can_have_is_missing(make_run: MakeRun) -> None:
    run = make_run("a", {"town": 0.6})
    edit(run, lambda scores: scores["domains"][0]["examples"][0].update(image="a" * 300))
    example = load_run(run).scores.domains[0].examples[0]
    with pytest.raises(ConfigError, match="is missing"):
        read_image(run, example)


def test_a_domain_is_found_by_its_name_and_shift(make_run: MakeRun) -> None:
    run = load_run(make_run("a", {"town": 0.6, "town (gamma shift)": 0.5, "city": 0.4}))
    for domain in run.scores.domains:
        assert run.domain(domain.name, domain.shift) is domain
    assert run.domain("town", Shift("gamma", 0)) is None
    assert run.domain("port", None) is None


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything can be read")
@pytest.mark.parametrize("name", ["config.yaml", "evaluation/examples/a.png"])
def test_a_file_that_may_not_be_read_is_one_line(make_run: MakeRun, name: str) -> None:
    run = make_run("a", {"town": 0.6})
    (run / name).write_bytes((run / "evaluation/examples/a.png").read_bytes())
    (run / name).chmod(0)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_image(run, load_run(run).scores.domains[0].examples[0])


def test_the_log_skips_blank_columns(make_run: MakeRun) -> None:
    run = make_run("a", {"town": 0.6})
    (run / "metrics.csv").write_text(
        "epoch,lr,step,train_loss,val_iou\n,0.1,9,,\n0,,9,1.5,\n0,,19,,0.25\n0,,19,1.25,\n0,,29,nan,\n"
    )
    assert load_run(run).log == TrainingLog(((9, 1.5), (19, 1.25)), ((19, 0.25),))


def test_domains_of_the_same_name_are_told_apart_by_their_catalogs(make_run: MakeRun) -> None:
    run = make_run("a", {"town": 0.6, "city": 0.5, "port": 0.4})

    def change(scores: Any) -> None:
        scores["format"] = 4
        places = (("town", "maps/a.parquet"), ("town", "maps/b.parquet"), ("port", "c.parquet"))
        for domain, (name, catalog) in zip(scores["domains"], places, strict=True):
            domain |= {"name": name, "catalog": catalog, "split": "test", "created": "2026"}

    edit(run, change)
    names = [domain.name for domain in load_run(run).scores.domains]
    assert names == ["town (a)", "town (b)", "port"]

    def same_stem(scores: Any) -> None:
        scores["domains"][1]["catalog"] = "other/a.parquet"

    edit(run, same_stem)
    names = [domain.name for domain in load_run(run).scores.domains]
    assert names == ["town (maps/a.parquet)", "town (other/a.parquet)", "port"]


def test_of_several_runs_a_domain_has_one_name(make_run: MakeRun) -> None:
    def change(*places: tuple[str, str]) -> Any:
        def changed(scores: Any) -> None:
            scores["format"] = 4
            for domain, (name, catalog) in zip(scores["domains"], places, strict=True):
                domain |= {"name": name, "catalog": catalog, "split": "test", "created": "2026"}

        return changed

    both, one = make_run("both", {"town": 0.5, "other": 0.4}), make_run("one", {"town": 0.3})
    edit(both, change(("town", "here/a.parquet"), ("town", "here/b.parquet")))
    edit(one, change(("town", "here/b.parquet")))
    names = [[domain.name for domain in run.scores.domains] for run in load_runs([both, one])]
    assert names == [["town (a)", "town (b)"], ["town (b)"]]


def test_seeds_of_a_shift_are_not_several_catalogs(make_run: MakeRun) -> None:
    run = make_run("a", {"town (gamma shift)": 0.6, "city": 0.5})

    def change(scores: Any) -> None:
        scores["format"] = 4
        scores["domains"][1]["name"] = scores["domains"][0]["name"]
        for seed, domain in enumerate(scores["domains"]):
            domain["shift"] = {"family": "gamma", "seed": seed}
            domain |= {"catalog": "maps/a.parquet", "split": "test", "created": "2026"}

    edit(run, change)
    domains = load_run(run).scores.domains
    assert [domain.name for domain in domains] == ["town (gamma shift)"] * 2
    labels = ["town (gamma shift)", "town (gamma shift), seed 1"]
    assert [target_of(domain).label for domain in domains] == labels
