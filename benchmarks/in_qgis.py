"""Results in QGIS itself: are the styles applied, and does Deepness predict what rhm predicts?

    export PYTHONPATH=.:.venv/lib/python3.11/site-packages
    /usr/bin/python3 benchmarks/in_qgis.py --deepness qgis-plugin-deepness/src -o qgis

The interpreter is the one that QGIS belongs to; ``PYTHONPATH`` adds rhm and its packages, of the
same version of Python. QGIS runs without a screen. A town is drawn, predicted with the starter
model, opened in QGIS, and drawn by it to ``-o``. With ``--deepness``, the folder of the source of
that plug-in, its own code reads and runs the exported model.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np

SIDE = 640
SHOWN = ("buildings", "mask", "probability")
MODEL = "starter"
DRAW = (
    "import sys; from rhm.synthetic.world import write_sample_world; "
    f"write_sample_world(sys.argv[1], tile_size={SIDE}, tiles_per_domain=1, scene_size=256, seed=7)"
)


def main() -> None:
    """Predict a town, open it in QGIS, and run Deepness on it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deepness", type=Path, help="folder src of the plug-in")
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    output = asked.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    run("-c", DRAW, str(output / "world"))
    scene = output / "world" / "birch_aerial" / "images" / "birch_aerial_00.tif"
    words = ("-m", "rhm.cli.main")
    run(*words, "predict", MODEL, str(scene), "-o", str(output / "predicted"), "--styles")
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from qgis import core

    core.QgsApplication.setPrefixPath("/usr", True)
    application = core.QgsApplication([], False)
    application.initQgis()
    print(f"QGIS {core.Qgis.QGIS_VERSION}")
    layers = opened(core, scene, output / "predicted")
    for name in SHOWN:
        print(f"{name}: {type(layers[name].renderer()).__name__}")
        draw(core, [layers[name], layers["scene"]], output / f"{name}.png")
    side_by_side([output / f"{name}.png" for name in SHOWN], output / "layers.webp")
    if asked.deepness:
        model = output / f"{MODEL}.onnx"
        run(*words, "export", MODEL, "-o", str(model))
        sys.path.insert(0, str(asked.deepness))
        found = by_deepness(core, layers["scene"], model)
        ours = mask_of(layers["mask"])
        print(f"buildings: {layers['buildings'].featureCount()}, by Deepness {found['building']}")
        both = found["mask"] & ours
        print(f"IoU of the two masks: {both.sum() / (found['mask'] | ours).sum():.3f}")
    application.exitQgis()


def run(*words: str) -> None:
    """Run a command of rhm in a process of its own, for its libraries are not those of QGIS."""
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


def opened(core: Any, scene: Path, folder: Path) -> dict[str, Any]:
    """Return the scene and the layers of its prediction."""
    stem = folder / scene.stem
    layers = {
        "scene": core.QgsRasterLayer(str(scene), "scene"),
        "mask": core.QgsRasterLayer(f"{stem}_mask.tif", "mask"),
        "probability": core.QgsRasterLayer(f"{stem}_probability.tif", "probability"),
        "buildings": core.QgsVectorLayer(f"{stem}_buildings.gpkg", "buildings", "ogr"),
    }
    for name, layer in layers.items():
        if not layer.isValid():
            raise SystemExit(f"QGIS cannot open the {name}")
    return layers


def draw(core: Any, layers: list[Any], path: Path) -> None:
    """Let QGIS draw some layers, the first on top."""
    from qgis.PyQt.QtCore import QSize

    settings = core.QgsMapSettings()
    settings.setLayers(layers)
    settings.setOutputSize(QSize(SIDE, SIDE))
    settings.setDestinationCrs(layers[-1].crs())
    settings.setExtent(layers[-1].extent())
    job = core.QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(str(path))


def side_by_side(pictures: list[Path], path: Path) -> None:
    """Write pictures as one, at half their size."""
    from PIL import Image

    half = SIDE // 2
    together = Image.new("RGB", (half * len(pictures), half))
    for number, each in enumerate(pictures):
        with Image.open(each) as picture:
            small = picture.convert("RGB").resize((half, half), Image.Resampling.LANCZOS)
            together.paste(small, (half * number, 0))
    together.save(path, quality=85)


def mask_of(layer: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return where a mask says building."""
    block = layer.dataProvider().block(1, layer.extent(), layer.width(), layer.height())
    values = np.frombuffer(block.data().data(), np.uint8)
    return values.reshape(layer.height(), layer.width()) == 1


def by_deepness(core: Any, scene: Any, model: Path) -> dict[str, Any]:
    """Run a model with the defaults that Deepness takes from its file; return what it found."""
    from deepness.common.channels_mapping import ChannelsMapping, ImageChannelStandaloneBand
    from deepness.common.processing_overlap import ProcessingOverlap, ProcessingOverlapOptions
    from deepness.common.processing_parameters.map_processing_parameters import ProcessedAreaType
    from deepness.common.processing_parameters.segmentation_parameters import (
        SegmentationParameters,
    )
    from deepness.processing.map_processor.map_processor_segmentation import (
        MapProcessorSegmentation,
    )
    from deepness.processing.models.segmentor import Segmentor

    project = core.QgsProject.instance()
    project.addMapLayer(scene, False)
    read = Segmentor(str(model))
    channels = ChannelsMapping()
    channels.set_image_channels(
        [ImageChannelStandaloneBand(band_number=band, name=str(band)) for band in (1, 2, 3)]
    )
    channels.set_number_of_model_inputs_same_as_image_channels()
    overlap = ProcessingOverlap(
        ProcessingOverlapOptions.OVERLAP_IN_PERCENT, percentage=read.get_metadata_tiles_overlap()
    )
    parameters = SegmentationParameters(
        resolution_cm_per_px=read.get_metadata_resolution(),
        tile_size_px=read.get_input_size_in_pixels()[0],
        batch_size=1,
        local_cache=False,
        processed_area_type=ProcessedAreaType.ENTIRE_LAYER,
        mask_layer_id=None,
        input_layer_id=scene.id(),
        input_channels_mapping=channels,
        postprocessing_dilate_erode_size=read.get_metadata_segmentation_small_segment(),
        processing_overlap=overlap,
        pixel_classification__probability_threshold=read.get_metadata_segmentation_threshold(),
        model=read,
    )
    processor = MapProcessorSegmentation(
        rlayer=scene, vlayer_mask=None, map_canvas=MagicMock(), params=parameters
    )
    processor.finished(processor.run())
    layers = {layer.name(): layer for layer in project.mapLayers().values()}
    # Classes are numbered from 1; the first is the background.
    return {
        "mask": processor.get_result_img()[0] == 2,
        "building": layers["building"].featureCount(),
    }


if __name__ == "__main__":
    main()
