import { showRegions } from "./regions.js";
import { showSeen } from "./view.js";

// The live page. Everything that comes from the runner is put in as text, never as HTML.

const SPAN_S = 600;
const SILENCE_MS = 5000; // the status comes every second: longer silence means that the network is gone
const RETRY_MS = 2000;
const LEGEND = 8;
const LISTED = 12;
const COLORS = ["#3d86cc", "#de8b34", "#4aa36c", "#c75a80", "#8d72d0", "#35a09c", "#ad9730", "#a56b4e"];
const UNKNOWN_COLOR = "#8a93a5";
const NOTICES = {
  CONNECTING: "connecting to the source",
  STALE: "no new picture for a while",
  LOST: "the source is lost; trying again",
  ENDED: "the run has ended",
  OFFLINE: "no connection to the runner; trying again",
};

const $ = (id) => document.getElementById(id);
const page = { status: {}, labels: [], title: "", changes: [], points: [], result: null, dims: true, aspect: 0, over: false, denied: false, online: false };

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

// Only what differs is touched: an unchanged label is not read out again, and layout has nothing to do.
function put(id, text) {
  const node = $(id);
  if (node.textContent !== text) node.textContent = text;
}

const known = (value) => value !== null && value !== undefined;
const percent = (value) => (known(value) ? `${(100 * value).toFixed(value > 0.0995 && value < 0.9995 ? 0 : 1)} %` : "–");
const number = (value, digits = 1) => (known(value) ? value.toFixed(value >= 100 ? 0 : digits) : "–");
const whole = (value) => (known(value) ? value.toLocaleString("en").replaceAll(",", "\u202f") : "–");
const clock = (seconds) => new Date(1000 * seconds).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

function duration(seconds) {
  if (!known(seconds)) return "–";
  const s = Math.round(seconds), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
  if (d) return `${d} d ${h % 24} h`;
  if (h) return `${h} h ${m % 60} min`;
  return m ? `${m} min ${s % 60} s` : `${s} s`;
}

function ago(seconds) {
  if (!known(seconds)) return "none yet";
  return seconds < 2 ? "just now" : `${duration(seconds)} ago`;
}

// Colours: by the order of the model's labels where they are few, else by the order of appearance.

const appeared = [];

function color(label, isKnown = true) {
  if (!isKnown) return UNKNOWN_COLOR;
  const few = page.labels.length <= COLORS.length ? page.labels.indexOf(label) : -1;
  if (few >= 0) return COLORS[few];
  if (!appeared.includes(label)) appeared.push(label);
  const place = appeared.indexOf(label);
  return place < COLORS.length ? COLORS[place] : `hsl(${Math.round(137.5 * place) % 360} 42% 55%)`;
}

const changeColor = (change) => color(change.label, change.known);

// State and connection.

function shownState() {
  if (page.over) return "ENDED";
  return page.online ? page.status.state || "CONNECTING" : "OFFLINE";
}

function showState() {
  const state = shownState(), status = page.status;
  document.body.dataset.state = state;
  put("state", state === "OFFLINE" ? "NO CONNECTION" : state);
  let notice = state === "LIVE" ? "" : NOTICES[state] || state;
  if (state === "OFFLINE" && page.denied) notice = "the runner asks for a token: open the address that it printed";
  else if (state !== "OFFLINE" && !page.over && status.notice) notice = status.notice;
  put("notice", notice);
  $("notice").hidden = !notice;
  const warnings = [cameraWarning(status.camera), status.model_notice, status.throttled ? "the machine slows itself down, for heat or a weak supply" : ""];
  put("warning", warnings.filter(Boolean).join("; "));
  $("warning").hidden = !$("warning").textContent;
}

function cameraWarning(camera) {
  if (!camera || ["LEARNING", "FINE"].includes(camera.condition)) return "";
  return `the camera is ${camera.condition.toLowerCase()}, since ${clock(Date.parse(camera.since) / 1000)}: labels may be wrong`;
}

// What the model says.

function showResult() {
  const result = page.result;
  put("label", result.words);
  $("label").className = result.known ? "" : "unknown";
  put("confidence", percent(result.confidence));
  const regions = result.regions || [], several = regions.length > 1;
  const told = several ? regions.map((region) => `${region.region}: ${region.words}`).join(" · ") : result.words;
  document.title = `${told} · ${page.title || "edge-tl"}`;
  showSeen(result, page.dims, page.aspect);
  showRegions(regions, { element, answerRow, fillAnswer, percent, color });
  const raw = new Map(result.raw_top.map((score) => [score.label, score.confidence]));
  const list = $("answers");
  while (list.children.length > result.top.length) list.lastChild.remove();
  while (list.children.length < result.top.length) list.append(answerRow());
  result.top.forEach((score, place) => fillAnswer(list.children[place], score, raw.get(score.label)));
}

function answerRow() {
  const row = element("li"), bar = element("div", "bar");
  bar.append(element("div", "fill"), element("div", "tick"));
  row.append(element("span", "name"), element("span", "value"), bar);
  return row;
}

function fillAnswer(row, score, raw) {
  const [name, value, bar] = row.children, [fill, tick] = bar.children;
  name.textContent = name.title = score.label;
  value.textContent = percent(score.confidence);
  fill.style.width = `${100 * score.confidence}%`;
  tick.hidden = !known(raw);
  tick.style.left = `${100 * (raw || 0)}%`;
  bar.title = `shown ${percent(score.confidence)}, this frame alone ${percent(raw)}`;
}

// Figures.

function showStatus() {
  const status = page.status, latency = status.latency_ms || {}, age = status.age_ms || {};
  put("title", page.title || status.model || "edge-tl");
  put("about", [page.title === status.model ? "" : status.model, status.arch, status.precision, status.source].filter(Boolean).join(" · "));
  put("fps", number(status.fps));
  put("p50", `${number(latency.p50)} ms`);
  put("p95", `${number(latency.p95)} ms`);
  put("age", `${number(age.p50, 0)} ms`);
  rows("counts", [
    ["frames classified", whole(status.frames)],
    ["running for", duration(status.uptime_s)],
    ["last result", ago(status.frame_age_s)],
    ...(status.motion ? [["left out, nothing moved", whole(status.motion.still)], ["last motion", ago(status.motion.moved_s)]] : []),
    ["dropped for a newer one", whole(status.dropped)],
    ["repeated by the source", whole(status.repeated)],
    ["rejected or torn", whole((status.rejected || 0) + (status.torn || 0))],
    ["files passed over", whole(status.skipped), status.skipped > 0],
    ["reconnections", whole(status.reconnects)],
    ["model reloaded", whole(status.model_reloads)],
  ]);
  rows("machine", [
    ["temperature", known(status.temperature_c) ? `${number(status.temperature_c)} °C` : "no sensor", status.throttled],
    ["memory", `${number(status.rss_mb, 0)} MB`],
    ["processor", known(status.cpu_percent) ? `${number(status.cpu_percent, 0)} % of a core` : "–"],
  ]);
  showDrift();
  rows("sinks", Object.entries(status.sinks || {}).map(([name, counts]) => [name, sinkText(counts), counts.error || counts.failed > 0]));
}

// Drift: what changed since the first days, and the pictures that are most unlike the training photos.

function showDrift() {
  const drift = page.status.drift;
  $("drift").hidden = !drift;
  if (!drift) return;
  put("drift-notice", [drift.notice, drift.failed].filter(Boolean).join("; "));
  $("drift-notice").hidden = !$("drift-notice").textContent;
  put("drift-level", drift.level || "too few events yet to compare with the training photos");
  const learning = drift.learned < drift.learn;
  put("drift-learned", learning ? `learning what is usual: ${drift.learned} of ${drift.learn} days` : `changes told by mistake: ${drift.false_alarms} at most`);
  showDays(drift.days);
  showNine(drift.pictures);
}

function showDays(days) {
  const shares = days.map((day) => (day.events ? day.unknown / day.events : 0));
  const chart = $("drift-days"), key = JSON.stringify(shares);
  if (chart.dataset.shown === key) return;
  chart.dataset.shown = key;
  chart.replaceChildren(...days.map((day, place) => {
    const bar = element("span"), fill = element("i");
    fill.style.height = percent(shares[place]).replace(" ", "");
    bar.title = `${day.time ? new Date(day.time).toLocaleDateString() : `day ${place + 1}`}: ${percent(shares[place])} of ${whole(day.events)} events unknown`;
    bar.append(fill);
    return bar;
  }));
  chart.setAttribute("aria-label", `share of unknown events per day, the newest ${percent(shares.at(-1))}`);
  const [first, last] = $("drift-axis").children;
  first.textContent = `unknown events, the last ${days.length} days`;
  last.textContent = percent(shares.at(-1));
}

function showNine(pictures) {
  const list = $("drift-pictures"), key = pictures.join("\n");
  $("drift-shown").hidden = !pictures.length;
  if (list.dataset.shown === key) return;
  list.dataset.shown = key;
  list.replaceChildren(...pictures.map((path, place) => {
    const item = element("li"), picture = element("img");
    picture.src = `drift/${place}.jpg?${encodeURIComponent(path.split("/").at(-1))}`;
    picture.alt = `unlike the training photos, number ${place + 1}`;
    item.append(picture);
    return item;
  }));
}

function sinkText(counts) {
  const parts = [`${whole(counts.written)} written`];
  if (counts.dropped) parts.push(`${whole(counts.dropped)} dropped`);
  if (counts.failed) parts.push(`${whole(counts.failed)} failed`);
  if (counts.error) parts.push(counts.error);
  return parts.join(", ");
}

// entries: [name, value, whether something is wrong]
function rows(id, entries) {
  const list = $(id);
  while (list.children.length > entries.length) list.lastChild.remove();
  while (list.children.length < entries.length) {
    const row = element("div");
    row.append(element("dt"), element("dd"));
    list.append(row);
  }
  entries.forEach(([name, value, problem], place) => {
    const [term, shown] = list.children[place].children;
    if (term.textContent !== name) term.textContent = name;
    if (shown.textContent !== value) shown.textContent = value;
    shown.className = problem ? "problem" : "";
  });
}

// Graphs and the strip of labels; the clock is the runner's, whatever this browser's says.

function now() {
  const last = page.points.at(-1)?.t ?? 0, changed = page.changes.at(-1)?.t ?? 0;
  return Math.max(last, changed, page.result?.t ?? 0);
}

function brush(canvas) {
  const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  const width = Math.round(box.width * ratio), height = Math.round(box.height * ratio);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, box.width, box.height);
  return { context, width: box.width, height: box.height };
}

function graph(id, topId, lines) {
  const { context, width, height } = brush($(id));
  const style = getComputedStyle(document.documentElement), end = now();
  const highest = Math.max(0, ...page.points.flatMap((point) => lines.map(([key]) => point[key] || 0)));
  const top = niceTop(highest);
  put(topId, highest ? `0 – ${top}` : "");
  context.strokeStyle = style.getPropertyValue("--line");
  context.lineWidth = 1;
  for (const y of [0.5, height / 2, height - 0.5]) {
    context.beginPath();
    context.moveTo(0, Math.round(y) + (y < 1 ? 0.5 : -0.5));
    context.lineTo(width, Math.round(y) + (y < 1 ? 0.5 : -0.5));
    context.stroke();
  }
  context.lineJoin = "round";
  context.lineWidth = 1.75;
  for (const [key, name] of lines) {
    context.strokeStyle = style.getPropertyValue(name);
    context.beginPath();
    let before = -Infinity;
    for (const point of page.points) {
      if (!known(point[key])) continue;
      const x = width * (1 - (end - point.t) / SPAN_S), y = height - 1 - (height - 4) * (point[key] / top);
      if (point.t - before > 5) context.moveTo(x, y); // a gap stays a gap
      else context.lineTo(x, y);
      before = point.t;
    }
    context.stroke();
  }
}

function niceTop(highest) {
  if (!highest) return 1;
  const step = 10 ** Math.floor(Math.log10(highest));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((n) => Number((n * step).toPrecision(2))).find((n) => n >= highest * 1.05) || Number((20 * step).toPrecision(2));
}

function segments() {
  const end = now();
  const next = new Map(), found = [];
  for (const change of [...page.changes].reverse()) {
    found.push({ change, from: Math.max(change.t, end - SPAN_S), to: next.get(change.region) ?? end });
    next.set(change.region, change.t);
  }
  return found.reverse().filter(({ change, from, to }) => change.label !== null && to >= from);
}

// A row of the strip for each region, in the order of their names.
function stripRows() {
  const names = [...new Set(page.changes.map((change) => change.region || ""))].filter((name, _, all) => name || all.length === 1).sort();
  put("strip-names", names.length > 1 ? `rows, from the top: ${names.join(", ")}` : "");
  $("strip-names").hidden = names.length < 2;
  $("strip").style.height = names.length > 1 ? `${16 * names.length}px` : "";
  return names;
}

function showTimeline() {
  const names = stripRows();
  const { context, width, height } = brush($("strip")), end = now(), shares = new Map();
  const row = height / Math.max(1, names.length), gap = names.length > 1 ? 2 : 0;
  for (const { change, from, to } of segments()) {
    const x = width * (1 - (end - from) / SPAN_S);
    context.fillStyle = changeColor(change);
    const top = row * Math.max(0, names.indexOf(change.region || ""));
    context.fillRect(x, top, Math.max(1, (width * (to - from)) / SPAN_S), row - gap);
    const share = shares.get(change.label) || { seconds: 0, fill: changeColor(change) };
    share.seconds += to - from;
    shares.set(change.label, share);
  }
  const sorted = [...shares].sort((a, b) => b[1].seconds - a[1].seconds);
  const total = sorted.reduce((sum, [, share]) => sum + share.seconds, 0);
  const shown = sorted.slice(0, LEGEND).map(([label, share]) => {
    const item = element("li");
    item.append(swatch(share.fill), element("bdi", "", label), " ", element("span", "soft small", total ? percent(share.seconds / total) : ""));
    return item;
  });
  if (sorted.length > LEGEND) shown.push(element("li", "soft", `and ${sorted.length - LEGEND} more`));
  $("legend").replaceChildren(...shown);
}

function swatch(fill) {
  const made = element("span", "swatch");
  made.style.background = fill;
  return made;
}

function showChanges() {
  const recent = page.changes.slice(-LISTED).reverse().map((change) => {
    const item = element("li"), gap = change.label === null;
    const name = element("bdi", gap ? "soft" : "", (change.region ? `${change.region}: ` : "") + (gap ? change.state.toLowerCase() : change.label));
    const time = element("time", "", clock(change.t));
    item.append(time, swatch(gap ? "var(--line)" : changeColor(change)), name, element("span", "value soft", gap ? "" : percent(change.confidence)));
    return item;
  });
  $("changes").replaceChildren(...recent);
}

function draw() {
  graph("latency-graph", "latency-top", [["p95", "--sand"], ["p50", "--blue"]]);
  graph("fps-graph", "fps-top", [["fps", "--blue"]]);
  showTimeline();
}

// The two streams: events and the picture. A hidden page has neither: the device then encodes nothing for it.

const viewer = Math.random().toString(36).slice(2);
let events = null, heard = 0, attempt = 0, missing = 0;

const handlers = {
  history(data) {
    Object.assign(page, { title: data.title, labels: data.labels, changes: data.changes, points: data.points, dims: data.dims, aspect: data.aspect });
    page.over = false;
    showChanges();
    draw();
  },
  change(data) {
    page.changes.push(data);
    if (page.changes.length > 2000) page.changes.shift();
    showChanges();
    showTimeline();
  },
  point(data) {
    page.points.push(data);
    if (page.points.length > SPAN_S) page.points.shift();
    draw();
  },
  result(data) { page.result = data; showResult(); },
  status(data) { page.status = data; showStatus(); },
  // Whether the runner has our picture stream: the browser does not say when one breaks off.
  watching(data) {
    missing = data ? 0 : missing + 1;
    if (missing >= 2) watch();
  },
  end() { page.over = true; disconnect(); setTimeout(connect, RETRY_MS); },
};

function connect() {
  if (document.hidden || events) return;
  heard = performance.now();
  events = new EventSource(`events?viewer=${viewer}`);
  for (const [name, handle] of Object.entries(handlers)) {
    events.addEventListener(name, (message) => {
      heard = performance.now();
      if (!page.online && name === "history") watch();
      page.online = name !== "end";
      page.denied = false;
      handle(JSON.parse(message.data));
      showState();
    });
  }
  events.onerror = retry;
}

function disconnect() {
  events?.close();
  events = null;
  page.online = false;
}

function retry() {
  disconnect();
  showState();
  setTimeout(connect, RETRY_MS);
  if (!document.hidden) fetch("status.json").then((answer) => { page.denied = answer.status === 401; showState(); }, () => {});
}

function watch() {
  attempt += 1;
  missing = 0;
  $("picture").src = `picture?viewer=${viewer}&${attempt}`;
}

$("picture").addEventListener("load", () => { $("picture").hidden = false; $("empty").hidden = true; });
$("picture").addEventListener("error", () => setTimeout(() => { if (page.online) watch(); }, RETRY_MS));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return connect();
  disconnect();
  $("picture").removeAttribute("src");
});
setInterval(() => { if (events && !document.hidden && performance.now() - heard > SILENCE_MS) retry(); }, 1000);
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
connect();
