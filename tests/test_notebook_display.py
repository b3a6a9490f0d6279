"""Objects in a notebook; law: each shows its facts and a picture, escapes text, runs no script."""

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from rhm import HistogramBank
from rhm.adapters import DeepLoRA, attach
from rhm.adapters.spectra import UpdateSnapshot, take_snapshot
from rhm.data.catalog import Catalog
from rhm.inference.scenes import predict_raster
from rhm.notebook_display import Curves, Images, NotebookDisplay
from rhm.training.config import parse_config
from rhm.training.run import Run
from tests.data.imagery import write_raster


class Named(NotebookDisplay):
    """An object with one fact and a picture that may be missing."""

    def __init__(self, fact: str, error: Exception | None = None) -> None:
        self.fact, self.error = fact, error

    def _facts(self) -> dict[str, object]:
        return {self.fact: self.fact}

    def _picture(self) -> Curves:
        if self.error:
            raise self.error
        return Curves("x", "y", {"line": ([0, 1], [0, 1])})


def picture_in(page: str) -> np.ndarray:
    """Decode the one picture of a page."""
    (data,) = re.findall(r'<img alt="" src="data:image/png;base64,([A-Za-z0-9+/=]+)">', page)
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return np.asarray(image.convert("L"), dtype=float)


def image(values: int = 256, bands: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, values, (32, 40, bands), dtype=np.uint8)


def small_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))


def bank(_: Path) -> tuple[NotebookDisplay, str]:
    return HistogramBank.from_images([image()], names=["kampala/1"]), "kampala (uint8)"


def prediction(folder: Path) -> tuple[NotebookDisplay, str]:
    class Dark(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return 8.0 * (0.5 - batch.mean(dim=1, keepdim=True))

    write_raster(folder / "scene.tif", image())
    return predict_raster(Dark(), folder / "scene.tif", folder / "out"), "expected IoU"


def attachment(_: Path) -> tuple[NotebookDisplay, str]:
    model = small_network()
    return attach(model, DeepLoRA(rank=2), gradient_batch=lambda n: _loss(n)), "DeepLoRA(rank=2"


def _loss(network: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    loss: torch.Tensor = network(torch.randn(2, 3, 8, 8, generator=generator)).square().mean()
    return loss


def snapshot(_: Path) -> tuple[NotebookDisplay, str]:
    model = small_network()
    attach(model, DeepLoRA(rank=2), gradient_batch=lambda n: _loss(n))
    return take_snapshot(model, 7), "effective rank"


@pytest.mark.parametrize("made", [bank, prediction, attachment, snapshot])
def test_facts_and_a_picture(
    made: Callable[[Path], tuple[NotebookDisplay, str]], tmp_path: Path
) -> None:
    backend = matplotlib.get_backend(auto_select=False)
    shown, fact = made(tmp_path)
    page = shown._repr_html_()
    assert fact in page
    assert type(shown).__name__ in page
    assert "<script" not in page
    # Something is drawn: more than the white ground and one colour of lines.
    assert len(np.unique(picture_in(page))) > 10
    axes = Figure().subplots()
    assert shown.plot(axes) is axes
    assert axes.lines or axes.images or axes.patches
    assert matplotlib.get_backend(auto_select=False) == backend


def test_a_catalog_shows_its_domains(catalog_path: Path) -> None:
    catalog = Catalog.load(catalog_path)
    page = catalog._repr_html_()
    assert all(str(domain) in page for domain in catalog.domains)
    assert picture_in(page).std() > 10.0


def test_a_run_shows_its_scores_once_it_has_them(catalog_path: Path, tmp_path: Path) -> None:
    config = parse_config({"name": "run", "data": {"catalog": str(catalog_path)}})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    page = Run(tmp_path)._repr_html_()
    assert "not finished" in page
    assert "<img" not in page
    assert "metrics.csv is not there" in page
    (tmp_path / "metrics.csv").write_text(
        "step,train_loss,val_iou\n10,0.9,\n20,0.7,0.25\n30,0.5,\n40,0.4,0.5\n"
    )
    (tmp_path / "model.safetensors").touch()
    page = Run(tmp_path)._repr_html_()
    assert "not finished" not in page
    assert "0.500" in page
    assert picture_in(page).std() > 5.0


def test_text_is_escaped_and_cut() -> None:
    page = Named("<script>alert(1)</script>" + "x" * 500)._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "x" * 300 not in page
    lone = Named("a\ud800b")._repr_html_()
    lone.encode("utf-8")


@pytest.mark.parametrize("error", [OSError("no <file>"), ZeroDivisionError("no <file>")])
def test_what_cannot_be_drawn_says_why(error: Exception) -> None:
    assert "<em>no &lt;file&gt;</em>" in Named("a", error)._repr_html_()
    with pytest.raises(type(error), match="no <file>"):
        Named("a", error).plot(Figure().subplots())


def test_names_are_no_formulas_and_control_nothing() -> None:
    hostile = "x$^{$\x1b[31m\u202e"
    shown = Named(hostile)
    shown._picture = lambda: Curves("x", "y", {hostile: ([0, 1], [0, 1])})  # type: ignore[method-assign]
    page = shown._repr_html_()
    assert "<img" in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    shown._picture = lambda: Images(np.zeros((4, 8)), [hostile, "b"])  # type: ignore[method-assign, assignment, return-value]
    assert "<img" in shown._repr_html_()


def test_a_domain_named_like_a_fact_is_a_row_of_its_own(catalog_path: Path) -> None:
    frame = Catalog.load(catalog_path).frame.copy()
    frame["domain"] = frame["domain"].replace({"alder_aerial": "images"})
    facts = Catalog(frame)._facts()
    assert facts["images"] == str(len(frame))
    assert "domain images" in facts
    assert "there are no images" in Catalog(frame.iloc[:0])._repr_html_()


def test_updates_that_are_zero_are_no_picture() -> None:
    page = UpdateSnapshot(0, {})._repr_html_()
    assert "no updates" in page
    assert "<em>all updates are zero</em>" in page
