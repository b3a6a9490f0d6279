"use strict";
(async () => {
  const SIDE = 256, NODATA = 255;
  const at = (id) => document.getElementById(id);
  const status = at("status"), slider = at("threshold"), level = at("level"), chooser = at("scene");
  const least = at("score"), leastLevel = at("score-level"), divider = at("divider");
  let metres = null;  // side of a pixel
  // Places are pixels; a scale measures distances on the ground.
  const pixels = L.extend({}, L.CRS.Simple, { distance: (one, other) => (metres ?? 1) * L.CRS.Simple.distance(one, other) });
  const map = L.map("map", { crs: pixels, minZoom: -12, maxZoom: 4, zoomSnap: 0.5 });
  map.attributionControl.setPrefix("Leaflet");
  const layers = L.control.layers(null, null, { collapsed: false }).addTo(map);
  const scale = L.control.scale({ imperial: false });
  const shown = { image: true, probability: false, mask: true, footprints: true };
  const titles = { image: "Scene", probability: "Probability", mask: "At the threshold", footprints: "Footprints" };
  const colours = { keep: "#7dff5a", wrong: "#ff4d6d", null: "#00e5ff" };
  let scene = null, current = {}, sides = [], asPredicted = true;

  // Of two predictions, each has its half of the map: what is in its pane is cut at the divider.
  const halves = ["first", "second"].map((name) => {
    const rasters = `${name}-rasters`, outlines = `${name}-outlines`;
    map.createPane(rasters).style.zIndex = 300;
    map.createPane(outlines).style.zIndex = 400;
    return { rasters, outlines, renderer: L.canvas({ padding: 0.3, tolerance: 3, pane: outlines }) };
  });
  function cut() {
    const compared = sides.length > 1, size = map.getSize();
    const corner = map.containerPointToLayerPoint([0, 0]), end = map.containerPointToLayerPoint(size);
    const middle = corner.x + (compared ? size.x * divider.value : size.x);
    const clip = (left, right) => `rect(${corner.y}px, ${right}px, ${end.y}px, ${left}px)`;
    halves.forEach((half, right) => {
      const part = right ? clip(middle, end.x) : clip(corner.x, middle);
      for (const pane of [half.rasters, half.outlines]) map.getPane(pane).style.clip = part;
    });
    at("line").style.left = `${100 * divider.value}%`;
    at("compare").hidden = !compared;
    if (compared) sides.forEach((side, right) => { at(right ? "right" : "left").textContent = side.facts.folder; });
  }

  // Colours of the 255 levels: magenta over dark blue for what is likely, nothing for what is not.
  const ramp = (value) => [40 + 200 * value, 20 + 60 * value * value, 130 + 60 * value, 225 * Math.min(1, value * 1.6)];
  function palette(kind, side) {
    const threshold = asPredicted ? side.facts.threshold : Number(slider.value);
    return Array.from({ length: NODATA }, (_, index) => {
      const value = index / (NODATA - 1);
      if (kind === "probability") return ramp(value);
      return value >= threshold ? [255, 140, 0, 140] : [0, 0, 0, 0];
    });
  }

  // Tiles keep their probabilities, so that the slider needs nothing of the server.
  const Levels = L.GridLayer.extend({
    createTile(where, done) {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = SIDE;
      canvas.className = "sharp";
      const side = SIDE * 2 ** -where.z;
      canvas.dataset.covers = [where.x * side, where.y * side, side].join(" ");
      const picture = new Image();
      picture.onload = () => {
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(picture, 0, 0);
        const data = context.getImageData(0, 0, SIDE, SIDE).data;
        canvas.levels = data.filter((_, index) => index % 4 === 0);
        this.paint(canvas);
        done(null, canvas);
      };
      picture.onerror = () => done(new Error("a map tile cannot be read"), canvas);
      picture.src = tile("probability", where, this.options.side.facts);
      return canvas;
    },
    paint(canvas) {
      const context = canvas.getContext("2d"), image = context.createImageData(SIDE, SIDE);
      const colours = palette(this.options.kind, this.options.side);
      canvas.levels.forEach((value, index) => {
        if (value !== NODATA) image.data.set(colours[value], 4 * index);
      });
      context.putImageData(image, 0, 0);
    },
    repaint() {
      for (const { el } of Object.values(this._tiles)) if (el.levels) this.paint(el);
    },
  });
  const Picture = L.TileLayer.extend({ getTileUrl(where) { return tile("image", where, scene); } });

  function tile(kind, where, facts) {
    return `tiles/${facts.index}/${kind}/${-where.z}/${where.x}/${where.y}`;
  }

  function open(chosen) {
    scene = chosen;
    for (const layer of Object.values(current)) { layers.removeLayer(layer); layer.remove(); }
    const bounds = L.latLngBounds([[-scene.height, 0], [0, scene.width]]);
    const coarsest = Math.max(0, Math.ceil(Math.log2(Math.max(scene.width, scene.height) / SIDE)));
    const options = { bounds, minNativeZoom: -coarsest, maxNativeZoom: 0, minZoom: -12, maxZoom: 4, noWrap: true, tileSize: SIDE };
    sides = [scene, ...scenes.filter((each) => each.index === scene.other)].map((facts, side) => (
      { facts, half: halves[side], outlines: L.layerGroup(), found: [], count: 0, asked: 0, failure: "" }));
    const levels = (kind) => L.layerGroup(sides.map((side) => new Levels({ ...options, kind, side, pane: side.half.rasters })));
    current = {};
    if (scene.image) current.image = new Picture("", { ...options, className: "sharp" });
    current.probability = levels("probability");
    current.mask = levels("mask");
    if (sides.some((side) => side.facts.footprints)) current.footprints = L.layerGroup(sides.map((side) => side.outlines));
    for (const [name, layer] of Object.entries(current)) {
      layers.addOverlay(layer, titles[name]);
      if (shown[name]) layer.addTo(map);
      for (const each of layer.getLayers?.() ?? [layer]) {
        each.on("tileerror", () => { status.textContent = "Part of a raster cannot be read."; });
      }
    }
    metres = scene.pixel_m;
    scale.remove();
    if (metres) scale.addTo(map);
    at("name").textContent = scene.name;
    at("save").hidden = !scene.layer;
    if (scene.layer) { at("save").href = `layer/${scene.index}`; at("save").download = scene.layer; }
    document.title = `${scene.name} - rhm view`;
    asPredicted = true;
    status.textContent = "";  // it told of another scene
    slider.value = scene.threshold;
    level.textContent = Number(slider.value).toFixed(2);
    map.setMinZoom(-coarsest - 1);
    map.fitBounds(bounds);
    cut();
    look();
    count();
  }

  const seen = () => current.footprints && map.hasLayer(current.footprints);

  // The footprints in sight of each prediction, drawn on its canvas.
  async function look() {
    if (!seen()) return;
    const asked = sides;
    await Promise.all(asked.filter((side) => side.facts.footprints).map(ask));
    if (asked !== sides || !seen()) return;
    const counts = sides.map((side) => side.count.toLocaleString("en")).join(" and ");
    if (sides.some((side) => side.failure)) status.textContent = sides.map((side) => side.failure).find(Boolean);
    else if (sides.some((side) => side.count > side.found.length)) status.textContent = `${counts} footprints in view: zoom in to see them`;
    else status.textContent = `${counts} footprints in view`;
  }

  async function ask(side) {
    const turn = ++side.asked, sight = map.getBounds().pad(0.2), { height, width } = side.facts;
    const clamp = (value, most) => Math.round(Math.min(most, Math.max(0, value)));
    const box = [clamp(sight.getWest(), width), clamp(-sight.getNorth(), height),
                 clamp(sight.getEast(), width), clamp(-sight.getSouth(), height)];
    let answer = null;
    try {
      answer = await (await said(fetch(`footprints/${side.facts.index}/${box.join("/")}`))).json();
    } catch (error) {
      if (turn === side.asked) side.failure = `Footprints cannot be shown: ${error.message}`;
      return;
    }
    if (turn !== side.asked) return;
    side.failure = "";
    side.count = answer.count;
    // A popup near the edge moves the map, and must outlive what the move asks for.
    const [shown, old] = side.found.find(([, outline]) => outline.isPopupOpen()) ?? [];
    const where = old?.getPopup().getLatLng();
    side.outlines.clearLayers();
    side.found = answer.footprints.map((each) => [each, L.polygon(
      each.rings.map((ring) => ring.map(([col, row]) => [-row, col])),
      { renderer: side.half.renderer, pane: side.half.outlines, ...styleOf(each) },
    ).bindPopup((outline) => card(side, each, outline))]);
    draw(side);
    const again = shown && side.found.find(([each, outline]) => each.id === shown.id && side.outlines.hasLayer(outline));
    if (again) {
      again[1].getPopup().options.autoPan = false;
      again[1].openPopup(where);
    }
  }

  async function said(answer) {
    const response = await answer;
    if (!response.ok) throw new Error(await response.text());
    return response;
  }

  const styleOf = (each) => ({ color: colours[each.mark], weight: each.mark ? 3 : 2, fillOpacity: each.mark ? 0.25 : 0.05, dashArray: each.mark === "wrong" ? "6 4" : null });

  function draw(side) {
    const score = Number(least.value);
    for (const [each, outline] of side.found) {
      const visible = each.score === null || each.score >= score;
      if (visible) side.outlines.addLayer(outline); else side.outlines.removeLayer(outline);
    }
  }

  function card(side, each, outline) {
    const box = document.createElement("div"), list = document.createElement("dl");
    const say = (value, unit, digits) => value === null ? "unknown" : value.toFixed(digits) + unit;
    if (each.old) box.append(Object.assign(document.createElement("p"), { className: "old", textContent: "Marked before the footprints were predicted again" }));
    for (const [term, text] of [["Score", say(each.score, "", 2)], ["Area", say(each.area_m2, " m²", 0)]]) {
      list.append(Object.assign(document.createElement("dt"), { textContent: term }),
                  Object.assign(document.createElement("dd"), { textContent: text }));
    }
    const choices = document.createElement("p");
    choices.className = "marks";
    for (const [mark, text] of [["keep", "Right"], ["wrong", "Wrong"]]) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
      button.setAttribute("aria-pressed", each.mark === mark);
      // A second press takes the mark away.
      button.addEventListener("click", () => give(side, each, outline, each.mark === mark ? null : mark));
      choices.append(button);
    }
    box.append(list, choices);
    return box;
  }

  async function give(side, each, outline, mark) {
    try {
      const body = JSON.stringify({ mark }), headers = { "Content-Type": "application/json" };
      const answer = await said(fetch(`marks/${side.facts.index}/${each.id}`, { method: "POST", headers, body }));
      side.marked = await answer.json();
      tell();
    } catch (error) {
      status.textContent = `The mark cannot be saved: ${error.message}`;
      return;
    }
    each.mark = mark;
    outline.setStyle(styleOf(each));
    outline.closePopup();
  }

  async function count() {
    const counted = sides;
    await Promise.all(counted.filter((side) => side.facts.footprints).map(async (side) => {
      try {
        side.marked = await (await said(fetch(`marks/${side.facts.index}`))).json();
      } catch { side.marked = null; }
    }));
    if (counted === sides) tell();
  }

  function tell() {
    const marked = sides.map((side) => side.marked ?? { keep: 0, wrong: 0 });
    const text = marked.map(({ keep, wrong }) => `${keep} right, ${wrong} wrong`).join(" and ");
    at("marked").textContent = marked.some(({ keep, wrong }) => keep || wrong) ? `Marked: ${text}` : "";
  }

  // Whether a ray from a pixel crosses rings an odd number of times.
  function contains(rings, col, row) {
    let inside = false;
    for (const ring of rings) {
      ring.forEach(([x, y], index) => {
        const [left, top] = ring[(index || ring.length) - 1];
        if ((y > row) !== (top > row) && col < (left - x) * (row - y) / (top - y) + x) inside = !inside;
      });
    }
    return inside;
  }

  // Without a pointer: the footprint under the cross in the middle of the map.
  function key(event) {
    const mark = { r: "keep", w: "wrong" }[event.key];
    if (!mark || event.ctrlKey || event.metaKey || event.altKey) return;
    const { lat, lng } = map.getCenter();
    const compared = sides.length > 1, side = sides[compared && divider.value < 0.5 ? 1 : 0];
    const found = seen() ? side.found : [];
    const [each, outline] = found.find(([of, shape]) => side.outlines.hasLayer(shape) && contains(of.rings, lng, -lat)) ?? [];
    if (each) give(side, each, outline, each.mark === mark ? null : mark);
    else status.textContent = "No footprint under the cross: move the map with the arrow keys";
  }

  function move() {
    level.textContent = Number(slider.value).toFixed(2);
    for (const layer of current.mask.getLayers()) layer.repaint();
  }

  slider.addEventListener("input", () => { asPredicted = false; move(); });
  least.addEventListener("input", () => {
    leastLevel.textContent = Number(least.value).toFixed(2);
    sides.forEach(draw);
  });
  at("reset").addEventListener("click", () => { asPredicted = true; slider.value = scene.threshold; move(); });
  divider.addEventListener("input", cut);
  map.getContainer().addEventListener("keydown", key);
  // Lines of text above the map come and go.
  new ResizeObserver(() => map.invalidateSize({ pan: false })).observe(map.getContainer());
  map.on("move resize zoomend", cut);
  map.on("moveend", look);
  map.on("overlayadd overlayremove", ({ type, layer }) => {
    for (const [name, each] of Object.entries(current)) if (each === layer) shown[name] = type === "overlayadd";
    if (layer !== current.footprints) return;
    status.textContent = "";
    look();
  });
  const scenes = await (await fetch("scenes.json")).json(), choices = scenes.filter((each) => !each.second);
  chooser.append(...choices.map((each) => new Option(each.name, each.index)));
  at("choose").hidden = choices.length < 2;
  chooser.addEventListener("change", () => open(scenes[chooser.value]));
  open(scenes[0]);
})();
