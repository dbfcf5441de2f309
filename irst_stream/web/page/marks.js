// Marks on a picture as SVG: detections with 95 % ellipses, tracks with tails, truth, labels that do not overlap.
// Text and attributes only are set, so that nothing a name holds can become markup.

const SVG = "http://www.w3.org/2000/svg";
const CHI2_95 = 5.991; // of 2 degrees of freedom
const LETTER_PX = 7; // of a label
const LABEL_HEIGHT_PX = 15;

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Half axes, px, and direction, degrees, of the 95 % ellipse of a covariance [xx, xy, yy]; null if it is not known. */
export function ellipseOf(cov) {
  if (!cov || cov.some((value) => value === null)) return null;
  const [xx, xy, yy] = cov;
  const middle = (xx + yy) / 2;
  const reach = Math.hypot((xx - yy) / 2, xy);
  const axes = [middle + reach, Math.max(middle - reach, 0)].map((variance) => Math.sqrt(CHI2_95 * variance));
  return { axes, degrees: (Math.atan2(2 * xy, xx - yy) / 2) * (180 / Math.PI) };
}

/** Draw a frame's marks; to(x, y) gives the place on the screen, scale the screen px of a px. */
export function drawMarks(frame, to, scale, options) {
  const marks = svg("g");
  if (options.truth && frame.truth) marks.append(...frame.truth.id.map((id, k) => truthMark(frame.truth, k, to, scale)));
  for (const found of frame.detections) {
    if (options.hidden.has(found.name) || (options.only && options.only !== found.name)) continue;
    const kind = `detection set-${frame.detections.indexOf(found)}`;
    marks.append(...found.xy.map((_, k) => detectionMark(found, k, kind, to, scale)));
  }
  if (frame.tracks && options.tracks) {
    frame.tracks.id.forEach((_, k) => {
      if (frame.tracks.confirmed[k] || options.tentative) marks.append(trackMark(frame.tracks, k, to, scale, options));
    });
  }
  return marks;
}

function detectionMark(found, k, kind, to, scale) {
  const [x, y] = found.xy[k];
  const [cx, cy] = to(x, y);
  const mark = svg("g", { class: kind, "data-x": x, "data-y": y, "data-name": found.name });
  const ellipse = ellipseOf(found.cov[k]);
  if (ellipse) {
    const [rx, ry] = ellipse.axes.map((axis) => Math.max(axis * scale, 0.5));
    mark.append(svg("ellipse", { cx, cy, rx, ry, transform: `rotate(${ellipse.degrees} ${cx} ${cy})` }));
  }
  const arm = Math.min(Math.max(0.12 * scale, 2.5), 6);
  mark.append(svg("path", { d: kind.endsWith("1") ? crossing(cx, cy, arm) : plus(cx, cy, arm) }));
  return mark;
}

const plus = (x, y, r) => `M${x - r} ${y}H${x + r}M${x} ${y - r}V${y + r}`;
const crossing = (x, y, r) => `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}`;

function truthMark(truth, k, to, scale) {
  const [x, y] = truth.xy[k];
  const [cx, cy] = to(x, y);
  const mark = svg("g", { class: "truth", "data-x": x, "data-y": y, "data-id": truth.id[k] });
  const [w, h] = truth.size[k];
  if (w !== null && h !== null) {
    const [width, height] = [w * scale, h * scale];
    mark.append(svg("rect", { x: cx - width / 2, y: cy - height / 2, width, height }));
  } else {
    const r = Math.min(Math.max(0.2 * scale, 4), 8);
    mark.append(svg("path", { d: `M${cx - r} ${cy}L${cx} ${cy - r}L${cx + r} ${cy}L${cx} ${cy + r}Z` }));
  }
  return mark;
}

function trackMark(tracks, k, to, scale, options) {
  const [x, y] = tracks.state[k];
  const id = tracks.id[k];
  const [cx, cy] = to(x, y);
  const kind = ["track"];
  if (!tracks.confirmed[k]) kind.push("tentative");
  if (tracks.coasting[k]) kind.push("coasting");
  if (options.selected === id) kind.push("selected");
  const mark = svg("g", { class: kind.join(" "), "data-id": id, "data-x": x, "data-y": y });
  const tail = tracks.tail[k];
  if (options.tails && tail.length > 1) {
    mark.append(svg("polyline", { points: tail.map(([a, b]) => to(a, b).map((v) => v.toFixed(1)).join(",")).join(" ") }));
  }
  mark.append(svg("circle", { cx, cy, r: Math.min(Math.max(0.25 * scale, options.inset ? 4 : 7), options.inset ? 6 : 12) }));
  return mark;
}

/** Groups of a frame: confirmed tracks, or detections or truth where there are none, linked by at most `reach` px. */
export function findGroups(frame, reach = 8) {
  const points = [];
  if (frame.tracks) {
    frame.tracks.id.forEach((id, k) => {
      const [x, y] = frame.tracks.state[k];
      if (frame.tracks.confirmed[k]) points.push({ id, x, y });
    });
  } else {
    const [found] = frame.detections;
    for (const [x, y] of (found ?? frame.truth)?.xy ?? []) points.push({ id: "", x, y });
  }
  const groups = [];
  const open = new Set(points);
  while (open.size) {
    const [first] = open;
    const members = [];
    const reached = [first];
    open.delete(first);
    while (reached.length) {
      const point = reached.pop();
      members.push(point);
      for (const other of open) {
        if (Math.hypot(other.x - point.x, other.y - point.y) <= reach) {
          open.delete(other);
          reached.push(other);
        }
      }
    }
    groups.push(describe(members));
  }
  groups.sort((a, b) => (a.name === b.name ? a.x - b.x : Number(a.name) - Number(b.name)));
  return groups;
}

/** A group: its members, middle, largest half width, and a name that stays: its oldest track's number. */
function describe(members) {
  const xs = members.map((point) => point.x);
  const ys = members.map((point) => point.y);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const name = members.reduce((least, { id }) => (least === "" || Number(id) < Number(least) ? id : least), "");
  const half = Math.max(right - left, bottom - top) / 2;
  return { members, name, x: (left + right) / 2, y: (top + bottom) / 2, half };
}

/** Labels of groups too small to label their members, and of single tracks, none over another. */
export function drawLabels(groups, to, scale, width, height, selected) {
  const taken = [];
  const labels = svg("g", { class: "labels" });
  const add = (text, x, y, gap, attributes) => {
    const place = freePlace(text, x, y, gap, width, height, taken);
    if (place) labels.append(svg("text", { ...attributes, x: place.x, y: place.y + LABEL_HEIGHT_PX - 4 }, text));
  };
  for (const group of groups) {
    const [cx, cy] = to(group.x, group.y);
    const radius = group.half * scale + 12;
    if (cx < -radius || cy < -radius || cx > width + radius || cy > height + radius) continue;
    if (group.members.length > 1) {
      const kind = group.members.some(({ id }) => id && id === selected) ? "group selected" : "group";
      labels.append(svg("circle", { class: kind, cx, cy, r: radius, "data-group": group.name }));
      if (group.half * scale < 40) {
        const name = `G${group.name} \u00b7 ${group.members.length}`;
        if (group.name) add(name, cx, cy, radius, { class: kind, "data-group": group.name });
        continue;
      }
    }
    for (const { id, x, y } of group.members) {
      if (id) add(id, ...to(x, y), 9, { class: id === selected ? "selected" : "", "data-id": id });
    }
  }
  return labels;
}

/** The top left corner of a label beside a mark where no other label is; null if there is no room. */
function freePlace(text, x, y, gap, width, height, taken) {
  const w = text.length * LETTER_PX + 4;
  const h = LABEL_HEIGHT_PX;
  const d = gap * 0.72;
  const places = [
    [x + d, y - d - h], [x + d, y + d], [x - d - w, y - d - h], [x - d - w, y + d],
    [x - w / 2, y - gap - h], [x - w / 2, y + gap], [x + gap, y - h / 2], [x - gap - w, y - h / 2],
  ];
  for (const [left, top] of places) {
    const inside = left >= 0 && top >= 0 && left + w <= width && top + h <= height;
    const free = taken.every((t) => left >= t.right || left + w <= t.left || top >= t.bottom || top + h <= t.top);
    if (inside && free) {
      taken.push({ left, top, right: left + w, bottom: top + h });
      return { x: left, y: top };
    }
  }
  return null;
}
