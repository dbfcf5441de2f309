// An example sensor for Node.js: sends frames to irst-stream as irst_stream/io/zeromq/PROTOCOL.md describes them.
//
//     node sensor_client.mjs --frames 1000 --rate 50 --width 640 --height 512 tcp://127.0.0.1:5555
//
// It needs no package: ZMTP 3.0, the protocol under ZeroMQ (rfc.zeromq.org/spec/23), is a handshake and a length before each
// part. Where the package "zeromq" is installed, its Publisher and Push do the same, encrypted too. Frame k, from 0, shows
// the moving spot that sensor_client.c draws.

import net from "node:net";
import { parseArgs } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";

const OPTIONS = {
  socket: { type: "string", default: "pub" }, // pub for policy live, push for lossless
  sensor: { type: "string", default: "cam1" },
  width: { type: "string", default: "64" },
  height: { type: "string", default: "64" },
  frames: { type: "string", default: "100" }, // 0: without end
  rate: { type: "string", default: "50" },
};

function fail(text) {
  process.stderr.write(`sensor_client: ${text}\n`);
  process.exit(2);
}

// CRC-32 as in zlib: node:zlib has crc32 only from version 22 on.
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

// The part of msgpack that a header needs. A BigInt becomes an integer of 8 bytes, a number a float64.
function pack(value) {
  if (typeof value === "bigint") {
    const bytes = Buffer.alloc(9, 0xd3);
    bytes.writeBigInt64BE(value, 1);
    return bytes;
  }
  if (typeof value === "number") {
    const bytes = Buffer.alloc(9, 0xcb);
    bytes.writeDoubleBE(value, 1);
    return bytes;
  }
  if (typeof value === "string") return Buffer.concat([Buffer.from([0xd9, Buffer.byteLength(value)]), Buffer.from(value)]);
  if (Array.isArray(value)) return Buffer.concat([Buffer.from([0x90 | value.length]), ...value.map(pack)]);
  const entries = Object.entries(value);
  return Buffer.concat([Buffer.from([0x80 | entries.length]), ...entries.flat().map(pack)]);
}

// One frame of ZMTP; flags: 1 if more parts follow, 4 for a command.
function zmtpFrame(body, flags) {
  if (body.length < 256) return Buffer.concat([Buffer.from([flags, body.length]), body]);
  const head = Buffer.alloc(9);
  head[0] = flags | 2;
  head.writeBigUInt64BE(BigInt(body.length), 1);
  return Buffer.concat([head, body]);
}

function command(name, body) {
  return zmtpFrame(Buffer.concat([Buffer.from([name.length]), Buffer.from(name), body]), 4);
}

function property(name, value) {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(value.length);
  return Buffer.concat([Buffer.from([name.length]), Buffer.from(name), length, Buffer.from(value)]);
}

// Connects and greets; resolves once the other end is ready. Its heartbeats are answered.
function connect(host, port, kind) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, host);
    let received = Buffer.alloc(0);
    let greeted = false;
    socket.on("error", reject);
    socket.on("connect", () => {
      const greeting = Buffer.alloc(64);
      greeting.write("\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL", "latin1");
      socket.write(greeting);
    });
    socket.on("data", (data) => {
      received = Buffer.concat([received, data]);
      if (!greeted && received.length >= 64) {
        greeted = true;
        received = received.subarray(64);
        socket.write(command("READY", Buffer.concat([property("Socket-Type", kind.toUpperCase()), property("Identity", "")])));
      }
      while (greeted && received.length >= 2) {
        const long = received[0] & 2;
        if (long && received.length < 9) return;
        const start = long ? 9 : 2;
        const length = long ? Number(received.readBigUInt64BE(1)) : received[1];
        if (received.length < start + length) return;
        const body = received.subarray(start, start + length);
        if (received[0] & 4) {
          const name = body.subarray(1, 1 + body[0]).toString("latin1");
          if (name === "READY") resolve(socket);
          if (name === "PING") socket.write(command("PONG", body.subarray(7)));
        } // anything else is a subscription: this sensor sends all it has, and the other end chooses
        received = received.subarray(start + length);
      }
    });
  });
}

function draw(index, width, height) {
  const [x, y] = [(width / 4 + 0.3 * index) % width, (height / 2 + 0.1 * index) % height];
  const pixels = Buffer.alloc(2 * width * height);
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at += 2) {
      pixels.writeUInt16LE(Math.round(1000 + 2000 * Math.exp(-((column - x) ** 2 + (row - y) ** 2) / 2)), at);
    }
  }
  return { pixels, spot: [x, y] };
}

let parsed;
try {
  parsed = parseArgs({ options: OPTIONS, allowPositionals: true });
} catch (error) {
  fail(error.message);
}
const place = /^tcp:\/\/([^:/]+):(\d+)$/.exec(parsed.positionals[0] ?? "");
if (!place || parsed.positionals.length !== 1) fail("expected one endpoint, tcp://HOST:PORT");
const { socket: kind, sensor } = parsed.values;
const [width, height, frames, rate] = ["width", "height", "frames", "rate"].map((name) => Number(parsed.values[name]));
if (!["pub", "push"].includes(kind)) fail(`--socket: expected pub or push, got '${kind}'`);
if (!/^[A-Za-z0-9_.:-]{1,64}$/.test(sensor)) fail("--sensor: expected 1 to 64 letters, digits or any of _ . : -");
if (![width, height].every((n) => Number.isInteger(n) && n > 0 && n <= 32768) || !(rate > 0) || !(frames >= 0)) {
  fail("expected whole numbers above 0 for --width, --height and --rate, and 0 or more for --frames");
}

const link = await connect(place[1], Number(place[2]), kind).catch((error) => fail(`${parsed.positionals[0]}: ${error.message}`));
const epoch = BigInt(Date.now()) * 1_000_000n; // a new one at each start
const began = performance.now();
for (let index = 0; !frames || index < frames; index++) {
  await sleep(Math.max(began + (1000 * index) / rate - performance.now(), 0));
  const { pixels, spot } = draw(index, width, height);
  const header = pack({
    protocol: 1n,
    kind: "frame",
    sensor,
    epoch,
    index: BigInt(index),
    time_ns: epoch + BigInt(Math.round(1e6 * (performance.now() - began))),
    clock: "unix",
    dtype: "uint16",
    shape: [BigInt(height), BigInt(width)],
    crc32: BigInt(crc32(pixels)),
    full_scale: 16383,
    metadata: { spot },
  });
  const parts = [zmtpFrame(Buffer.from(`frame/${sensor}/`), 1), zmtpFrame(header, 1), zmtpFrame(pixels, 0)];
  if (!link.write(Buffer.concat(parts))) await new Promise((resume) => link.once("drain", resume)); // the receiver's pace
}
link.end();
