/** PNG files of class ids, which a canvas can neither read nor write: it knows colours only. */

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
const CHANNELS = { 0: 1, 2: 3, 3: 1 }; // by colour type: grey, RGB, palette (PNG specification, table 11.1)
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? 0xedb88320 ^ (rest >>> 1) : rest >>> 1;
  return rest;
});

/**
 * Read a PNG whose rows are not filtered, such as the golden files.
 *
 * @param {ArrayBuffer} buffer
 * @returns {Promise<{pixels: Uint8Array, frame: number[], channels: number}>} (height, width, channels); of a palette
 *   file the ids
 */
export async function readPlainPng(buffer) {
  const view = new DataView(buffer);
  let [height, width, channels] = [0, 0, 0];
  const data = [];
  for (let at = SIGNATURE.length; at < buffer.byteLength;) {
    const length = view.getUint32(at);
    const name = String.fromCharCode(...new Uint8Array(buffer, at + 4, 4));
    if (name === "IHDR") {
      [width, height, channels] = [view.getUint32(at + 8), view.getUint32(at + 12), CHANNELS[view.getUint8(at + 17)]];
    }
    if (name === "IDAT") data.push(new Uint8Array(buffer, at + 8, length));
    at += length + 12;
  }
  const rows = await through(new DecompressionStream("deflate"), data);
  const wide = width * channels;
  const pixels = new Uint8Array(height * wide);
  for (let y = 0; y < height; y++) {
    if (rows[y * (wide + 1)] !== 0) throw new Error("a row of a PNG is filtered");
    pixels.set(rows.subarray(y * (wide + 1) + 1, (y + 1) * (wide + 1)), y * wide);
  }
  return { pixels, frame: [height, width], channels };
}

/**
 * Write class ids as a palette PNG: ids for programs, colours for people, as `featherseg predict` does.
 *
 * @param {Uint8Array} mask (height, width)
 * @param {number[]} frame [height, width]
 * @param {number[][]} colors RGB by class; other ids are black
 * @returns {Promise<Blob>}
 */
export async function writeMask(mask, [height, width], colors) {
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head.set([8, 3, 0, 0, 0], 8); // eight bits, palette
  const palette = new Uint8Array(256 * 3);
  colors.forEach((color, id) => palette.set(color, 3 * id));
  const rows = new Uint8Array(height * (width + 1)); // each begins with its filter: none
  for (let y = 0; y < height; y++) rows.set(mask.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const data = await through(new CompressionStream("deflate"), [rows]);
  const chunks = [chunk("IHDR", head), chunk("PLTE", palette), chunk("IDAT", data), chunk("IEND", new Uint8Array())];
  return new Blob([SIGNATURE, ...chunks], { type: "image/png" });
}

async function through(transform, parts) {
  const stream = new Blob(parts).stream().pipeThrough(transform);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function chunk(name, body) {
  const bytes = new Uint8Array(body.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, body.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(body, 8);
  let crc = 0xffffffff;
  for (const byte of bytes.subarray(4, body.length + 8)) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  view.setUint32(body.length + 8, ~crc >>> 0);
  return bytes;
}
