// A picture that can be zoomed and panned, with its marks; several panes share one view.

import { drawLabels, drawMarks, svg } from "./marks.js";

const MOST_SCALE = 160; // screen px of a px
const DRAG_PX = 4; // a shorter movement is a click
const TALLEST = 0.72; // of the window, of the picture
const LOWEST_PX = 160; // of a picture
const WIDE_PX = 700; // room from which on two pictures stand side by side

/** What all panes look at: the px in their middle and the screen px of a px; scale 0 shows the whole frame. */
export class Look {
  x = 0;
  y = 0;
  scale = 0;
}

export class Pane {
  #pointers = new Map();
  #moved = 0;

  constructor(place, look, changed, clicked) {
    Object.assign(this, { look, changed, clicked, only: "" });
    this.element = document.createElement("figure");
    this.element.className = "pane";
    this.element.tabIndex = 0;
    this.canvas = document.createElement("canvas");
    this.overlay = svg("svg");
    this.caption = document.createElement("figcaption");
    this.element.append(this.canvas, this.overlay, this.caption);
    place.append(this.element);
    this.#listen();
  }

  get width() {
    return this.element.clientWidth;
  }

  get height() {
    return this.element.clientHeight;
  }

  /** The scale at which the whole frame is seen. */
  get fitting() {
    const { width, height } = this.size ?? { width: 1, height: 1 };
    return Math.min(this.width / width, this.height / height);
  }

  get scale() {
    return this.look.scale || this.fitting;
  }

  get middle() {
    const { width, height } = this.size ?? { width: 1, height: 1 };
    return this.look.scale ? [this.look.x, this.look.y] : [(width - 1) / 2, (height - 1) / 2];
  }

  to(x, y) {
    const [mx, my] = this.middle;
    return [(x - mx) * this.scale + this.width / 2, (y - my) * this.scale + this.height / 2];
  }

  from(left, top) {
    const [mx, my] = this.middle;
    return [(left - this.width / 2) / this.scale + mx, (top - this.height / 2) / this.scale + my];
  }

  /** Zoom by a factor around a place of the pane. */
  zoom(factor, left = this.width / 2, top = this.height / 2) {
    const [x, y] = this.from(left, top);
    const scale = Math.min(this.scale * factor, MOST_SCALE);
    if (scale <= this.fitting) {
      this.look.scale = 0;
    } else {
      const [mx, my] = [x - (left - this.width / 2) / scale, y - (top - this.height / 2) / scale];
      Object.assign(this.look, { scale, x: mx, y: my });
    }
    this.changed();
  }

  pan(dx, dy) {
    if (!this.look.scale) return;
    this.look.x -= dx / this.scale;
    this.look.y -= dy / this.scale;
    this.changed();
  }

  /** Draw a frame: source is its picture, painted; groups are labelled. */
  draw(frame, source, groups, options) {
    const { width: columns, height: rows } = frame.head;
    this.size = { width: columns, height: rows };
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = this.scale * ratio < 1;
    const [left, top] = this.to(-0.5, -0.5);
    const { bin } = frame.picture;
    const size = this.scale * ratio * bin;
    context.drawImage(source, left * ratio, top * ratio, source.width * size, source.height * size);
    this.overlay.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    const to = (x, y) => this.to(x, y);
    const marks = drawMarks(frame, to, this.scale, { ...options, only: this.only });
    const labels = options.labels ? drawLabels(groups, to, this.scale, this.width, this.height, options.selected) : "";
    this.overlay.replaceChildren(marks, labels);
    this.element.dataset.position = frame.head.position;
    this.element.dataset.scale = this.scale;
    this.caption.textContent = this.only;
    this.caption.hidden = !this.only;
  }

  #listen() {
    const { element } = this;
    const place = (event) => {
      const box = element.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...place(event));
    }, { passive: false });
    element.addEventListener("dblclick", () => this.zoom(0));
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, place(event));
      this.#moved = 0;
    });
    element.addEventListener("pointermove", (event) => {
      const before = this.#pointers.get(event.pointerId);
      if (!before) return;
      const now = place(event);
      const others = [...this.#pointers.entries()].filter(([id]) => id !== event.pointerId);
      this.#moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
      if (others.length) {
        const other = others[0][1];
        const reach = (p) => Math.max(Math.hypot(p[0] - other[0], p[1] - other[1]), 1);
        this.zoom(reach(now) / reach(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      } else {
        this.pan(now[0] - before[0], now[1] - before[1]);
      }
      this.#pointers.set(event.pointerId, now);
    });
    const end = (event) => {
      const known = this.#pointers.delete(event.pointerId);
      if (known && event.type === "pointerup" && this.#moved < DRAG_PX) this.clicked(...this.from(...place(event)), this.scale);
    };
    element.addEventListener("pointerup", end);
    element.addEventListener("pointercancel", end);
  }
}

/** Make room for a frame in each pane, side by side where there is room. */
export function sizePanes(place, panes, { width, height }, look) {
  const columns = panes.length > 1 && place.clientWidth > WIDE_PX ? 2 : 1;
  place.className = columns > 1 ? "two" : "";
  const room = place.clientWidth / columns;
  const tall = Math.max(Math.min((room * height) / width, innerHeight * TALLEST), LOWEST_PX);
  for (const pane of panes) {
    pane.element.style.height = `${Math.round(tall)}px`;
    pane.element.classList.toggle("zoomed", look.scale > 0);
  }
}
