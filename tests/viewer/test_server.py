"""What the viewer's server answers, and what it refuses."""

import json
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import geopandas
import pytest
import rasterio
import shapely

from rhm.cli.main import run
from rhm.errors import OutputError
from rhm.viewer.predictions import find_predictions
from rhm.viewer.server import ViewerServer


@contextmanager
def serving(folder: Path, *scenes: Path) -> Iterator[ViewerServer]:
    predictions, _ = find_predictions(folder, map(str, scenes))
    with ViewerServer(predictions) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(url: str, **headers: str) -> tuple[int, bytes, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:  # noqa: S310
            return answer.status, answer.read(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), ""


def test_the_server_answers_what_the_page_asks(results: Path, scene: Path) -> None:
    with serving(results, scene) as server:
        code, body, kind = ask(server.url)
        assert (code, kind) == (200, "text/html; charset=utf-8")
        assert b"viewer.js" in body
        for name in ("viewer.js", "viewer.css", "leaflet.js", "leaflet.css"):
            assert ask(server.url + name)[0] == 200
        (facts,) = json.loads(ask(server.url + "scenes.json")[1])
        assert facts["name"] == "town"
        assert ask(server.url + "tiles/0/probability/0/0/0")[2] == "image/png"
        assert ask(server.url + "tiles/0/image/0/0/0")[2] == "image/webp"
        assert json.loads(ask(server.url + "footprints/0/0/0/900/600")[1])["count"] == 2
        code, body, kind = ask(server.url + "layer/0")
        assert (code, kind) == (200, "application/octet-stream")
        assert body == (results / facts["layer"]).read_bytes()


@pytest.mark.parametrize(
    "asked",
    [
        "../", "..%2f..%2fetc/passwd", "/etc/passwd", "static/viewer.js", "town_mask.tif",
        "tiles/1/probability/0/0/0", "tiles/0/secret/0/0/0", "tiles/0/probability/0/-1/0",
        "tiles/0/probability/25/0/0", "tiles/0/probability/0/9999999/0", "footprints/0/1/2/3",
        "footprints/9/0/0/1/1", "viewer.js?x", "layer/1", "layer/0/x", "layer/town",
        "tiles/0/probability/0/%D9%A3/0",
    ],
)  # fmt: skip
def test_the_server_answers_nothing_else(results: Path, asked: str) -> None:
    with serving(results) as server:
        url = server.url + urllib.parse.quote(asked, safe="/%?.-")
        assert ask(url)[0] == 404


def test_the_server_asks_for_its_secret_and_its_own_name(results: Path) -> None:
    with serving(results) as server:
        assert server.server_address[0] == "127.0.0.1"
        root = f"http://127.0.0.1:{server.server_port}/"
        for wrong in ("", "scenes.json", "x" * len(server.secret) + "/scenes.json"):
            assert ask(root + wrong)[0] == 404
        assert ask(server.url, Host="evil.example")[0] == 404
        assert ask(server.url, Host=f"localhost:{server.server_port}")[0] == 200


def test_a_raster_that_breaks_while_it_is_shown_is_one_error(results: Path) -> None:
    with serving(results) as server:
        path = results / "town_probability.tif"
        path.write_bytes(path.read_bytes()[:2000])
        code, body, _ = ask(server.url + "tiles/0/probability/0/0/0")
        assert code == 500
        assert b"town_probability.tif" in body
        (results / "town_buildings.gpkg").write_bytes(b"SQLite format 3\0 nonsense")
        code, body, _ = ask(server.url + "footprints/0/0/0/9/9")
        assert code == 500
        assert b"town_buildings.gpkg" in body or b"town_probability.tif" in body


def test_a_taken_port_is_said(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions, _ = find_predictions(results)
    with ViewerServer(predictions) as server:
        with pytest.raises(OutputError, match="cannot be used"):
            ViewerServer(predictions, server.server_port)
        words = ["view", str(results), "--port", str(server.server_port), "--no-browser"]
        assert run(words) == 2
    assert "cannot be used" in capsys.readouterr().err


def test_the_secret_is_not_in_the_address_that_a_browser_is_given(results: Path) -> None:
    with serving(results) as server:
        with server.door() as address:
            assert server.secret not in address
            page = Path(urllib.request.url2pathname(urllib.parse.urlsplit(address).path))
            assert f"url={server.url}" in page.read_text()
            assert page.stat().st_mode & 0o077 == 0
            assert page.parent.stat().st_mode & 0o077 == 0
        assert not page.exists()


def connected(server: ViewerServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=30)


def request(server: ViewerServer, name: str, *more: str) -> bytes:
    lines = [f"GET /{server.secret}/{name} HTTP/1.1", f"Host: 127.0.0.1:{server.server_port}"]
    return "\r\n".join([*lines, *more, "", ""]).encode()


@pytest.mark.parametrize("kind", ["Content-Length: {}", "Transfer-Encoding: chunked"])
def test_the_body_of_a_request_is_no_second_request(results: Path, kind: str) -> None:
    with serving(results) as server, connected(server) as client:
        second = request(server, "scenes.json")
        client.sendall(request(server, "viewer.css", kind.format(len(second))) + second)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert answer.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in answer


def test_requests_one_after_the_other_share_a_connection(results: Path) -> None:
    with serving(results) as server, connected(server) as client:
        client.sendall(request(server, "scenes.json") + request(server, "scenes.json"))
        received = b""
        while received.count(b'"name"') < 2:
            received += client.recv(1 << 16)
    assert received.count(b"HTTP/1.1 200") == 2


def test_many_requests_at_once_are_all_answered(results: Path, scene: Path) -> None:
    # Linux repeats a connection that finds the queue full, and other systems refuse it.
    assert ViewerServer.request_queue_size >= 150
    with serving(results, scene) as server, ThreadPoolExecutor(150) as pool:
        asked = [server.url + "tiles/0/probability/0/0/0"] * 150
        assert {code for code, *_ in pool.map(ask, asked)} == {200}


def test_slow_clients_do_not_keep_others_waiting(results: Path) -> None:
    with serving(results) as server, ExitStack() as stack:
        for number in range(40):
            client = stack.enter_context(connected(server))
            # Some never finish what they ask, the others never read the answer.
            whole = request(server, "leaflet.js")
            client.sendall(whole[: len(whole) - 2] if number % 2 else whole * 40)
        assert ask(server.url + "scenes.json")[0] == 200


def test_a_layer_that_has_gone_is_one_line(results: Path) -> None:
    with serving(results) as server:
        (found,) = (each.prediction for each in server.shown)
        assert found.buildings is not None
        found.buildings.unlink()
        code, body, _ = ask(server.url + "layer/0")
        assert (code, body.count(b"\n")) == (500, 0)
        assert b"cannot be read" in body


def test_a_layer_needs_the_secret(results: Path) -> None:
    with serving(results) as server:
        wrong = server.url.replace(server.secret, "x" * len(server.secret))
        assert ask(wrong + "layer/0")[0] == 404
        assert ask(server.url + "layer/0", Host="example.org")[0] == 404


def post(server: ViewerServer, name: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    asked = urllib.request.Request(  # noqa: S310
        server.url + name, body, {"Content-Type": "application/json"} | headers
    )
    try:
        with urllib.request.urlopen(asked) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_marks_are_given_taken_and_counted(results: Path) -> None:
    with serving(results) as server:
        assert json.loads(ask(server.url + "marks/0")[1]) == {"keep": 0, "wrong": 0}
        code, body = post(server, "marks/0/1", b'{"mark": "keep"}')
        assert (code, json.loads(body)) == (200, {"keep": 1, "wrong": 0})
        shown = json.loads(ask(server.url + "footprints/0/0/0/900/600")[1])["footprints"]
        assert {each["id"]: each["mark"] for each in shown} == {0: None, 1: "keep"}
        assert json.loads(post(server, "marks/0/1", b'{"mark": null}')[1])["keep"] == 0


@pytest.mark.parametrize(
    ("name", "body", "headers", "code"),
    [
        ("marks/0/2", b'{"mark": "keep"}', {}, 400),
        ("marks/0/0", b'{"mark": "perhaps"}', {}, 400),
        ("marks/0/0", b'{"mark": ["keep"]}', {}, 400),
        ("marks/0/0", b"[1]", {}, 400),
        ("marks/0/0", b"\xff", {}, 400),
        ("marks/0/0", b"{}", {}, 400),
        ("marks/0/0", b" " * 5000, {}, 413),
        ("marks/0/0", b"{}", {"Content-Length": "9" * 5000}, 413),
        ("marks/1/0", b'{"mark": "keep"}', {}, 404),
        ("marks/0", b'{"mark": "keep"}', {}, 404),
        ("layer/0", b'{"mark": "keep"}', {}, 404),
        # What a form of another website could send, if it knew the secret.
        ("marks/0/0", b'{"mark": "keep"}', {"Content-Type": "text/plain"}, 404),
        ("marks/0/0", b'{"mark": "keep"}', {"Origin": "https://evil.example"}, 404),
        ("marks/0/0", b'{"mark": "keep"}', {"Host": "evil.example"}, 404),
    ],
)
def test_nothing_else_is_written(
    results: Path, name: str, body: bytes, headers: dict[str, str], code: int
) -> None:
    before = sorted(results.iterdir())
    with serving(results) as server:
        assert post(server, name, body, **headers)[0] == code
    assert sorted(results.iterdir()) == before


def test_marks_that_cannot_be_saved_are_an_error(results: Path) -> None:
    with serving(results) as server:
        assert post(server, "marks/0/0", b'{"mark": "keep"}')[0] == 200
        (results / "town_marks.gpkg").unlink()
        (results / "town_marks.gpkg").mkdir()
        code, body = post(server, "marks/0/1", b'{"mark": "keep"}')
        assert code == 500
        assert b"town_marks.gpkg" in body


def test_marks_are_not_followed_out_of_the_folder(results: Path, tmp_path: Path) -> None:
    (results / "town_marks.gpkg").symlink_to(tmp_path / "elsewhere.gpkg")
    predictions, notes = find_predictions(results)
    assert predictions[0].buildings is None
    assert any("town_marks.gpkg is a link that leads out" in note for note in notes)


def test_only_predictions_of_the_same_scene_are_compared(results: Path) -> None:
    import shutil

    other = Path(shutil.copytree(results, results.parent / "other"))
    one, two = (find_predictions(each)[0] for each in (results, other))
    with ViewerServer(one, others=two) as server:
        first, second = server.facts()
        assert (first["index"], first["other"], first["second"]) == (0, 1, False)
        assert (second["index"], second["other"], second["second"]) == (1, None, True)
    for path in other.iterdir():
        path.rename(path.with_name(path.name.replace("town", "village")))
    with ViewerServer(one, others=find_predictions(other)[0]) as server:
        assert server.facts()[0]["other"] is None
    # A scene of the same name and size in another place is another one.
    elsewhere = Path(shutil.copytree(results, results.parent / "elsewhere"))
    with rasterio.open(
        elsewhere / "town_probability.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES"
    ) as raster:
        raster.transform = raster.transform @ rasterio.Affine.translation(7, 0)
    with ViewerServer(one, others=find_predictions(elsewhere)[0]) as server:
        assert server.facts()[0]["other"] is None


def test_folders_of_one_name_are_told_apart(results: Path, tmp_path: Path) -> None:
    import shutil

    folders = [Path(shutil.copytree(results, tmp_path / run / "predicted")) for run in "ab"]
    one, two = (find_predictions(each)[0] for each in folders)
    with ViewerServer(one, others=two) as server:
        assert [each["folder"] for each in server.facts()] == ["a/predicted", "b/predicted"]
    with ViewerServer(one, others=find_predictions(results)[0]) as server:
        assert [each["folder"] for each in server.facts()] == ["predicted", "results"]
    with ViewerServer(one) as server:
        assert [each["folder"] for each in server.facts()] == ["predicted"]


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_answer_on_footprints_that_are_nowhere_is_json(results: Path, value: float) -> None:
    """They are counted among the footprints of the file, but cannot be in view."""
    path = results / "town_buildings.gpkg"
    frame = geopandas.read_file(path)
    first = frame.geometry[0].exterior.coords[0]
    for strange in ((value, first[1]), (value, value)):
        frame.loc[len(frame), "geometry"] = shapely.Polygon([first, strange, strange, first])
    path.unlink()
    frame.to_file(path, layer="buildings")
    with serving(results) as server:
        code, body, _ = ask(server.url + "footprints/0/0/0/900/600")
        told = json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert (code, told["count"], len(told["footprints"])) == (200, 2, 2)
        assert post(server, "marks/0/0", b'{"mark": "keep"}')[0] == 200
        assert post(server, "marks/0/2", b'{"mark": "wrong"}')[0] == 200
        assert json.loads(ask(server.url + "marks/0")[1]) == {"keep": 1, "wrong": 1}
