"""What the page shows of an adaptation: charts of its own numbers."""

from rhm.adapters.spectra import UpdateSpectrum
from rhm.evaluation.features.adapter_changes import Adaptation
from rhm.report.features.adaptation_plots import adaptation_blocks, adaptation_sentence


def adaptation(layers: int, *, angles: bool = True) -> Adaptation:
    spectra = tuple(
        UpdateSpectrum(f"layer {number}", 8, 8, (1.0, 0.5, 0.0), 0.3 / (number + 1), 2, 1.5)
        for number in range(layers)
    )
    ways = {each.layer: (None, 20.0, 0.0) for each in spectra} if angles else {}
    return Adaptation("<city>", "lora", (0, 10, 20), spectra, ways)


def test_a_sentence_names_the_largest_update_and_the_median_rank() -> None:
    said = adaptation_sentence(adaptation(3))
    assert "layer 0" in said
    assert "30.0%" in said
    assert "2 of 3" in said


def test_every_adaptation_has_its_spectrum_and_its_angles() -> None:
    (block,) = adaptation_blocks([adaptation(3)])
    assert len(block["panels"]) == 2
    assert [len(block["layers"]), block["more"]] == [3, False]
    # From the second record on: at the start there was no update.
    (_, angles) = block["panels"]
    dots = [mark.path for mark in angles.marks if mark.style.startswith("dots")]
    assert [path.count("M") for path in dots] == [2, 2]


def test_the_largest_layers_are_listed_and_the_rest_is_said_to_be_there() -> None:
    (block,) = adaptation_blocks([adaptation(40)])
    assert block["more"]
    assert len(block["layers"]) < 40
    assert block["layers"][0].layer == "layer 0"


def test_without_a_way_there_is_no_chart_of_it() -> None:
    (block,) = adaptation_blocks([adaptation(2, angles=False)])
    assert len(block["panels"]) == 1
    assert adaptation_blocks([]) == []
