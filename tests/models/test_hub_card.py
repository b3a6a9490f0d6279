"""Cards for model hubs; law: the header is YAML that names what hubs know, whatever the words."""

import pytest
import yaml

from rhm.models.hub_card import hub_card
from rhm.models.spec import ModelSpec

SPEC = ModelSpec("unet", "resnet18", 4, gsd_m=0.3, sources=("town",))


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC-BY-SA-4.0", {"license": "cc-by-sa-4.0"}),
        ("ODbL-1.0", {"license": "odbl"}),
        ("cc-by-4.0", {"license": "cc-by-4.0"}),
        (" CC BY 4.0", {"license": "cc-by-4.0"}),
        ("apache 2.0", {"license": "apache-2.0"}),
        ("odbl", {"license": "odbl"}),
        ("CC-BY-ND-4.0 ", {"license": "other", "license_name": "CC-BY-ND-4.0"}),
        ("", {"license": "other", "license_name": "unknown"}),
        (
            "ours: 'all'\n--- # none",
            {"license": "other", "license_name": "ours: 'all'\n--- # none"},
        ),
    ],
)
def test_the_header_names_the_licence(licence: str, expected: dict[str, str]) -> None:
    text = hub_card(SPEC, "# Town\n\nA card.\n", name="town", licence=licence)
    header = next(yaml.safe_load_all(text.removeprefix("---\n").split("\n---\n\n# Town")[0]))
    assert {key: header[key] for key in header if key.startswith("license")} == expected
    assert "resnet18" in header["tags"]
    assert text.endswith("# Town\n\nA card.\n")


def test_without_a_card_the_description_speaks() -> None:
    text = hub_card(SPEC, "", name="town", licence="MIT")
    assert "# town\n\nFinds buildings in imagery with 4 bands at 0.3 m per pixel" in text
    assert "`town`" in text
