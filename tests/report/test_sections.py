"""Sections: one file each, in one order, and a new file is a new section."""

import json
from pathlib import Path

import pytest

from rhm.report import sections, write_report
from rhm.report.runs import load_run
from rhm.report.section import Comparison, Section
from rhm.report.sections import ORDER, build_sections, section_files
from tests.report.conftest import MakeRun

NEW = '''
from rhm.report.section import Comparison, Section

FRAGMENT = """
{% from "charts.html" import legend %}
<p>{{ images }} images of {{ names | join(", ") }}</p>
{{ legend(items) }}
"""


def section(comparison: Comparison) -> Section:
    domains = [domain for group in comparison.groups for domain in group.runs[0].scores.domains]
    images = sum(domain.images for domain in domains)
    return Section(
        anchor="images",
        title="Images",
        heading="How many images",
        fragment=FRAGMENT,
        view={
            "images": images,
            "names": [target.label for target in comparison.targets],
            "items": comparison.legend,
        },
        numbers={"images": images},
    )
'''


@pytest.fixture
def comparison(make_run: MakeRun) -> Comparison:
    return Comparison.of(
        load_run(make_run(method, {"town": 0.6, "city": iou}, method=method))
        for method, iou in (("none", 0.2), ("rhm", 0.3))
    )


def test_every_file_is_a_section_and_has_its_place(comparison: Comparison) -> None:
    folder = Path(sections.__path__[0])
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert len(section_files()) == len(set(section_files()))
    assert set(ORDER) <= files == set(section_files())
    built = build_sections(comparison)
    assert [type(each) for each in built] == [Section] * len(files)


def test_anchors_and_numbers_belong_to_one_section(comparison: Comparison) -> None:
    built = build_sections(comparison)
    anchors = [each.anchor for each in built]
    names = [name for each in built for name in each.numbers]
    assert len(set(anchors)) == len(anchors)
    assert len(set(names)) == len(names)
    for each in built:
        json.dumps(dict(each.numbers), allow_nan=False)


def test_what_the_runs_do_not_have_is_not_shown_but_numbered(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run("a", {})
    page = write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
    for anchor in ("gallery", "training"):
        assert f'href="#{anchor}"' not in page
        assert f'id="{anchor}"' not in page
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert numbers["gallery"] == numbers["curves"] == numbers["costs"] == []
    assert "<script>" not in page
    assert "script-src" not in page


def test_a_new_file_is_a_new_section(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "counted_images.py").write_text(NEW)
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(folder)])
    run = make_run("a", {"town": 0.6, "<b>city</b>": 0.3})
    page = write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<li><a href="#images">Images</a></li>\n' in page.partition("</nav>")[0]
    expected = (
        '<section id="images">\n<h2>How many images</h2>\n'
        "<p>18 images of town, &lt;b&gt;city&lt;/b&gt;</p>\n"
    )
    assert expected in page
    assert page.index('id="histograms"') < page.index('id="images"') < page.index("</main>")
    assert json.loads((tmp_path / "report.json").read_text())["images"] == 18
