"""STAC catalogs are followed on this machine only, and neither in circles nor without end."""

import json
from pathlib import Path
from typing import Any

import pytest

from rhm.errors import CatalogError
from rhm.inference.scene_lists import stac
from rhm.inference.scene_lists.stac import stac_scenes
from tests.web import served

TIFF = "image/tiff; application=geotiff"


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def item(name: str, href: str = "visual.tif") -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": name,
        "properties": {"datetime": f"2024-05-0{len(name)}T10:00:00Z"},
        "assets": {"visual": {"href": href, "type": TIFF}},
    }


def listing(kind: str, *links: tuple[str, str]) -> dict[str, Any]:
    return {"type": kind, "links": [{"rel": rel, "href": href} for rel, href in links]}


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """A catalog of a collection of two items, and of an item of its own; links lead back, too."""
    up = ("parent", "../catalog.json")
    write(tmp_path / "sea" / "one" / "i.json", item("x"))
    write(tmp_path / "sea" / "two of it" / "i.json", item("yy"))
    links = [("item", "one/i.json"), ("item", "two%20of%20it/i.json"), ("root", "../catalog.json")]
    # A circle that is followed: the collection names its catalog as a child.
    links.append(("child", "../catalog.json"))
    write(tmp_path / "sea" / "collection.json", listing("Collection", *links, up))
    write(tmp_path / "land.json", item("zzz", "land.tif"))
    root = listing("Catalog", ("child", "./sea/collection.json"), ("item", "land.json"))
    return write(tmp_path / "catalog.json", root)


def test_a_catalog_gives_the_items_of_all_its_children_in_order(catalog: Path) -> None:
    scenes = stac_scenes(catalog, None)
    folder = catalog.parent
    assert [Path(scene.path) for scene in scenes] == [
        folder / "sea" / "one" / "visual.tif",
        folder / "sea" / "two of it" / "visual.tif",
        folder / "land.tif",
    ]
    assert [scene.item for scene in scenes] == ["x", "yy", "zzz"]
    assert [scene.date for scene in scenes] == ["2024-05-01", "2024-05-02", "2024-05-03"]


@pytest.mark.parametrize(
    "href",
    ["https://a.org/i.json", "/vsicurl/https://a.org/i.json", "s3://b/i.json", "", None, 3, "a\0"],
)
def test_links_lead_to_local_files_only(tmp_path: Path, href: Any) -> None:
    catalog = write(
        tmp_path / "c.json", {"type": "Catalog", "links": [{"rel": "item", "href": href}]}
    )
    with pytest.raises(CatalogError, match=r"c\.json"):
        stac_scenes(catalog, None)


@pytest.mark.parametrize("href", ["https://a.org/x.tif", "/vsicurl/https://a.org/x.tif"])
def test_a_document_that_a_link_led_to_names_local_images_only(tmp_path: Path, href: str) -> None:
    one = write(tmp_path / "i.json", item("x", href))
    catalog = write(tmp_path / "c.json", listing("Catalog", ("item", "i.json")))
    with pytest.raises(CatalogError, match="only local files"):
        stac_scenes(catalog, None)
    if href.startswith("https"):
        assert stac_scenes(one, None)[0].path == href  # whoever names the item asks for it


def test_depth_and_number_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for depth in range(20):
        write(tmp_path / f"{depth}.json", listing("Catalog", ("child", f"{depth + 1}.json")))
    with pytest.raises(CatalogError, match="inside 16 other"):
        stac_scenes(tmp_path / "0.json", None)
    monkeypatch.setattr(stac, "MOST_DOCUMENTS", 5)
    with pytest.raises(CatalogError, match="more than 5"):
        stac_scenes(tmp_path / "0.json", None)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    catalog = write(tmp_path / "c.json", listing("Catalog", ("child", "gone.json")))
    with pytest.raises(CatalogError, match=r"gone\.json"):
        stac_scenes(catalog, None)
    with pytest.raises(CatalogError, match="lists no STAC items"):
        stac_scenes(write(tmp_path / "e.json", listing("Catalog")), None)
    # Neither a folder nor a device is read.
    folder = write(tmp_path / "f.json", listing("Catalog", ("child", ".")))
    with pytest.raises(CatalogError, match="no such file"):
        stac_scenes(folder, None)


def test_a_catalog_on_the_web_is_followed_and_its_images_are_anywhere_there(catalog: Path) -> None:
    elsewhere = item("zzz", "s3://bucket/land.tif")
    write(catalog.parent / "land.json", elsewhere)
    with served(catalog.parent) as root:
        scenes = stac_scenes(f"{root}catalog.json", None)
    assert [scene.path for scene in scenes] == [
        f"{root}sea/one/visual.tif",
        f"{root}sea/two%20of%20it/visual.tif",
        "s3://bucket/land.tif",
    ]
    assert [scene.item for scene in scenes] == ["x", "yy", "zzz"]


def test_all_pages_of_a_service_are_read(tmp_path: Path) -> None:
    pages: list[dict[str, Any]] = [{"features": [item("x", "a.tif")]}, {"features": [item("yy")]}]
    pages[0]["links"] = [{"rel": "next", "href": "2.json"}]
    pages[1]["links"] = [{"rel": "next", "href": "1.json"}]  # a circle
    for number, page in enumerate(pages, start=1):
        write(tmp_path / f"{number}.json", page)
    # Of a service that was saved, only the page that the user names.
    assert [scene.item for scene in stac_scenes(tmp_path / "1.json", None)] == ["x"]
    with served(tmp_path) as root:
        assert [scene.item for scene in stac_scenes(f"{root}1.json", None)] == ["x", "yy"]
        pages[0]["links"][0]["method"] = "POST"
        write(tmp_path / "1.json", pages[0])
        with pytest.raises(CatalogError, match="more pages, which only a POST request returns"):
            stac_scenes(f"{root}1.json", None)


@pytest.mark.parametrize(
    "href",
    ["file:///etc/passwd", "/vsizip/x.zip/a.tif", "ftp://a.org/x.tif", "//\0", "http://[bad/x.tif"],
)
def test_a_document_on_the_web_names_no_file_of_this_machine(tmp_path: Path, href: str) -> None:
    write(tmp_path / "item.json", item("x", href))
    with served(tmp_path) as root:
        try:
            (scene,) = stac_scenes(f"{root}item.json", None)
        except CatalogError:
            return
        assert scene.path.startswith(root)


def test_links_do_not_lead_to_another_server(tmp_path: Path) -> None:
    links = [("child", "http://169.254.169.254/latest/meta-data")]
    write(tmp_path / "catalog.json", listing("Catalog", *links))
    with served(tmp_path) as root, pytest.raises(CatalogError, match="leads to another server"):
        stac_scenes(f"{root}catalog.json?token=secret", None)


def test_the_neighbours_of_an_item_are_not_its_pages(tmp_path: Path) -> None:
    one = item("x", "a.tif") | {"links": [{"rel": "next", "href": "2.json"}]}
    write(tmp_path / "1.json", one)
    write(tmp_path / "2.json", item("yy"))
    with served(tmp_path) as root:
        assert [scene.item for scene in stac_scenes(f"{root}1.json", None)] == ["x"]


def test_links_do_not_lead_to_another_server_by_a_detour(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "index.html", item("x"))
    write(tmp_path / "catalog.json", listing("Catalog", ("item", "folder")))
    with served(tmp_path) as root:
        with pytest.raises(CatalogError, match="the server sends us on"):
            stac_scenes(f"{root}catalog.json", None)
        # What the user names may be elsewhere, and its links are relative to where it was found.
        (scene,) = stac_scenes(f"{root}folder", None)
        assert scene.path == f"{root}folder/visual.tif"


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    write(tmp_path / "item.json", item("x"))
    text = (tmp_path / "item.json").read_bytes()
    (tmp_path / "item.json").write_bytes(b"\xef\xbb\xbf" + text)
    with served(tmp_path) as root:
        assert len(stac_scenes(f"{root}item.json", None)) == 1
