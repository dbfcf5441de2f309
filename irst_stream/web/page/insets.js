// An enlarged picture of each group, with its own tone map, a px grid's scale, and its members' ids spread along the sides.

import { paint } from "./picture.js";
import { drawMarks, svg } from "./marks.js";

const MARGIN = 2.5; // px of the frame around a group
const LEAST_HALF = 4; // px of the frame
const ROW_PX = 15; // between two labels
const MOST = 12; // insets

const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

export class Insets {
  #figures = [];

  constructor(place, note, select) {
    this.place = place;
    this.note = note;
    this.select = select;
  }

  /** Show the groups of a frame; those of several members first. */
  show(frame, groups, tone, options) {
    const ordered = [...groups].sort((a, b) => Number(b.members.length > 1) - Number(a.members.length > 1));
    const shown = ordered.slice(0, MOST);
    while (this.#figures.length < shown.length) this.#figures.push(this.#make());
    for (const figure of this.#figures.splice(shown.length)) figure.element.remove();
    shown.forEach((group, k) => this.#draw(this.#figures[k], frame, group, tone, options));
    const members = groups.reduce((sum, group) => sum + group.members.length, 0);
    const more = groups.length - shown.length;
    this.note.textContent = groups.length
      ? `${plural(groups.length, "group")}, ${plural(members, "target")}${more > 0 ? `; ${more} not enlarged` : ""}`
      : "none in this frame";
  }

  #make() {
    const element = document.createElement("figure");
    const canvas = document.createElement("canvas");
    const overlay = svg("svg");
    const caption = document.createElement("figcaption");
    const box = document.createElement("div");
    box.className = "picture";
    box.append(canvas, overlay);
    element.append(box, caption);
    element.addEventListener("click", () => this.select(element.dataset.x, element.dataset.y));
    this.place.append(element);
    return { element, canvas, overlay, caption };
  }

  #draw({ element, canvas, overlay, caption }, frame, group, tone, options) {
    const side = canvas.clientWidth || 200; // on the screen
    const half = Math.max(group.half + MARGIN, LEAST_HALF);
    const scale = side / (2 * half);
    overlay.setAttribute("viewBox", `0 0 ${side} ${side}`);
    const [left, top] = [group.x - half, group.y - half];
    const to = (x, y) => [(x - left) * scale, (y - top) * scale];
    Object.assign(element.dataset, { group: group.name, x: group.x, y: group.y });
    this.#paint(canvas, frame.picture, left, top, 2 * half, tone, 2 * side);
    const marks = drawMarks(frame, to, scale, { ...options, inset: true });
    overlay.replaceChildren(marks, spreadIds(group, to, side, options.selected), scaleBar(scale, side));
    const name = group.name ? `G${group.name}` : "group";
    const count = group.members.length;
    caption.textContent = `${name}: ${plural(count, "target")} at ${group.x.toFixed(1)}, ${group.y.toFixed(1)} px`;
  }

  /** The pixels around a group, from the same darkest level up to the brightest pixel there. */
  #paint(canvas, picture, left, top, side, tone, pixels) {
    const { bin, columns, rows, values } = picture;
    const first = (from) => Math.floor((from + 0.5) / bin);
    const last = (from) => Math.ceil((from + side + 0.5) / bin);
    const [x0, x1] = [Math.max(first(left), 0), Math.min(last(left), columns)];
    const [y0, y1] = [Math.max(first(top), 0), Math.min(last(top), rows)];
    const context = Object.assign(canvas, { width: pixels, height: pixels }).getContext("2d");
    if (x1 <= x0 || y1 <= y0) return;
    let brightest = -Infinity;
    for (let y = y0; y < y1; y++) {
      for (let x = x0; x < x1; x++) if (values[y * columns + x] > brightest) brightest = values[y * columns + x];
    }
    const part = document.createElement("canvas");
    paint(part, picture, tone.low, Math.max(brightest, tone.low + 6 * tone.sd), tone.inverted, x0, y0, x1 - x0, y1 - y0);
    const size = pixels / side;
    context.imageSmoothingEnabled = false;
    const [px, py] = [(x0 * bin - 0.5 - left) * size, (y0 * bin - 0.5 - top) * size];
    context.drawImage(part, px, py, part.width * bin * size, part.height * bin * size);
  }
}

/** The ids of a group's members in a column at either side, with a line from each to its target. */
function spreadIds(group, to, side, selected) {
  const labels = svg("g", { class: "labels" });
  const sides = { left: [], right: [] };
  for (const { id, x, y } of group.members) {
    const [cx, cy] = to(x, y);
    if (id) (cx < side / 2 ? sides.left : sides.right).push({ id, cx, cy });
  }
  for (const [edge, members] of Object.entries(sides)) {
    members.sort((a, b) => a.cy - b.cy);
    const room = Math.floor((side - 30) / ROW_PX);
    const rows = members.slice(0, room);
    const middle = rows.reduce((sum, { cy }) => sum + cy, 0) / Math.max(rows.length, 1);
    let at = Math.min(Math.max(middle - ((rows.length - 1) * ROW_PX) / 2, 14), side - 24 - (rows.length - 1) * ROW_PX);
    for (const { id, cx, cy } of rows) {
      at = Math.max(at, 14);
      const x = edge === "left" ? 4 : side - 4;
      const kind = id === selected ? "selected" : "";
      const inner = edge === "left" ? x + 7 * id.length + 3 : x - 7 * id.length - 3;
      labels.append(svg("line", { class: kind, x1: inner, y1: at - 4, x2: cx, y2: cy }));
      const anchor = edge === "left" ? "start" : "end";
      labels.append(svg("text", { class: kind, x, y: at, "text-anchor": anchor, "data-id": id }, id));
      at += ROW_PX;
    }
  }
  return labels;
}

function scaleBar(scale, side) {
  const length = [1, 2, 5, 10, 20].find((px) => px * scale >= 24) ?? 50;
  const [x, y] = [6, side - 6];
  const bar = svg("path", { class: "bar", d: `M${x} ${y - 4}V${y}H${x + length * scale}V${y - 4}` });
  const text = svg("text", { class: "bar", x: x + length * scale + 5, y }, `${length} px`);
  return svg("g", {}, bar, text);
}
