/**
 * What computes: pictures to pixels, pixels to the network's input, logits to masks. One request after the other; each
 * is answered with the same number.
 *
 * The page starts it from an address of its own making, so that the page's Content-Security-Policy holds here too.
 */

import { fetchProven, Network, threadsHere } from "./network.js";
import { readBitmap, readPicture } from "./pixels.js";
import { readPlainPng } from "./png.js";
import { extent, networkInput, plan } from "./resize.js";
import { upsampleArgmax } from "./upsample.js";

let facts;
let base;
let network;
let queue = Promise.resolve();

const requests = {
  /** Open the network in an engine. */
  async open({ facts: given, base: address, engine, number }) {
    [facts, base] = [given, address];
    network = await Network.open(facts, engine, base, (step) => self.postMessage({ number, step }));
    return { threads: threadsHere() };
  },

  /** Segment the golden image the way of all pictures, and compare with the golden mask. */
  async prove() {
    const [image, mask] = await Promise.all(
      [facts.golden.image, facts.golden.mask].map(async (file) => (await fetchProven(file, base)).blob()),
    );
    const [written, golden] = await Promise.all(
      [image, mask].map(async (file) => readPlainPng(await file.arrayBuffer())),
    );
    const found = await segment(await readPicture(image), null);
    let same = 0;
    for (let i = 0; i < golden.pixels.length; i++) same += found.mask[i] === golden.pixels[i];
    let altered = 0;
    for (let i = 0; i < found.rgba.length; i++) altered += i % 4 < 3 && found.rgba[i] !== written.pixels[i - (i >> 2)];
    return { ...found, agreement: same / golden.pixels.length, altered: altered / written.pixels.length };
  },

  /** Segment a file. */
  async picture({ blob, mostPixels }) {
    return segment(await readPicture(blob), mostPixels);
  },

  /** Segment a frame of a camera. */
  async frame({ bitmap, mostPixels }) {
    const frame = [bitmap.height, bitmap.width];
    const rgba = readBitmap(bitmap, frame);
    bitmap.close();
    return segment({ rgba, frame, note: "" }, mostPixels);
  },
};

/** Return the mask of a picture, with what the network saw and how many milliseconds each stage took. */
async function segment({ rgba, frame, note }, mostPixels) {
  const fit = plan(facts.input, frame, mostPixels);
  const begin = performance.now();
  const input = networkInput(rgba, fit);
  const ready = performance.now();
  const { logits, shape } = await network.run(input, fit.canvas);
  const computed = performance.now();
  const mask = upsampleArgmax(logits, shape, frame, extent(fit, shape.slice(1)));
  const end = performance.now();
  const counts = new Array(facts.classes.names.length).fill(0);
  for (const id of mask) counts[id]++;
  const ms = { pre: ready - begin, net: computed - ready, post: end - computed };
  return { mask, rgba, frame, note, counts, ms, seen: fit.content, natural: fit.natural };
}

self.onmessage = ({ data }) => {
  queue = queue.then(async () => {
    try {
      const answer = await requests[data.kind](data);
      const moved = [answer.mask, answer.rgba].filter(Boolean).map((array) => array.buffer);
      self.postMessage({ number: data.number, answer }, moved);
    } catch (error) {
      self.postMessage({ number: data.number, failure: error?.message ?? String(error) });
    }
  });
};
