// What stands beside the picture: the table of tracks, the plots, the pipeline's counts, its alarms, its log.

const SPAN_S = 60; // of the plots
const LOG_KEPT = 100;

export function cell(name, text, attributes = {}) {
  const element = document.createElement(name);
  element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

const number = (value, digits) => (value === null || !Number.isFinite(value) ? "\u2013" : value.toFixed(digits));

const COLUMNS = [
  { key: "id", title: "id", of: (t) => Number(t.id), text: (t) => t.id },
  { key: "group", title: "group", of: (t) => Number(t.group) || 0, text: (t) => (t.group ? `G${t.group}` : "\u2013") },
  { key: "x", title: "x, px", of: (t) => t.x, text: (t) => number(t.x, 2) },
  { key: "y", title: "y, px", of: (t) => t.y, text: (t) => number(t.y, 2) },
  { key: "sd", title: "\u00b1, px", of: (t) => t.sd, text: (t) => number(t.sd, 3), tip: "larger half axis of one deviation" },
  { key: "vx", title: "vx, px/s", of: (t) => t.vx, text: (t) => number(t.vx, 1) },
  { key: "vy", title: "vy, px/s", of: (t) => t.vy, text: (t) => number(t.vy, 1) },
  { key: "amplitude", title: "light, DN", of: (t) => t.amplitude, text: (t) => number(t.amplitude, 0) },
  { key: "score", title: "score", of: (t) => t.score, text: (t) => number(t.score, 2) },
  { key: "state", title: "state", of: (t) => t.stateName, text: (t) => t.stateName },
];

/** A table of tracks that sorts by any column and selects one track. */
export class TrackTable {
  #sort = "id";
  #down = false;
  #rows = new Map();

  constructor(section, note, select) {
    this.body = section.querySelector("tbody");
    this.note = note;
    this.select = select;
    const head = document.createElement("tr");
    this.heads = COLUMNS.map(({ key, title, tip }) => {
      const th = document.createElement("th");
      const button = cell("button", title, { "data-sort": key, ...(tip ? { title: tip } : {}) });
      button.addEventListener("click", () => this.sortBy(key));
      th.append(button);
      head.append(th);
      return { key, th };
    });
    section.querySelector("thead").append(head);
    this.sortBy("id");
  }

  sortBy(key) {
    this.#down = this.#sort === key ? !this.#down : false;
    if (this.#sort !== key || !this.last) this.#down = false;
    this.#sort = key;
    for (const { key: name, th } of this.heads) {
      th.setAttribute("aria-sort", name !== key ? "none" : this.#down ? "descending" : "ascending");
    }
    if (this.last) this.show(...this.last);
  }

  show(frame, groups, selected, tentative) {
    this.last = [frame, groups, selected, tentative];
    const tracks = tracksOf(frame, groups).filter((track) => track.confirmed || tentative);
    const { of } = COLUMNS.find(({ key }) => key === this.#sort);
    const sign = this.#down ? -1 : 1;
    const rank = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    tracks.sort((a, b) => sign * rank(of(a), of(b)) || Number(a.id) - Number(b.id));
    const rows = tracks.map((track) => this.#row(track, selected));
    const known = new Set(tracks.map(({ id }) => id));
    for (const id of this.#rows.keys()) if (!known.has(id)) this.#rows.delete(id);
    this.body.replaceChildren(...rows);
    const all = frame.tracks ? frame.tracks.confirmed.length : 0;
    const confirmed = frame.tracks ? frame.tracks.confirmed.filter(Boolean).length : 0;
    const cut = frame.tracks && frame.tracks.count > all ? `; ${frame.tracks.count - all} not sent` : "";
    this.note.textContent = frame.tracks
      ? `${confirmed} confirmed, ${all - confirmed} tentative${cut}`
      : "no tracks in what is shown";
  }

  #row(track, selected) {
    let row = this.#rows.get(track.id);
    if (!row) {
      row = document.createElement("tr");
      row.dataset.id = track.id;
      row.tabIndex = 0;
      row.append(...COLUMNS.map(() => document.createElement("td")));
      row.addEventListener("click", () => this.select(track.id));
      row.addEventListener("keydown", (event) => event.key === "Enter" && this.select(track.id));
      this.#rows.set(track.id, row);
    }
    COLUMNS.forEach(({ text }, k) => {
      const written = text(track);
      if (row.cells[k].textContent !== written) row.cells[k].textContent = written;
    });
    row.className = track.stateName;
    row.setAttribute("aria-selected", String(track.id === selected));
    return row;
  }
}

function tracksOf(frame, groups) {
  if (!frame.tracks) return [];
  const names = new Map();
  for (const group of groups) if (group.members.length > 1) for (const { id } of group.members) names.set(id, group.name);
  const { id, state, cov, amplitude, score, confirmed, coasting } = frame.tracks;
  return id.map((name, k) => {
    const [x, y, vx, vy] = state[k];
    const [xx, xy, yy] = cov[k];
    const sd = xx === null ? null : Math.sqrt((xx + yy) / 2 + Math.hypot((xx - yy) / 2, xy));
    const stateName = !confirmed[k] ? "tentative" : coasting[k] ? "coasting" : "measured";
    const rest = { amplitude: amplitude[k], score: score[k], confirmed: confirmed[k], stateName };
    return { id: name, group: names.get(name) ?? "", x, y, vx, vy, sd, ...rest };
  });
}

/** Curves of the last minute: { name: [[s, value], ...] }. */
export class Plots {
  constructor(section, names) {
    this.curves = names.map(({ key, title, unit, digits }) => {
      const figure = document.createElement("figure");
      const caption = document.createElement("figcaption");
      const canvas = document.createElement("canvas");
      const label = cell("span", title);
      const value = cell("b", "\u2013", { "data-plot": key });
      caption.append(label, value);
      figure.append(caption, canvas);
      section.append(figure);
      return { key, unit, digits, canvas, value, figure, points: [] };
    });
  }

  add(key, points) {
    const curve = this.curves.find((one) => one.key === key);
    curve.points.push(...points.filter(([, value]) => value !== null));
  }

  clear() {
    for (const curve of this.curves) curve.points = [];
  }

  draw() {
    const last = Math.max(...this.curves.map(({ points }) => points.at(-1)?.[0] ?? -Infinity));
    for (const curve of this.curves) {
      const old = curve.points.findIndex(([at]) => at >= last - SPAN_S);
      curve.points = old < 0 ? [] : curve.points.slice(old);
      drawCurve(curve, last);
    }
  }
}

function drawCurve({ canvas, points, unit, digits, value }, last) {
  const style = getComputedStyle(canvas);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const ratio = devicePixelRatio || 1;
  if (!width) return;
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const tops = new Array(Math.floor(width)).fill(null);
  for (const [at, v] of points) {
    const column = Math.min(Math.floor((1 - (last - at) / SPAN_S) * width), tops.length - 1);
    if (column >= 0 && (tops[column] === null || v > tops[column])) tops[column] = v;
  }
  const known = tops.filter((v) => v !== null);
  const newest = points.at(-1)?.[1];
  const highest = known.length ? Math.max(...known) : 0;
  value.textContent = newest === undefined ? "\u2013" : `${number(newest, digits)} ${unit} (most ${number(highest, digits)})`;
  const top = highest > 0 ? highest * 1.15 : 1;
  const y = (v) => height - 3 - (v / top) * (height - 6);
  context.strokeStyle = style.getPropertyValue("--line");
  context.strokeRect(0.5, 0.5, width - 1, height - 1);
  context.strokeStyle = style.getPropertyValue("--accent");
  context.lineWidth = 1.5;
  context.beginPath();
  let open = false;
  tops.forEach((v, column) => {
    if (v === null) return;
    if (open) context.lineTo(column, y(v));
    else context.moveTo(column, y(v));
    open = true;
  });
  context.stroke();
}

/** Tables of sensors, sinks, latencies and losses. */
export function showCounts(place, status, rates) {
  const ms = (value) => number(value, 1);
  const tables = [
    table(["sensor", "frames/s", "frames", "answered", "detections", "tracks", "silent, s"],
      Object.entries(status.counts).map(([name, s]) =>
        [name, number(rates[name] ?? 0, 1), s.frames, s.answered, s.detections, s.tracks, number(s.silent_s, 1)])),
    table(["sink", "written", "waiting", "lost", "state"],
      Object.entries(status.sinks).map(([name, s]) => [name, s.written, s.waiting, s.lost, s.alarm || "works"])),
    table(["latency, ms", "p50", "p99", "max", "samples"],
      Object.entries(status.stages).map(([name, [p50, , p99, , longest, samples]]) =>
        [name, ms(p50), ms(p99), ms(longest), samples])),
    table(["not used, events", "frames"],
      [...Object.entries(status.unused), ...Object.entries(status.events), ...Object.entries(status.rejected)]
        .filter(([, count]) => count)),
  ];
  if (status.workers) {
    tables.unshift(table(["worker", "where", "state", "cores", "sensors"],
      status.workers.map((w) => [w.name, w.where, w.state, number(w.load, 2), w.sensors.join(" ")])));
  }
  place.replaceChildren(...tables.filter(Boolean));
}

function table(heads, rows) {
  if (!rows.length) return null;
  const element = document.createElement("table");
  const head = document.createElement("tr");
  head.append(...heads.map((text) => cell("th", text)));
  element.append(head);
  for (const row of rows) {
    const line = document.createElement("tr");
    line.append(...row.map((value) => cell("td", String(value))));
    element.append(line);
  }
  return element;
}

export function showAlarms(place, alarms) {
  place.hidden = !alarms.length;
  if (place.dataset.shown === JSON.stringify(alarms)) return;
  place.dataset.shown = JSON.stringify(alarms);
  place.replaceChildren(...alarms.map((text) => cell("p", text)));
}

export function addLog(list, lines) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
  for (const { time_s: seconds, level, text } of lines) {
    const line = cell("li", "", { class: level });
    const at = new Date(seconds * 1000);
    line.append(cell("time", at.toISOString().slice(11, 19), { title: at.toISOString() }), ` ${level}: ${text}`);
    list.append(line);
  }
  while (list.children.length > LOG_KEPT) list.firstChild.remove();
  if (lines.length && atEnd) list.scrollTop = list.scrollHeight;
}
