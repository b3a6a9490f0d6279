"use strict";
(async () => {
  const SIDE = 256, NODATA = 255;
  const at = (id) => document.getElementById(id);
  const status = at("status"), slider = at("threshold"), level = at("level"), chooser = at("scene");
  let metres = null;  // side of a pixel
  // Places are pixels; a scale measures distances on the ground.
  const pixels = L.extend({}, L.CRS.Simple, { distance: (one, other) => (metres ?? 1) * L.CRS.Simple.distance(one, other) });
  const map = L.map("map", { crs: pixels, minZoom: -12, maxZoom: 4, zoomSnap: 0.5 });
  map.attributionControl.setPrefix("Leaflet");
  const layers = L.control.layers(null, null, { collapsed: false }).addTo(map);
  const scale = L.control.scale({ imperial: false });
  const shown = { image: true, probability: false, mask: true, footprints: true };
  const titles = { image: "Scene", probability: "Probability", mask: "At the threshold", footprints: "Footprints" };
  let scene = null, current = {}, found = [], asked = 0;

  // Colours of the 255 levels: magenta over dark blue for what is likely, nothing for what is not.
  const ramp = (value) => [40 + 200 * value, 20 + 60 * value * value, 130 + 60 * value, 225 * Math.min(1, value * 1.6)];
  function palette(kind) {
    const threshold = Number(slider.value);
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
      picture.src = tile("probability", where);
      return canvas;
    },
    paint(canvas) {
      const context = canvas.getContext("2d"), image = context.createImageData(SIDE, SIDE);
      const colours = palette(this.options.kind);
      canvas.levels.forEach((value, index) => {
        if (value !== NODATA) image.data.set(colours[value], 4 * index);
      });
      context.putImageData(image, 0, 0);
    },
    repaint() {
      for (const { el } of Object.values(this._tiles)) if (el.levels) this.paint(el);
    },
  });
  const Picture = L.TileLayer.extend({ getTileUrl(where) { return tile("image", where); } });

  function tile(kind, where) {
    return `tiles/${scene.index}/${kind}/${-where.z}/${where.x}/${where.y}`;
  }

  function open(chosen) {
    scene = chosen;
    for (const layer of Object.values(current)) { layers.removeLayer(layer); layer.remove(); }
    const bounds = L.latLngBounds([[-scene.height, 0], [0, scene.width]]);
    const coarsest = Math.max(0, Math.ceil(Math.log2(Math.max(scene.width, scene.height) / SIDE)));
    const options = { bounds, minNativeZoom: -coarsest, maxNativeZoom: 0, minZoom: -12, maxZoom: 4, noWrap: true, tileSize: SIDE };
    current = {};
    if (scene.image) current.image = new Picture("", { ...options, className: "sharp" });
    current.probability = new Levels({ ...options, kind: "probability" });
    current.mask = new Levels({ ...options, kind: "mask" });
    if (scene.footprints) current.footprints = L.layerGroup();
    for (const [name, layer] of Object.entries(current)) {
      layers.addOverlay(layer, titles[name]);
      if (shown[name]) layer.addTo(map);
      layer.on("tileerror", () => { status.textContent = "Part of a raster cannot be read."; });
    }
    metres = scene.pixel_m;
    scale.remove();
    if (metres) scale.addTo(map);
    at("name").textContent = scene.name;
    at("save").hidden = !scene.layer;
    if (scene.layer) { at("save").href = `layer/${scene.index}`; at("save").download = scene.layer; }
    document.title = `${scene.name} - rhm view`;
    slider.value = scene.threshold;
    level.textContent = Number(slider.value).toFixed(2);
    map.setMinZoom(-coarsest - 1);
    map.fitBounds(bounds);
    look();
  }

  // The footprints in sight, drawn on one canvas.
  const renderer = L.canvas({ padding: 0.3, tolerance: 3 });
  async function look() {
    if (!current.footprints || !map.hasLayer(current.footprints)) return;
    const ask = ++asked, sight = map.getBounds().pad(0.2);
    const clamp = (value, most) => Math.round(Math.min(most, Math.max(0, value)));
    const box = [clamp(sight.getWest(), scene.width), clamp(-sight.getNorth(), scene.height),
                 clamp(sight.getEast(), scene.width), clamp(-sight.getSouth(), scene.height)];
    let answer = null;
    try {
      const response = await fetch(`footprints/${scene.index}/${box.join("/")}`);
      if (!response.ok) throw new Error(await response.text());
      answer = await response.json();
    } catch (error) {
      if (ask === asked) status.textContent = `Footprints cannot be shown: ${error.message}`;
      return;
    }
    if (ask !== asked) return;
    current.footprints.clearLayers();
    found = answer.footprints.map((each) => [each, L.polygon(
      each.rings.map((ring) => ring.map(([col, row]) => [-row, col])),
      { renderer, color: "#00e5ff", weight: 2, fillOpacity: 0.05 },
    ).bindPopup(() => card(each))]);
    draw();
    const many = answer.count.toLocaleString("en");
    status.textContent = answer.count > found.length ? `${many} footprints in view: zoom in to see them` : `${many} footprints in view`;
  }

  function draw() {
    const threshold = Number(slider.value);
    for (const [each, outline] of found) {
      const visible = each.score === null || each.score >= threshold;
      if (visible) current.footprints.addLayer(outline); else current.footprints.removeLayer(outline);
    }
  }

  function card(each) {
    const list = document.createElement("dl");
    const say = (value, unit, digits) => value === null ? "unknown" : value.toFixed(digits) + unit;
    for (const [term, text] of [["Score", say(each.score, "", 2)], ["Area", say(each.area_m2, " m²", 0)]]) {
      list.append(Object.assign(document.createElement("dt"), { textContent: term }),
                  Object.assign(document.createElement("dd"), { textContent: text }));
    }
    return list;
  }

  function move() {
    level.textContent = Number(slider.value).toFixed(2);
    current.mask.repaint();
    if (current.footprints) draw();
  }

  slider.addEventListener("input", move);
  at("reset").addEventListener("click", () => { slider.value = scene.threshold; move(); });
  map.on("moveend", look);
  map.on("overlayadd overlayremove", ({ type, layer }) => {
    for (const [name, each] of Object.entries(current)) if (each === layer) shown[name] = type === "overlayadd";
    if (type === "overlayadd" && layer === current.footprints) look();
  });
  const scenes = (await (await fetch("scenes.json")).json()).map((each, index) => ({ ...each, index }));
  chooser.append(...scenes.map((each) => new Option(each.name, each.index)));
  at("choose").hidden = scenes.length < 2;
  chooser.addEventListener("change", () => open(scenes[chooser.value]));
  open(scenes[0]);
})();
