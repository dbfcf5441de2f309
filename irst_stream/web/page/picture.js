// From the bytes of a frame to values in DN, and from values to a canvas through a tone map.

const ARRAYS = { u1: Uint8Array, u2: Uint16Array, f4: Float32Array };
const SAMPLES = 16384;
const SD_OF_MAD = 1.4826;
const STEADY = 0.1; // of the range: smaller changes of the median and the deviation keep the tone map as it is

/** Decode a frame: { values, columns, rows, bin }; bin is the side of a value in px of the frame. */
export async function decode({ head, data }) {
  if (head.picture === "jpeg") return decodePreview(head, data);
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate"));
  const values = new ARRAYS[head.type](await new Response(stream).arrayBuffer());
  if (values.length !== head.width * head.height) throw new Error("frame: wrong number of pixels");
  return { values, columns: head.width, rows: head.height, bin: 1 };
}

async function decodePreview(head, data) {
  const bitmap = await createImageBitmap(new Blob([data], { type: "image/jpeg" }));
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const grey = context.getImageData(0, 0, width, height).data;
  const step = (head.high - head.low) / 255;
  const values = new Float32Array(width * height);
  for (let k = 0; k < values.length; k++) values[k] = head.low + grey[4 * k] * step;
  return { values, columns: width, rows: height, bin: Math.max(1, Math.round(head.width / width)) };
}

/** Median and robust standard deviation of a picture's values, DN. */
export function levelsOf({ values }) {
  const step = Math.max(1, Math.floor(values.length / SAMPLES));
  const sample = new Float64Array(Math.ceil(values.length / step));
  let count = 0;
  for (let k = 0; k < values.length; k += step) if (Number.isFinite(values[k])) sample[count++] = values[k];
  if (!count) return { median: 0, sd: 1 };
  const sorted = sample.subarray(0, count).sort();
  const median = sorted[count >> 1];
  const deviations = sorted.map((value) => Math.abs(value - median)).sort();
  const mean = sorted.reduce((sum, value) => sum + value, 0) / count;
  const spread = Math.sqrt(sorted.reduce((sum, value) => sum + (value - mean) ** 2, 0) / count);
  return { median, sd: Math.max(SD_OF_MAD * deviations[count >> 1], spread / 20, 1e-3) };
}

/** The tone map: from `dark` to `bright` deviations from the median; kept steady while the scene changes little. */
export class Tone {
  dark = -3;
  bright = 20;
  inverted = false;
  #held = null;

  /** Take the levels of a picture. */
  see(picture) {
    const levels = levelsOf(picture);
    const held = this.#held;
    const moved = held && (Math.abs(levels.median - held.median) > held.sd || Math.abs(levels.sd / held.sd - 1) > STEADY);
    if (!held || moved) this.#held = levels;
  }

  forget() {
    this.#held = null;
  }

  get low() {
    return this.#held ? this.#held.median + this.dark * this.#held.sd : 0;
  }

  get high() {
    return this.#held ? this.#held.median + Math.max(this.bright, this.dark + 0.1) * this.#held.sd : 1;
  }

  get sd() {
    return this.#held ? this.#held.sd : 1;
  }
}

/** Paint a part of a picture into a canvas of its own size: x, y, width, height in values. */
export function paint(canvas, picture, low, high, inverted, x = 0, y = 0, width = picture.columns, height = picture.rows) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const out = new Uint32Array(image.data.buffer);
  const scale = 255 / (high - low);
  const { values, columns } = picture;
  for (let row = 0, k = 0; row < height; row++) {
    let at = (y + row) * columns + x;
    for (let column = 0; column < width; column++, at++, k++) {
      let grey = (values[at] - low) * scale;
      grey = grey > 255 ? 255 : grey > 0 ? grey | 0 : 0; // what is not a number is black
      if (inverted) grey = 255 - grey;
      out[k] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
  }
  context.putImageData(image, 0, 0);
}
