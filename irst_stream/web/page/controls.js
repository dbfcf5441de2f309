// The controls: keys, buttons, check boxes, and the choice between light and dark.

import { setToken } from "./link.js";
import { cell } from "./panels.js";

const THEME_KEY = "irst-stream theme";
const $ = (id) => document.getElementById(id);

export function bindTheme(button) {
  const chosen = localStorage.getItem(THEME_KEY);
  if (chosen) document.documentElement.dataset.theme = chosen;
  button.addEventListener("click", toggleTheme);
}

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem(THEME_KEY, root.dataset.theme);
}

export function bindKeys({ toggle, step, goTo, zoom, pan, nextSensor, select, edges }) {
  const keys = {
    " ": () => toggle(),
    ArrowLeft: (event) => step(event.shiftKey ? -10 : -1),
    ArrowRight: (event) => step(event.shiftKey ? 10 : 1),
    Home: () => goTo(edges().first),
    End: () => (document.body.dataset.kind === "live" ? toggle(true) : goTo(edges().last)),
    "+": () => zoom(1.5),
    "=": () => zoom(1.5),
    "-": () => zoom(1 / 1.5),
    0: () => zoom(0),
    w: () => pan(0, 60),
    s: () => pan(0, -60),
    a: () => pan(60, 0),
    d: () => pan(-60, 0),
    "[": () => nextSensor(-1),
    "]": () => nextSensor(1),
    i: () => document.getElementById("inverted").click(),
    t: toggleTheme,
    "?": () => document.getElementById("keys").showModal(),
    Escape: () => select(null),
  };
  addEventListener("click", (event) => {
    const control = event.target.closest("button, input[type=checkbox]");
    if (control && event.detail) control.blur(); // clicked by a pointer: keys belong to the page again
  });
  addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=number], input[type=password], select");
    const onButton = event.key === " " && event.target.matches("button, input[type=checkbox]");
    const action = keys[event.key];
    if (!action || typing || onButton || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    action(event);
  });
}

/** Connect the controls with what they do. */
export function bindOptions({ tone, draw, chooseSensor, choosePicture, toggle, step, goTo, zoom, split }) {
  const onTone = () => {
    Object.assign(tone, { dark: Number($("dark").value), bright: Number($("bright").value), inverted: $("inverted").checked });
    draw();
  };
  $("dark").value = tone.dark;
  $("bright").value = tone.bright;
  for (const id of ["dark", "bright", "inverted"]) $(id).addEventListener("input", onTone);
  $("sensor").addEventListener("change", () => chooseSensor($("sensor").value));
  $("picture").addEventListener("change", choosePicture);
  $("play").addEventListener("click", () => toggle());
  $("back").addEventListener("click", () => step(-1));
  $("forward").addEventListener("click", () => step(1));
  $("slider").addEventListener("input", () => goTo(Number($("slider").value)));
  $("zoom-in").addEventListener("click", () => zoom(1.5));
  $("zoom-out").addEventListener("click", () => zoom(1 / 1.5));
  $("fit").addEventListener("click", () => zoom(0));
  $("help").addEventListener("click", () => $("keys").showModal());
  $("split").addEventListener("change", () => split($("split").checked));
  addEventListener("resize", draw);
}

/** Check boxes for what is drawn, made anew when a frame has other things than the last one. */
export function showLegend(frame, options, draw) {
  const names = frame.detections.map(({ name }) => name);
  const rows = names.map((name, k) => [`detection set-${k}`, name, !options.hidden.has(name),
    (on) => (on ? options.hidden.delete(name) : options.hidden.add(name))]);
  if (frame.tracks) {
    rows.push(["track", "tracks", options.tracks, (on) => (options.tracks = on)]);
    rows.push(["tail", "tails", options.tails, (on) => (options.tails = on)]);
    rows.push(["tentative", "tentative", options.tentative, (on) => (options.tentative = on)]);
  }
  if (frame.truth) rows.push(["truth", "truth", options.truth, (on) => (options.truth = on)]);
  rows.push(["text", "labels", options.labels, (on) => (options.labels = on)]);
  const wanted = JSON.stringify(rows.map(([, name]) => name));
  if ($("legend").dataset.rows === wanted) return;
  $("legend").dataset.rows = wanted;
  $("legend").replaceChildren(...rows.map(([kind, name, on, set]) => {
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: on });
    box.addEventListener("change", () => { set(box.checked); draw(); });
    const label = document.createElement("label");
    label.append(box, cell("i", "", { class: `swatch ${kind}` }), ` ${name}`);
    return label;
  }));
}

let asking = null;

/** Ask the person for the token, once however many requests lack it. */
export function askToken() {
  asking ??= new Promise((done) => {
    $("ask-token").addEventListener("close", () => {
      setToken($("token").value.trim());
      asking = null;
      done();
    }, { once: true });
    $("ask-token").showModal();
  });
  return asking;
}
