// What the model sees, over the picture, and a crop that a person draws. All sizes are those of the picture as it is shown.

const LEAST = 16; // pixels of a crop, as the command asks for
const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
const SVG = "http://www.w3.org/2000/svg";

const $ = (id) => document.getElementById(id);
const stage = $("stage"), shade = $("shade"), crop = $("crop");
const view = { size: [0, 0], seen: [], dims: true, aspect: 0, drawing: false, box: null, drag: null };

// The stage lies exactly over the picture, which keeps its shape inside the figure.
function place() {
  const [width, height] = view.size, outer = stage.parentElement.getBoundingClientRect();
  stage.hidden = !width || $("picture").hidden;
  if (stage.hidden) return;
  const scale = Math.min(outer.width / width, outer.height / height);
  Object.assign(stage.style, { width: `${width * scale}px`, height: `${height * scale}px` });
}

export function showSeen(result, dims, aspect) {
  const size = result.size || [0, 0], resized = size[0] !== view.size[0] || size[1] !== view.size[1];
  Object.assign(view, { size, dims, aspect, seen: result.regions || [] });
  if (resized) view.box = null;
  $("draw").hidden = !size[0];
  if (resized && view.drawing) begin();
  place();
  paint();
}

// Shade outside of all boxes, and a border around each.
function paint() {
  const [width, height] = view.size;
  const boxes = view.drawing ? [view.box] : view.seen.map((region) => region.box);
  const whole = boxes.some((box) => box[2] === width && box[3] === height);
  shade.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const holes = boxes.map(([x, y, w, h]) => `M${x} ${y}v${h}h${w}v${-h}z`).join("");
  const path = (view.dims || view.drawing) && !whole && width ? `M0 0h${width}v${height}h${-width}z${holes}` : "";
  const node = shade.firstElementChild;
  if (node.getAttribute("d") !== path) node.setAttribute("d", path);
  paintBoxes(view.drawing || whole && view.seen.length < 2 || !view.dims && view.seen.length < 2 ? [] : view.seen);
  crop.hidden = !view.drawing;
  if (view.drawing) paintCrop();
}

function paintBoxes(regions) {
  const list = $("boxes");
  while (list.children.length > regions.length) list.lastChild.remove();
  while (list.children.length < regions.length) {
    const made = document.createElement("div"), name = document.createElement("span");
    made.className = "box";
    name.dir = "auto";
    made.append(name);
    list.append(made);
  }
  regions.forEach((region, number) => {
    const made = list.children[number], text = region.region ? `${region.region}: ${region.label}` : "";
    put(made, region.box);
    if (made.firstChild.textContent !== text) made.firstChild.textContent = text;
  });
}

function put(node, [x, y, w, h]) {
  const [width, height] = view.size, percent = (value, whole) => `${(100 * value) / whole}%`;
  const wanted = { left: percent(x, width), top: percent(y, height), width: percent(w, width), height: percent(h, height) };
  for (const [name, value] of Object.entries(wanted)) if (node.style[name] !== value) node.style[name] = value;
}

// The crop that is drawn.

function begin() {
  view.drawing = true;
  view.box ||= view.seen.length === 1 ? [...view.seen[0].box] : [0, 0, ...view.size];
  document.body.classList.add("drawing");
  $("tool").hidden = false;
  paint();
}

function end() {
  view.drawing = false;
  view.drag = null;
  document.body.classList.remove("drawing");
  $("tool").hidden = true;
  paint();
}

function paintCrop() {
  const [x, y, w, h] = view.box, name = $("region-name").value.trim();
  put(crop, view.box);
  const wanted = view.aspect || w / h, inner = [Math.min(w, Math.round(h * wanted)), Math.min(h, Math.round(w / wanted))];
  const cut = inner[0] < w || inner[1] < h;
  $("inner").hidden = !cut;
  Object.assign($("inner").style, { width: `${(100 * inner[0]) / w}%`, height: `${(100 * inner[1]) / h}%` });
  const words = `${w} × ${h} px of ${view.size[0]} × ${view.size[1]}, ${ratio(w, h)}`;
  const seen = cut ? `; the model sees the middle ${inner[0]} × ${inner[1]} (dashed)` : "";
  const text = `--crop ${name ? `${name}=` : ""}${[x, y, w, h].join(",")}`;
  if ($("crop-words").textContent !== words + seen) $("crop-words").textContent = words + seen;
  if ($("crop-text").value !== text) {
    $("crop-text").value = text;
    $("copied").textContent = "";
  }
  crop.setAttribute("aria-label", `crop, x ${x}, y ${y}, ${words}`);
}

function ratio(w, h) {
  const common = (a, b) => (b ? common(b, a % b) : a), divisor = common(w, h);
  const [a, b] = [w / divisor, h / divisor];
  return Math.max(a, b) <= 21 ? `${a}:${b}` : `${(w / h).toFixed(2)}:1`;
}

const clamp = (value, least, most) => Math.max(least, Math.min(most, value));

// Edges in whole pixels inside the picture, at least LEAST apart.
function setEdges(left, top, right, bottom) {
  const [width, height] = view.size, least = [Math.min(LEAST, width), Math.min(LEAST, height)];
  const x = clamp(Math.round(Math.min(left, right)), 0, width - least[0]);
  const y = clamp(Math.round(Math.min(top, bottom)), 0, height - least[1]);
  const w = clamp(Math.round(Math.max(left, right)) - x, least[0], width - x);
  const h = clamp(Math.round(Math.max(top, bottom)) - y, least[1], height - y);
  view.box = [x, y, w, h];
  paint();
}

function move(dx, dy) {
  const [width, height] = view.size, [x, y, w, h] = view.box;
  view.box = [clamp(Math.round(x + dx), 0, width - w), clamp(Math.round(y + dy), 0, height - h), w, h];
  paint();
}

function point(event) {
  const box = stage.getBoundingClientRect(), [width, height] = view.size;
  return [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
}

stage.addEventListener("pointerdown", (event) => {
  if (!view.drawing || event.button) return;
  event.preventDefault();
  stage.setPointerCapture(event.pointerId);
  const handle = event.target.dataset?.handle || (crop.contains(event.target) ? "move" : "new");
  view.drag = { handle, from: point(event), box: [...view.box], id: event.pointerId };
  crop.focus({ preventScroll: true });
});

stage.addEventListener("pointermove", (event) => {
  const drag = view.drag;
  if (!drag || drag.id !== event.pointerId) return;
  const [px, py] = point(event), [fx, fy] = drag.from, [x, y, w, h] = drag.box;
  if (drag.handle === "new") {
    if (Math.hypot(px - fx, py - fy) > 3) setEdges(fx, fy, px, py);
    return;
  }
  if (drag.handle === "move") {
    view.box = drag.box;
    move(px - fx, py - fy);
    return;
  }
  const has = (side) => drag.handle.includes(side), dx = px - fx, dy = py - fy;
  setEdges(x + (has("w") ? dx : 0), y + (has("n") ? dy : 0), x + w + (has("e") ? dx : 0), y + h + (has("s") ? dy : 0));
});

for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => { view.drag = null; });

// Arrows move, with Shift they resize; one pixel, or ten with Alt or Control.
crop.addEventListener("keydown", (event) => {
  const step = event.altKey || event.ctrlKey ? 10 : 1;
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (event.key === "Escape") $("done").click();
  if (!way) return;
  event.preventDefault();
  const [x, y, w, h] = view.box;
  if (event.shiftKey) setEdges(x, y, Math.max(x + LEAST, x + w + way[0] * step), Math.max(y + LEAST, y + h + way[1] * step));
  else move(way[0] * step, way[1] * step);
});

async function copy() {
  const field = $("crop-text");
  field.focus();
  field.select();
  let done = false;
  try {
    // Browsers offer the clipboard on secure pages alone: over plain HTTP only this machine's own address is one.
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(field.value);
      done = true;
    }
  } catch {
    done = false;
  }
  if (!done) {
    try {
      done = document.execCommand("copy");
    } catch {
      done = false;
    }
  }
  $("copied").textContent = done ? "copied" : "select the text and copy it";
}

for (const handle of HANDLES) {
  const made = document.createElement("i");
  made.className = `handle ${handle}`;
  made.dataset.handle = handle;
  crop.append(made);
}
shade.append(document.createElementNS(SVG, "path"));
$("draw").addEventListener("click", () => { begin(); crop.focus({ preventScroll: true }); });
$("done").addEventListener("click", () => { end(); $("draw").focus({ preventScroll: true }); });
$("whole").addEventListener("click", () => setEdges(0, 0, ...view.size));
$("copy").addEventListener("click", copy);
$("region-name").addEventListener("input", () => {
  $("region-name").value = $("region-name").value.replace(/[^\p{L}\p{N}_-]/gu, "").slice(0, 40);
  paintCrop();
});
$("picture").addEventListener("load", () => requestAnimationFrame(place)); // once the page has unhidden it
new ResizeObserver(place).observe(stage.parentElement);
