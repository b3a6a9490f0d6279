"""The page: self-contained, escaped, deterministic, and equal to its numbers."""

import base64
import errno
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rhm.errors import ConfigError, OutputError
from rhm.report import write_report
from tests.report.conftest import MakeRun

HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
VOID = {"meta", "input", "br"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are nested properly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


@pytest.fixture
def runs(make_run: MakeRun) -> list[Path]:
    ious = {"none": (0.611, 0.123), "rhm": (0.599, 0.345)}
    folders = []
    for method, (town, city) in ious.items():
        for seed in (0, 1):
            values = {
                "town": town + seed / 100,
                "city": city + seed / 50,
                "town (gamma shift)": 0.2,
            }
            name = f"{method}-{seed}"
            shifts = ("town (gamma shift)",)
            run = make_run(name, values, method=method, seed=seed, shifts=shifts)
            (run / "metrics.csv").write_text("step,train_loss,val_iou\n9,1.5,\n19,1.2,\n19,,0.4\n")
            (run / "config.yaml").write_text(f"method: {method}\n")
            folders.append(run)
    return folders


def test_the_page_stands_alone(runs: list[Path], tmp_path: Path) -> None:
    destination = tmp_path / "out" / "report.html"
    assert write_report(runs, destination) == destination
    assert {path.name for path in destination.parent.iterdir()} == {"report.html", "report.json"}
    text = destination.read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"https?://|url\(|@import", text)
    assert not {"link", "iframe", "img"} & set(page.tags)
    assert "src" not in dict(page.attributes)
    links = page.values("href")
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in links)
    identifiers = page.values("id")
    assert len(identifiers) == len(set(identifiers))
    assert {link[1:] for link in links if link.startswith("#")} <= set(identifiers)
    assert "default-src 'none'" in text
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_a_picture_shown_twice_is_embedded_once(runs: list[Path], tmp_path: Path) -> None:
    page = Page(write_report(runs, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.tags.count("image") == 1
    assert page.tags.count("use") == 5


def test_numbers_on_the_page_are_those_of_the_json(runs: list[Path], tmp_path: Path) -> None:
    page = Page(write_report(runs, tmp_path / "report.html").read_text(encoding="utf-8"))
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert [row["method"] for row in numbers["matrix"]["rows"]] == ["none", "rhm"]
    cell = numbers["matrix"]["rows"][1]["cells"][1]["iou"]
    assert cell["mean"] == pytest.approx(0.355)
    difference = next(row for row in numbers["differences"] if row["target"]["name"] == "city")
    assert difference["by_seed"] == pytest.approx([0.222, 0.222])
    assert "+0.222" in page.text
    for row in numbers["scores"]:
        for estimate in row["scores"].values():
            # Those of outlines are unknown: these runs were scored before there were any.
            assert estimate["mean"] is None or f"{estimate['mean']:.3f}" in page.text
    for sentence in numbers["headlines"]:
        assert sentence in page.text


@pytest.mark.parametrize("polis_m", [1.234, None], ids=["metres", "size of pixels unknown"])
def test_scores_of_outlines_are_shown_where_they_are_known(
    runs: list[Path], tmp_path: Path, polis_m: float | None
) -> None:
    before = write_report(runs, tmp_path / "before.html").read_text(encoding="utf-8")
    assert "PoLiS" not in before
    for run in runs:
        path = run / "evaluation" / "scores.json"
        document = json.loads(path.read_text()) | {"format": 6}
        interval = {"value": 0.987, "low": None, "high": None}
        names = ("complexity_iou", "vertex_ratio", "tangent_error_deg")
        for domain in document["domains"]:
            precisions = {"ap": 0.321, "ap50": 0.654, "ap75": None}
            domain["outline"] = dict.fromkeys(names, interval) | precisions
            domain["outline"]["polis_m"] = interval | {"value": polis_m}
        path.write_text(json.dumps(document))
    after = write_report(runs, tmp_path / "after.html").read_text(encoding="utf-8")
    assert "PoLiS" in after
    assert ("1.234" in after) == (polis_m is not None)
    assert "0.987" in after
    assert "0.321" in after


def test_every_chart_is_named_and_every_header_has_a_scope(
    runs: list[Path], tmp_path: Path
) -> None:
    text = write_report(runs, tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(re.findall(r"<th ", text)) == len(re.findall(r'<th scope="', text))
    charts = re.findall(r"<svg ([^>]*)>", text)
    assert charts
    assert all("aria-label" in chart or "aria-hidden" in chart for chart in charts)
    assert text.count('class="scroll"') == text.count("<table") == text.count("<caption>")


def test_equal_input_gives_equal_files_in_any_order(runs: list[Path], tmp_path: Path) -> None:
    first = write_report(runs, tmp_path / "a" / "report.html")
    second = write_report(runs[::-1], tmp_path / "b" / "report.html")
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".json").read_bytes() == second.with_suffix(".json").read_bytes()


def test_hostile_names_are_text(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [
        make_run(
            HOSTILE + method,
            {HOSTILE: 0.5, "\u202etxt\ud800": 0.2},
            method=method,
            sources=(HOSTILE,),
            folder=method,
            created=HOSTILE,
            catalog=HOSTILE,
        )
        for method in ("none", HOSTILE)
    ]
    (runs[0] / "config.yaml").write_text(f"name: {HOSTILE}</pre>\n")
    (runs[0] / "metrics.csv").write_text("step,train_loss,val_iou\n1,0.5,\n")
    text = write_report(runs, tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("script") == 1  # the slider's own
    assert "alert" not in "".join(re.findall(r"<script>(.*?)</script>", text, re.DOTALL))
    assert HOSTILE in page.text
    assert "\u202e" not in text
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_one_run_alone_is_reported(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("a", {"town": 0.5, "city": None}, method="rhm")
    page = Page(write_report([run, run], tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "rhm reaches mean IoU 0.500 on its own domain" in page.text
    assert "There is nothing to compare" in page.text
    assert "\N{EN DASH}" in page.text


def test_a_run_without_domains_is_reported(make_run: MakeRun, tmp_path: Path) -> None:
    page = Page(write_report([make_run("a", {})], tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "there is nothing to compare" in page.text


def test_a_failed_report_leaves_the_old_one(
    make_run: MakeRun, runs: list[Path], tmp_path: Path
) -> None:
    destination = write_report(runs, tmp_path / "report.html")
    before = destination.read_bytes()
    broken = make_run("broken", {"town": 0.5}, method="rhm", seed=0, sources=("port",))
    (broken / "evaluation" / "examples" / "a.png").write_bytes(b"GIF89a")
    with pytest.raises(ConfigError, match="not a PNG"):
        write_report([*runs, broken], destination)
    assert destination.read_bytes() == before


def test_a_page_and_its_numbers_are_replaced_together(
    make_run: MakeRun, runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = write_report(runs, tmp_path / "report.html")
    pair = (destination, destination.with_suffix(".json"))
    before = [path.read_bytes() for path in pair]
    write, written = Path.write_text, list[str]()

    def full(path: Path, *words: Any, **options: Any) -> int:
        written.append(path.suffix)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, *words, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        write_report(runs[:2], destination)
    assert sorted(written) == [".html", ".json"]
    assert [path.read_bytes() for path in pair] == before


def test_impossible_requests_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no runs given"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(ConfigError, match=r"end the page with \.html"):
        write_report(runs, tmp_path / "report.json")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, rhm.report; print({'jinja2', 'matplotlib', 'torch'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_cost_and_features_are_shown_where_runs_have_them(
    make_run: MakeRun, tmp_path: Path
) -> None:
    runs = [make_run("a", {"town": 0.6}), make_run("b", {"town": 0.5}, seed=1)]
    cost = {
        "seconds": 90.0,
        "steps": 20,
        "images": 180,
        "device": HOSTILE,
        "devices": 2,
        "memory_mb": 1234.5,
        "device_memory_mb": None,
    }
    (runs[0] / "cost.json").write_text(json.dumps(cost))
    stage = "compression/<b>"
    (runs[1] / "metrics.csv").write_text(
        f"step,val_iou,nc1,{stage},compression/decoder,discrimination/decoder,lr\n"
        "9,0.3,2.5,1.5,0.75,0.2,1\n19,0.4,1.25,1.0,0.5,0.4,1\n"
    )
    text = write_report(runs, tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert [row["cost"] for row in numbers["costs"]] == [cost]
    assert HOSTILE in page.text
    assert "1,234" in page.text or "1,235" in page.text
    found = {row["quantity"]: row for row in numbers["feature_curves"]}
    assert set(found) == {"nc1", "compression", "discrimination"}
    assert found["nc1"]["points"] == [[9.0, 2.5], [19.0, 1.25]]
    assert found["compression"]["stages"] == ["<b>", "decoder"]
    assert found["compression"]["points"] == [[0.0, 1.0], [1.0, 0.5]]
    assert "Features while training" in page.text
    assert "<b>" in page.text


def test_a_damaged_cost_is_said(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("a", {"town": 0.6})
    (run / "cost.json").write_text('{"seconds": "long"}')
    with pytest.raises(ConfigError, match=r"cost\.json cannot be read"):
        write_report([run], tmp_path / "report.html")
