"""Laws of averaging over views: what no view can tell apart stays, and no view is preferred."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rhm.colour.lookup import PixelMap
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.windows import Window
from rhm.errors import ModelFileError
from rhm.inference import predict_raster
from rhm.inference.runtime.tta import averaged_over_views
from rhm.inference.tiling.stream import Grid, Tiling, predict_blocks
from tests.data.imagery import noise, write_raster


class Lopsided(nn.Module):
    """Sees to one side only, so that every view of an image is predicted differently."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 5, padding=2)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.conv(images)
        return logits


def constant(images: Tensor, *, logit: float) -> Tensor:
    return torch.full_like(images[:, :1], logit)


def views(images: Tensor) -> list[Tensor]:
    """The eight views of square images."""
    mirrored = (images, images.transpose(2, 3))
    return [torch.rot90(each, turns, (2, 3)) for each in mirrored for turns in range(4)]


def images(batch: int = 3, side: int = 32) -> Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def assert_alike(logits: Tensor, others: Tensor) -> None:
    """Logits far from 0 are as alike as their probabilities."""
    torch.testing.assert_close(logits.sigmoid(), others.sigmoid(), atol=1e-6, rtol=0.0)


@torch.inference_mode()
def test_an_equivariant_network_stays_as_it_is() -> None:
    blur = nn.Conv2d(3, 1, 3, padding=1)
    corner, edge, middle = torch.randn(3, 1, 3, generator=torch.Generator().manual_seed(2))
    kernel = torch.stack([corner, edge, corner, edge, middle, edge, corner, edge, corner], dim=-1)
    blur.weight.data = kernel.reshape(1, 3, 3, 3)
    assert_alike(averaged_over_views(blur)(images()), blur(images()))


@torch.inference_mode()
def test_the_probability_is_the_mean_over_the_views_turned_back() -> None:
    network = Lopsided()
    back = [[view for view in views(torch.sigmoid(network(turned)))] for turned in views(images())]
    # Of the eight views of a view's prediction, one lies as the image does.
    places = torch.arange(32 * 32.0).reshape(1, 1, 32, 32)
    total = torch.zeros(())
    for turned, candidates in zip(views(places), back, strict=True):
        (number,) = [n for n, view in enumerate(views(turned)) if torch.equal(view, places)]
        total = total + candidates[number]
    seen = torch.sigmoid(averaged_over_views(network)(images()))
    torch.testing.assert_close(seen, total / 8.0)
    assert (seen - torch.sigmoid(network(images()))).abs().max() > 0.1


@torch.inference_mode()
def test_a_turned_image_is_predicted_turned() -> None:
    network = Lopsided()
    averaged = averaged_over_views(network)
    expected = views(averaged(images()))
    alone = views(network(images()))
    for number, turned in enumerate(views(images())):
        assert_alike(averaged(turned), expected[number])
        assert number == 0 or (network(turned) - alone[number]).abs().max() > 0.1


@torch.inference_mode()
def test_images_of_a_batch_do_not_see_each_other() -> None:
    averaged = averaged_over_views(Lopsided())
    each = torch.cat([averaged(image[None]) for image in images()])
    assert_alike(averaged(images()), each)


@torch.inference_mode()
def test_certainty_keeps_finite_logits() -> None:
    for logit in (-200.0, 200.0):
        network = partial(constant, logit=logit)
        seen = averaged_over_views(network)(images())
        assert torch.isfinite(seen).all()
        torch.testing.assert_close(torch.sigmoid(seen), torch.full_like(seen, float(logit > 0)))


def test_a_module_is_found_where_its_network_is() -> None:
    network = Lopsided()
    averaged = averaged_over_views(network)
    # Prediction sends tiles to the device of a module's parameters.
    assert isinstance(averaged, nn.Module)
    assert list(averaged.parameters()) == list(network.parameters())


def test_what_is_wrong_with_a_network_is_said_of_its_views_too() -> None:
    pixels = Pixels(noise(32, 32), np.ones((32, 32), dtype=bool))
    table = PixelMap.normalize((0.0,) * 3, (255.0,) * 3, np.uint8)

    def read(window: Window) -> Pixels:
        assert window == Window(0, 0, 32, 32)
        return pixels

    for network, told in (
        (lambda x: x, r"shape \(1, 3, 32, 32\)"),
        (lambda x: x[:, :1] * torch.nan, "not finite"),
    ):
        with pytest.raises(ModelFileError, match=told):
            list(predict_blocks(network, read, Grid(32, 32, Tiling(32, 0, views=True)), table))


def test_a_scene_is_predicted_from_all_views(tmp_path: Path) -> None:
    """One tile is the mean of its views; of several, a turned scene is predicted turned."""
    pixels = noise(96, 96)
    network = Lopsided().eval()

    def predicted(name: str, tile: int, *, views: bool = True) -> NDArray[np.float32]:
        folder = tmp_path / f"{tile}{views}"
        result = predict_raster(
            network, tmp_path / f"{name}.tif", folder, tile=tile, overlap=tile // 4, views=views
        )
        with rasterio.open(result.probability) as raster:
            return np.asarray(raster.read(1))

    write_raster(tmp_path / "scene.tif", pixels)
    with torch.inference_mode():
        shares = torch.from_numpy(pixels / np.float32(255.0)).permute(2, 0, 1)[None]
        whole = torch.sigmoid(averaged_over_views(network)(shares))[0, 0].numpy()
    np.testing.assert_allclose(predicted("scene", 96), whole, atol=1e-5)
    assert np.abs(predicted("scene", 96, views=False) - whole).max() > 0.1
    write_raster(tmp_path / "turned.tif", np.ascontiguousarray(np.rot90(pixels)))
    # Tiles at 0 and 32 of 96 pixels lie the same from either side.
    np.testing.assert_allclose(predicted("turned", 64), np.rot90(predicted("scene", 64)), atol=1e-5)
    assert (
        np.abs(
            predicted("turned", 64, views=False) - np.rot90(predicted("scene", 64, views=False))
        ).max()
        > 0.1
    )
