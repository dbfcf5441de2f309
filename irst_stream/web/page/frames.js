// Frames as they come: a live feed that is followed, frames asked for by their position, and those that are kept.

import { NoToken, askFrame } from "./link.js";
import { decode } from "./picture.js";

const KEPT_BYTES = 64e6; // of frames that have been shown, as they were sent
const SLOW_MS = 350; // a transfer longer than this asks for previews
const RETRY_MS = 1000;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** A frame as the page draws it: its head, its lists of marks, its picture. */
export async function openFrame(sent) {
  const { head } = sent;
  return { head, detections: head.detections, tracks: head.tracks, truth: head.truth, picture: await decode(sent) };
}

/** Which picture the link allows, from the transfers so far. */
export class LinkSpeed {
  preview = false;
  #fullBytes = 0;

  see({ head, bytes, ms }) {
    if (head.picture === "deflate") {
      this.#fullBytes = bytes;
      if (ms > SLOW_MS) this.preview = true;
    } else if (this.preview && (this.#fullBytes / bytes) * ms < SLOW_MS / 2) {
      this.preview = false;
    }
  }
}

/** Frames that have been shown, by position; the oldest go first. */
export class Kept {
  #frames = new Map();
  #bytes = 0;

  add(sent) {
    const { position } = sent.head;
    this.#bytes += sent.bytes - (this.#frames.get(position)?.bytes ?? 0);
    this.#frames.delete(position);
    this.#frames.set(position, sent);
    for (const [old, { bytes }] of this.#frames) {
      if (this.#bytes <= KEPT_BYTES) break;
      this.#frames.delete(old);
      this.#bytes -= bytes;
    }
  }

  get first() {
    return Math.min(...this.#frames.keys());
  }

  /** The kept frame nearest to a position; in a direction, the next one beyond it. */
  nearest(position, direction = 0) {
    let best = null;
    for (const [at, sent] of this.#frames) {
      if (direction && Math.sign(at - position) !== direction) continue;
      if (best === null || Math.abs(at - position) < Math.abs(best.head.position - position)) best = sent;
    }
    return best;
  }

  clear() {
    this.#frames.clear();
    this.#bytes = 0;
  }
}

/** Asks for the newest frame again and again, each after the last has been shown, while `wanted` says so. */
export async function follow({ query, wanted, show, failed, periodMs, speed }) {
  let request = null;
  const stop = () => request?.abort();
  const run = async () => {
    for (;;) {
      const began = performance.now();
      if (!wanted() || document.hidden) {
        await pause(50);
        continue;
      }
      request = new AbortController();
      try {
        const sent = await askFrame("/api/next", query(), request.signal);
        if (sent && wanted()) { // it may have been paused meanwhile
          speed.see(sent);
          await show(sent);
        }
      } catch (error) {
        if (error.name !== "AbortError") await failed(error);
        if (error.name !== "AbortError" && !(error instanceof NoToken)) await pause(RETRY_MS);
      }
      await pause(Math.max(began + periodMs() - performance.now(), 0));
    }
  };
  run();
  return stop;
}
