// The page: what is shown, what the person chose, what happens when a frame comes.
import { askToken, bindKeys, bindOptions, bindTheme, showLegend } from "./controls.js";
import { Kept, LinkSpeed, follow, openFrame } from "./frames.js";
import { Insets } from "./insets.js";
import { NoToken, askFrame, askJson, takeToken } from "./link.js";
import { cell, Plots, TrackTable, addLog, showAlarms, showCounts } from "./panels.js";
import { findGroups } from "./marks.js";
import { Look, Pane, sizePanes } from "./pane.js";
import { Tone, paint } from "./picture.js";

const STATUS_MS = 1000;
const TABLE_MS = 250; // between two updates of the table
const $ = (id) => document.getElementById(id);

const state = {
  about: null, sensors: [], sensor: "", run: "", playing: true, following: true, position: -1, selected: null,
  frame: null, seriesAfter: -1, logAfter: 0, connected: false, shownAt: [], wanted: null, asking: null,
};
const options = { hidden: new Set(), tracks: true, tails: true, tentative: false, truth: true, labels: true, selected: null };
const tone = new Tone();
const look = new Look();
const kept = new Kept();
const speed = new LinkSpeed();
const source = document.createElement("canvas");
const panes = [];
const insets = new Insets($("insets"), $("groups-note"), (x, y) => lookAt(Number(x), Number(y)));
const trackTable = new TrackTable($("tracks"), $("tracks-note"), select);
const plots = new Plots($("plots"), [
  { key: "latency", title: "latency, frame to result", unit: "ms", digits: 1 },
  { key: "detections", title: "detections", unit: "a frame", digits: 0 },
  { key: "tracks", title: "confirmed tracks", unit: "", digits: 0 },
  { key: "drops", title: "frames not used", unit: "/s", digits: 1 },
]);
let tableTimer = null;
let countsBefore = null;
let stopRequest = () => {};

const isLive = () => state.about?.kind === "live";
const sensorNow = () => state.sensors.find(({ name }) => name === state.sensor);
const pictureNow = () => {
  const chosen = $("picture").value;
  return chosen === "auto" ? (speed.preview && state.playing ? "preview" : "full") : chosen;
};

async function start() {
  takeToken();
  bindTheme($("theme"));
  bindOptions({ tone, draw: drawAll, chooseSensor, choosePicture, toggle, step, goTo, zoom, split });
  bindKeys({ toggle, step, goTo, zoom, pan, nextSensor, select, edges });
  addPane();
  for (;;) {
    try {
      state.about = await askJson("/api/about");
      break;
    } catch (error) {
      await failed(error);
      await new Promise((done) => setTimeout(done, STATUS_MS));
    }
  }
  $("title").textContent = state.about.title;
  document.title = `irst-stream: ${state.about.title}`;
  document.body.dataset.kind = state.about.kind;
  for (const id of ["plots", "counts", "log", "picture-label"]) if (!isLive()) $(id).hidden = true;
  $("speed-label").hidden = isLive();
  $("tracks").hidden = !isLive(); // a recording may have none
  takeSensors(state.about.sensors);
  if (!isLive()) state.playing = false;
  stopRequest = await follow({
    query: () => ({ sensor: state.sensor, after: state.position, picture: pictureNow() }),
    wanted: () => isLive() && state.playing && state.sensor,
    show, failed, speed,
    periodMs: () => 1000 / state.about.frames_per_s,
  });
  play();
  watch();
}

/** What the pipeline says of itself, once a second. */
async function watch() {
  for (;;) {
    if (!document.hidden) {
      try {
        takeStatus(await askJson("/api/status", {
          sensor: state.sensor, series_after: state.seriesAfter, log_after: state.logAfter,
        }));
      } catch (error) {
        await failed(error);
      }
    }
    await new Promise((done) => setTimeout(done, STATUS_MS));
  }
}

function takeStatus(status) {
  state.connected = true;
  if (status.run && status.run !== state.run) {
    if (state.run) restarted();
    state.run = status.run;
  }
  takeSensors(status.sensors);
  if (status.counts) {
    const rates = ratesOf(status);
    showCounts($("counts").querySelector(".scroll"), status, rates);
    takeSeries(status);
  }
  if (status.alarms) showAlarms($("alarms"), status.alarms);
  if (status.log?.length) {
    if (status.log[0].number <= state.logAfter) $("log").querySelector("ol").replaceChildren();
    addLog($("log").querySelector("ol"), status.log);
    state.logAfter = status.log.at(-1).number;
  }
  showState();
}

function ratesOf(status) {
  const rates = {};
  const before = countsBefore;
  if (before && status.seconds > before.seconds) {
    for (const [name, { frames }] of Object.entries(status.counts)) {
      rates[name] = (frames - (before.counts[name]?.frames ?? 0)) / (status.seconds - before.seconds);
    }
    const total = (counts) => Object.values(counts).reduce((sum, count) => sum + count, 0);
    const lost = Math.max(total(status.unused) - total(before.unused), 0) / (status.seconds - before.seconds);
    plots.add("drops", [[status.now_s, lost]]);
  }
  countsBefore = status;
  return rates;
}

function takeSeries({ series }) {
  if (series.length) state.seriesAfter = series.at(-1)[0];
  plots.add("latency", series.map(([, at, latency]) => [at, latency]));
  plots.add("detections", series.map(([, at, , found]) => [at, found]));
  plots.add("tracks", series.map(([, at, , , confirmed]) => [at, confirmed]));
  plots.draw();
}

/** Forget what came from a pipeline that was started again, or from another sensor. */
function restarted() {
  Object.assign(state, { position: -1, seriesAfter: -1, selected: null });
  options.selected = null;
  kept.clear();
  plots.clear();
  tone.forget();
  countsBefore = null;
}

function takeSensors(sensors) {
  const names = sensors.map(({ name }) => name);
  if (names.join("\n") !== state.sensors.map(({ name }) => name).join("\n")) {
    $("sensor").replaceChildren(...names.map((name) => cell("option", name, { value: name })));
    $("sensor").value = state.sensor;
  }
  state.sensors = sensors;
  if (!sensorNow() && names.length) chooseSensor(names[0]);
  $("sensor-label").hidden = !names.length;
  showTransport();
}

async function chooseSensor(name) {
  if (name === state.sensor) return;
  restarted();
  state.sensor = name;
  state.frame = null;
  $("sensor").value = name;
  stopRequest();
  if (!isLive() && state.about) await ask(0);
  else state.playing = true;
}

/** Take the chosen kind of picture from the next frame on, and of the one that is shown if it stands. */
function choosePicture() {
  stopRequest();
  if (!state.playing) ask(state.position);
}

function nextSensor(step) {
  const at = state.sensors.findIndex(({ name }) => name === state.sensor);
  const next = state.sensors[(at + step + state.sensors.length) % state.sensors.length];
  if (next) chooseSensor(next.name);
}

/** Show a frame that has been sent. */
async function show(sent) {
  if (!sent || sent.head.sensor !== state.sensor) return;
  const frame = await openFrame(sent);
  if (isLive()) kept.add(sent);
  Object.assign(state, { frame, position: frame.head.position, connected: true });
  state.shownAt = [...state.shownAt.filter((at) => at > performance.now() - 2000), performance.now()];
  tone.see(frame.picture);
  $("split-label").hidden = frame.detections.length < 2;
  if (isLive() || frame.tracks) $("tracks").hidden = false;
  showLegend(frame, options, drawAll);
  draw();
}

function draw() {
  const { frame } = state;
  if (!frame) return;
  $("empty").hidden = true;
  sizePanes($("panes"), panes, frame.head, look);
  paint(source, frame.picture, tone.low, tone.high, tone.inverted);
  frame.groups = findGroups(frame);
  for (const pane of panes) pane.draw(frame, source, frame.groups, options);
  insets.show(frame, frame.groups, tone, options);
  tableTimer ??= setTimeout(drawTable, state.playing ? TABLE_MS : 0);
  $("levels").textContent = `${tone.low.toFixed(0)} to ${tone.high.toFixed(0)} DN`;
  $("stage").dataset.picture = frame.head.picture;
  document.body.classList.toggle("inverted", tone.inverted);
  showTransport();
  showState();
}

function showState() {
  const [pill, facts] = [$("state"), $("facts")];
  const rate = state.shownAt.filter((at) => at > performance.now() - 2000).length / 2;
  const silent = isLive() && state.playing && rate === 0;
  const unanswered = isLive() && state.frame && !state.frame.tracks;
  const word = !state.connected ? "disconnected" : !isLive() ? "recording" : !state.playing ? "paused"
    : silent ? "no frames" : unanswered ? "no results" : "live";
  pill.textContent = word;
  pill.dataset.state = word;
  if (!state.frame) return;
  const { head } = state.frame;
  const sensor = sensorNow();
  const parts = [`${head.width} x ${head.height} px`];
  if (sensor?.rate_hz) parts.push(`${sensor.rate_hz.toFixed(1)} frames/s`);
  if (isLive() && state.playing) parts.push(`${rate.toFixed(1)} shown/s${head.picture === "jpeg" ? ", preview" : ""}`);
  if (isLive() && head.latency_ms !== null) parts.push(`${head.latency_ms.toFixed(0)} ms to its result`);
  facts.textContent = parts.join(" \u00b7 ");
}

function showTransport() {
  const sensor = sensorNow();
  const slider = $("slider");
  $("play").textContent = state.playing ? "pause" : isLive() ? "go live" : "play";
  if (!sensor) return;
  const { first, last } = edges();
  slider.min = first;
  slider.max = last;
  if (document.activeElement !== slider || state.playing) slider.value = state.position;
  const head = state.frame?.head;
  const behind = isLive() && !state.playing ? `, ${Math.max(last - state.position, 0)} behind` : "";
  const total = isLive() ? "" : ` \u00b7 ${state.position + 1} of ${last + 1}${sensor.is_complete ? "" : "+"}`;
  const seconds = head ? `${(Number(BigInt(head.time_ns) / 1000n) / 1e6).toFixed(3)} s` : "";
  const when = head?.clock === "unix" ? utc(Number(BigInt(head.time_ns) / 1000000n)) : seconds;
  $("position").textContent = head ? `frame ${head.index}${total}${behind} \u00b7 ${when}` : "";
  $("position").title = head?.source ?? "";
}

const utc = (ms) => `${new Date(ms).toISOString().slice(11, 23)} UTC`;

/** First and last position that can be shown. */
function edges() {
  const { first, last } = sensorNow() ?? { first: 0, last: 0 };
  return { first: isLive() ? Math.min(first, kept.first) : first, last: Math.max(last, state.position) };
}

/** Stop, and show the frame at a position. */
async function goTo(position) {
  const { first, last } = edges();
  if (isLive() && position > last) return toggle(true);
  state.playing = false;
  await ask(Math.min(Math.max(position, first), last));
}

/** Show the frame at a position; of many that are asked for meanwhile, as by the slider, only the last one is fetched. */
async function ask(position, direction = 0) {
  state.wanted = [position, direction];
  state.asking ??= answerWanted();
  await state.asking;
}

async function answerWanted() {
  while (state.wanted) {
    const [position, direction] = state.wanted;
    state.wanted = null;
    await fetchFrame(position, direction);
  }
  state.asking = null;
}

async function fetchFrame(position, direction) {
  const old = isLive() && position < (sensorNow()?.first ?? 0) ? kept.nearest(position, direction) : null;
  try {
    const query = { sensor: state.sensor, position, picture: isLive() ? pictureNow() : "full" };
    await show(old ?? (await askFrame("/api/frame", query)));
    if (!isLive()) showAlarms($("alarms"), []);
  } catch (error) {
    state.position = position; // so that one step further leads past a frame that cannot be read
    await failed(error);
  }
}

async function step(count) {
  state.playing = false;
  const target = state.position + count;
  const { first, last } = edges();
  if (target >= first && target <= last) await ask(target, Math.sign(count));
  else showTransport();
}

function toggle(playing = !state.playing) {
  state.playing = playing;
  if (!isLive() && playing && state.position >= edges().last) state.position = edges().first - 1;
  showTransport();
  showState();
}

/** Play a recording: at the chosen speed, leaving out frames where the link is too slow for all of them. */
async function play() {
  let since = null;
  for (;;) {
    await new Promise((done) => setTimeout(done, 15));
    if (isLive() || !state.playing) {
      since = null;
      continue;
    }
    const rate = (sensorNow()?.rate_hz || 25) * Number($("speed").value);
    if (!since || since.rate !== rate || since.sensor !== state.sensor) {
      since = { at: performance.now(), position: state.position, rate, sensor: state.sensor };
    }
    const due = Math.floor(since.position + ((performance.now() - since.at) / 1000) * rate);
    const { last } = edges();
    if (due > state.position) await ask(Math.min(due, last));
    if (state.position >= last && sensorNow()?.is_complete) toggle(false);
  }
}

function select(id) {
  state.selected = state.selected === id ? null : id;
  options.selected = state.selected;
  const k = state.frame?.tracks?.id.indexOf(state.selected) ?? -1;
  if (k >= 0 && look.scale) lookAt(...state.frame.tracks.state[k]);
  drawAll();
}

function drawTable() {
  tableTimer = null;
  const { frame, selected } = state;
  if (frame) trackTable.show(frame, frame.groups, selected, options.tentative);
}

/** Draw the frame, and the table of tracks with it. */
function drawAll() {
  draw();
  drawTable();
}

/** Show the detections of two files side by side, or all in one picture. */
function split(apart) {
  const names = state.frame.detections.map(({ name }) => name);
  for (const pane of panes.splice(1)) pane.element.remove();
  if (apart) addPane();
  panes.forEach((pane, k) => (pane.only = apart ? names[k] : ""));
  draw();
}

function lookAt(x, y) {
  const [pane] = panes;
  Object.assign(look, { x, y, scale: Math.max(pane.scale, pane.fitting * 6, 12) });
  draw();
}

const zoom = (factor) => panes[0].zoom(factor);
const pan = (dx, dy) => panes[0].pan(dx, dy);
function addPane() {
  panes.push(new Pane($("panes"), look, draw, (x, y, scale) => {
    const tracks = state.frame?.tracks;
    if (!tracks) return;
    let [best, least] = [null, 14 / scale];
    tracks.id.forEach((id, k) => {
      const distance = Math.hypot(tracks.state[k][0] - x, tracks.state[k][1] - y);
      if ((tracks.confirmed[k] || options.tentative) && distance < least) [best, least] = [id, distance];
    });
    if (best !== null || state.selected !== null) select(best ?? state.selected);
  }));
}

async function failed(error) {
  if (error instanceof NoToken) return askToken();
  if (error instanceof TypeError) state.connected = false; // the request did not come through
  else if (!isLive()) showAlarms($("alarms"), [error.message]);
  showState();
}

start();
