"""A server of folders of results for one user of this machine; all it writes are marks.

It responds only to an address that contains a secret, and only to the name of this machine.
Therefore neither other users of the machine nor websites open in the same browser have access.
"""

import json
import os
import re
import secrets
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from rhm.documents import parse_json
from rhm.errors import OutputError, RasterError, RhmError, printable
from rhm.viewer.footprint_layer import FootprintLayer
from rhm.viewer.map_tiles import Place, Rendering, image_tile, probability_tile
from rhm.viewer.predictions import PredictionFiles

_STATIC = {
    "": ("index.html", "text/html; charset=utf-8"),
    "viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    "leaflet.js": ("leaflet.js", "text/javascript; charset=utf-8"),
    "leaflet.css": ("leaflet.css", "text/css; charset=utf-8"),
}
_TILE = re.compile(r"tiles/(\d{1,6})/(image|probability)/(\d{1,2})/(\d{1,7})/(\d{1,7})", re.ASCII)
_FOOTPRINTS = re.compile(r"footprints/(\d{1,6})" + r"/(-?\d{1,9})" * 4, re.ASCII)
_LAYER = re.compile(r"layer/(\d{1,6})", re.ASCII)
_MARKS = re.compile(r"marks/(\d{1,6})", re.ASCII)
_MARK = re.compile(r"marks/(\d{1,6})/(\d{1,9})", re.ASCII)
_LONGEST_BODY = 1000
_COARSEST = 24
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class _Shown:
    """A prediction, and data about it that are computed at the first request."""

    def __init__(self, prediction: PredictionFiles) -> None:
        self.prediction = prediction
        self._lock = threading.Lock()

    @cached_property
    def _rendering(self) -> Rendering:
        with self.prediction.open_image() as raster:
            return Rendering.of(raster)

    @cached_property
    def _footprints(self) -> FootprintLayer:
        return FootprintLayer(self.prediction)

    def tile(self, layer: str, place: Place) -> bytes | None:
        if layer == "probability":
            return probability_tile(self.prediction, place)
        if self.prediction.image is None:
            return None
        with self._lock:
            rendering = self._rendering
        return image_tile(self.prediction, rendering, place)

    def layer(self) -> FootprintLayer | None:
        if self.prediction.buildings is None:
            return None
        with self._lock:
            return self._footprints

    def footprints(self, box: Sequence[float]) -> bytes | None:
        layer = self.layer()
        return None if layer is None else layer.within(*box)

    def marks(self) -> bytes | None:
        layer = self.layer()
        return None if layer is None else layer.counts()

    def mark(self, number: int, mark: str | None) -> bytes | None:
        layer = self.layer()
        return None if layer is None else layer.mark(number, mark)

    def facts(self, index: int, other: int | None) -> dict[str, Any]:
        layer = self.prediction.buildings
        return {
            "index": index,
            "other": other,
            "name": printable(self.prediction.name),
            "height": self.prediction.height,
            "width": self.prediction.width,
            "pixel_m": self.prediction.pixel_m,
            "threshold": self.prediction.threshold,
            "image": self.prediction.image is not None,
            "footprints": layer is not None,
            "layer": None if layer is None else printable(layer.name),
        }


def _grid(prediction: PredictionFiles) -> tuple[Any, ...]:
    """Return what two predictions have in common if they are of the same pixels."""
    with prediction.open_probability() as raster:
        turned = tuple(round(float(value), 9) for value in raster.transform[:6])
        return raster.shape, raster.crs, turned


def _names_of(folders: Iterable[Path]) -> dict[Path, str]:
    """Return the name of each folder, with as many of those above it as tell all of them apart."""
    different, count = set(folders), 1
    names: dict[Path, str] = {}
    while len(set(names.values())) < len(different):
        names = {folder: Path(*folder.parts[-count:]).as_posix() for folder in different}
        count += 1
    return names


class ViewerServer(ThreadingHTTPServer):
    """Serves predictions to browsers on this machine.

    Args:
        predictions: the predictions to show.
        port: port to listen on; 0 selects a free one.
        others: other predictions of the same scenes, told by their names, to compare with.

    Raises:
        OutputError: the port is in use.
    """

    daemon_threads = True
    # A browser that zooms asks for many tiles at once; the default refuses the sixth.
    request_queue_size = 512

    def __init__(
        self,
        predictions: Sequence[PredictionFiles],
        port: int = 0,
        others: Sequence[PredictionFiles] = (),
    ) -> None:
        self.secret = secrets.token_urlsafe(16)
        # Each answer may hold an image in memory, and sending one to a slow client takes long:
        # few are computed at a time, and none is sent meanwhile.
        self.computing = threading.BoundedSemaphore(max(4, os.cpu_count() or 1))
        self.shown = [_Shown(each) for each in (*predictions, *others)]
        self._first = len(predictions)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise OutputError(f"port {port} cannot be used: {error.strerror}") from error

    def facts(self) -> list[dict[str, Any]]:
        """Return what the page must know of each scene."""
        others = {
            shown.prediction.name: index
            for index, shown in enumerate(self.shown)
            if index >= self._first
        }
        folders = [shown.prediction.probability.parent for shown in self.shown]
        names = _names_of(folders)
        return [
            shown.facts(index, self._comparable(shown, others.get(shown.prediction.name)))
            | {"second": index >= self._first, "folder": printable(names[folders[index]])}
            for index, shown in enumerate(self.shown)
        ]

    def _comparable(self, shown: _Shown, other: int | None) -> int | None:
        """Return the other prediction of a scene, if it is on the same grid of pixels."""
        if other is None or self.shown[other] is shown:
            return None
        try:
            one, two = (_grid(each.prediction) for each in (shown, self.shown[other]))
        except RasterError:
            return None
        return other if one == two else None

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.server_port}/{self.secret}/"

    @contextmanager
    def door(self) -> Iterator[str]:
        """Yield the address of a local page that leads to ``url``, for as long as the block runs.

        A browser gets its address as an argument, which every user of the machine can read; the
        local page can be read by this user only.
        """
        with TemporaryDirectory(prefix="rhm-view-") as folder:
            page = Path(folder) / "open.html"
            page.touch(mode=0o600)
            page.write_text(f'<meta http-equiv="refresh" content="0; url={self.url}">\n')
            yield page.as_uri()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore browsers that disconnect early; any other error is a defect."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: ViewerServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            # Nothing here takes a body, which must not be read as the next request either.
            self.close_connection = True
        try:
            layer = self._layer_asked_for()
            if layer is not None:
                self._send_file(layer)
                return
            with self.server.computing:
                kind, body = self._answer()
        except RhmError as error:
            message = printable(str(error)).encode("utf-8", "replace")
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", message)
            return
        if body is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"not found")
        else:
            self._send(HTTPStatus.OK, kind, body)

    def do_POST(self) -> None:
        """Mark a footprint: ``marks/SCENE/FOOTPRINT`` with ``{"mark": "keep"}`` as JSON."""
        self.close_connection = True  # so that what is left of a body is no request
        found = _MARK.fullmatch(self._asked() or "")
        length = self.headers.get("Content-Length", "")
        plain = "text/plain; charset=utf-8"
        if found is None or not self._comes_from_the_page():
            self._send(HTTPStatus.NOT_FOUND, plain, b"not found")
            return
        if not length.isdecimal() or len(length) > 9 or int(length) > _LONGEST_BODY:
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, plain, b"too long")
            return
        scene, number = int(found[1]), int(found[2])
        try:
            mark = parse_json(self.rfile.read(int(length)).decode("utf-8"))["mark"]
            body = self._of(scene, lambda shown: shown.mark(number, mark))
        except (LookupError, TypeError, ValueError):
            self._send(HTTPStatus.BAD_REQUEST, plain, b"no such mark, or no such footprint")
        except RhmError as error:
            message = printable(str(error)).encode("utf-8", "replace")
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, plain, message)
        else:
            status = HTTPStatus.NOT_FOUND if body is None else HTTPStatus.OK
            self._send(status, "application/json", body or b"null")

    def _comes_from_the_page(self) -> bool:
        """Return whether a request to write comes from the page, and from no other website."""
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        origin = self.headers.get("Origin")
        return kind == "application/json" and origin in (None, f"http://{self.headers['Host']}")

    def log_message(self, *_: Any) -> None:
        """Log nothing, because the terminal belongs to the user."""

    def _asked(self) -> str | None:
        """Return what is asked for; None of whoever does not know the secret and the name."""
        port = self.server.server_port
        host = self.headers.get("Host")
        first, _, rest = self.path.removeprefix("/").partition("/")
        secret = secrets.compare_digest(first.encode(), self.server.secret.encode())
        return rest if host in (f"127.0.0.1:{port}", f"localhost:{port}") and secret else None

    def _layer_asked_for(self) -> Path | None:
        found = _LAYER.fullmatch(self._asked() or "")
        if found is None or int(found[1]) >= len(self.server.shown):
            return None
        return self.server.shown[int(found[1])].prediction.buildings

    def _answer(self) -> tuple[str, bytes | None]:
        rest = self._asked()
        if rest is None:
            return "", None
        if rest in _STATIC:
            name, kind = _STATIC[rest]
            return kind, resources.files("rhm.viewer").joinpath("static", name).read_bytes()
        if rest == "scenes.json":
            return "application/json", json.dumps(self.server.facts(), allow_nan=False).encode()
        if (found := _TILE.fullmatch(rest)) is not None:
            return self._tile(*found.groups())
        if (found := _FOOTPRINTS.fullmatch(rest)) is not None:
            scene, *box = map(int, found.groups())
            return "application/json", self._of(scene, lambda shown: shown.footprints(box))
        if (found := _MARKS.fullmatch(rest)) is not None:
            return "application/json", self._of(int(found[1]), lambda shown: shown.marks())
        return "", None

    def _tile(self, scene: str, layer: str, *place: str) -> tuple[str, bytes | None]:
        level, col, row = map(int, place)
        if level > _COARSEST:
            return "", None
        kind = "image/png" if layer == "probability" else "image/webp"
        return kind, self._of(int(scene), lambda shown: shown.tile(layer, Place(level, col, row)))

    def _of(self, scene: int, ask: Callable[[_Shown], bytes | None]) -> bytes | None:
        return ask(self.server.shown[scene]) if scene < len(self.server.shown) else None

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self._begin(status, kind, len(body))
        self.wfile.write(body)

    def _send_file(self, path: Path) -> None:
        """Send a file part by part, for the browser to save."""
        try:
            file = path.open("rb")
        except OSError as error:
            raise OutputError(f"{path.name} cannot be read: {error.strerror}") from error
        with file:
            name = f"attachment; filename*=UTF-8''{quote(path.name.encode('utf-8', 'replace'))}"
            size = os.fstat(file.fileno()).st_size
            self._begin(HTTPStatus.OK, "application/octet-stream", size, name)
            shutil.copyfileobj(file, self.wfile)

    def _begin(self, status: HTTPStatus, kind: str, size: int, disposition: str = "") -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        # Marks change; imagery and probabilities do not.
        cached = "private, max-age=600" if kind.startswith("image/") else "no-store"
        self.send_header("Cache-Control", cached)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        if disposition:
            self.send_header("Content-Disposition", disposition)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
