/**
 * Frames at the size that the network wants, by featherseg's own arithmetic: runtime/fitting.py, runtime/area.py.
 *
 * A canvas would scale too, but each browser in its own way, and none as the network saw its pictures in training.
 */

const SLIVER = 1e-3; // parts of a pixel that OpenCV leaves out where they are no more than this
const FEWEST_TAPS = 3;
const LINEAR_BITS = 11; // OpenCV's INTER_RESIZE_COEF_BITS: its weights for bytes are whole 2048ths

/** Round to the nearest whole number, halves to the even one, as Python, NumPy and OpenCV do. */
export function roundEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

/**
 * Say how a frame goes through the network.
 *
 * @param {{size: ?number[], long_side: ?number, smallest: number}} input the one [height, width] that the file takes or
 *   null; the longer side that it asks for or null; the smallest side that a network sees
 * @param {number[]} frame [height, width]
 * @param {?number} mostPixels of what the network sees; null for any number
 * @returns {{frame: number[], content: number[], canvas: number[], natural: number[]}} what the frame is resized to,
 *   what that is padded to at the right and below, and what it would be resized to without a limit
 */
export function plan(input, frame, mostPixels = null) {
  if (input.size)
    return { frame, content: input.size, canvas: atLeast(input.size, input.smallest), natural: input.size };
  const scale = input.long_side ? input.long_side / Math.max(...frame) : 1;
  const natural = scaled(frame, scale);
  const pixels = natural[0] * natural[1];
  let content = natural;
  if (mostPixels && pixels > mostPixels) content = scaled(frame, scale * Math.sqrt(mostPixels / pixels));
  return { frame, content, canvas: atLeast(content, input.smallest), natural };
}

function scaled(frame, factor) {
  return frame.map((side) => Math.max(roundEven(side * factor), 1));
}

function atLeast(size, smallest) {
  return size.map((side) => Math.max(side, smallest));
}

/**
 * Return the [rows, columns] of the logits that the frame covers: of the rest, padding alone is seen.
 *
 * @param {{content: number[], canvas: number[]}} fit from {@link plan}
 * @param {number[]} logits [rows, columns]
 */
export function extent(fit, logits) {
  return logits.map((count, side) => Math.ceil((fit.content[side] * count) / fit.canvas[side]));
}

/**
 * Return what the network gets of a frame.
 *
 * @param {Uint8ClampedArray} rgba pixels of a frame
 * @param {{frame: number[], content: number[], canvas: number[]}} fit from {@link plan}
 * @returns {Uint8Array} RGB, (height, width, 3) of the canvas
 */
export function networkInput(rgba, fit) {
  return padded(resized(rgba, fit.frame, fit.content), fit.content, fit.canvas);
}

/**
 * Return RGB (h, w, 3) of RGBA pixels (H, W, 4): means of areas where both sides shrink, bilinear where one grows.
 *
 * @param {Uint8ClampedArray} rgba
 * @param {number[]} from [height, width]
 * @param {number[]} to [height, width]
 */
export function resized(rgba, from, to) {
  if (from[0] === to[0] && from[1] === to[1]) return withoutAlpha(rgba);
  if (to[0] > from[0] || to[1] > from[1]) return linear(rgba, from, to);
  const whole = from[0] % to[0] === 0 && from[1] % to[1] === 0;
  return whole ? wholeAreas(rgba, from, to) : areas(rgba, from, to);
}

function withoutAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let i = 0, j = 0; j < rgb.length; i += 4, j += 3) {
    rgb[j] = rgba[i];
    rgb[j + 1] = rgba[i + 1];
    rgb[j + 2] = rgba[i + 2];
  }
  return rgb;
}

/** Repeat the last row and column up to the canvas. */
function padded(rgb, size, canvas) {
  if (size[0] === canvas[0] && size[1] === canvas[1]) return rgb;
  const out = new Uint8Array(canvas[0] * canvas[1] * 3);
  for (let y = 0; y < canvas[0]; y++) {
    const row = Math.min(y, size[0] - 1) * size[1] * 3;
    for (let x = 0; x < canvas[1]; x++) {
      const from = row + Math.min(x, size[1] - 1) * 3;
      out.set(rgb.subarray(from, from + 3), (y * canvas[1] + x) * 3);
    }
  }
  return out;
}

/** Means of blocks of whole pixels; OpenCV rounds halves of 2 x 2 up, of all others to even. */
function wholeAreas(rgba, from, to) {
  const [high, wide] = [from[0] / to[0], from[1] / to[1]];
  const share = Math.fround(1 / (high * wide));
  const small = new Uint8Array(to[0] * to[1] * 3);
  const quarter = high === 2 && wide === 2;
  for (let y = 0, j = 0; y < to[0]; y++) {
    for (let x = 0; x < to[1]; x++, j += 3) {
      let [red, green, blue] = [0, 0, 0];
      for (let v = 0; v < high; v++) {
        let i = ((y * high + v) * from[1] + x * wide) * 4;
        for (let u = 0; u < wide; u++, i += 4) {
          red += rgba[i];
          green += rgba[i + 1];
          blue += rgba[i + 2];
        }
      }
      small[j] = quarter ? (red + 2) >> 2 : roundEven(Math.fround(red * share));
      small[j + 1] = quarter ? (green + 2) >> 2 : roundEven(Math.fround(green * share));
      small[j + 2] = quarter ? (blue + 2) >> 2 : roundEven(Math.fround(blue * share));
    }
  }
  return small;
}

/** Which positions each of `target` ones covers of `source`, and how much of each; see runtime/area.py, cover(). */
function cover(source, target) {
  const step = source / target;
  const most = Math.max(Math.ceil(step) + 1, FEWEST_TAPS);
  const first = new Int32Array(target);
  const weights = new Float32Array(target * most);
  for (let i = 0; i < target; i++) {
    const begin = i * step;
    const end = Math.min(begin + step, source);
    first[i] = Math.min(Math.floor(begin + SLIVER), source - 1);
    for (let k = 0; k < most; k++) {
      const covered = Math.min(first[i] + k + 1, end) - Math.max(first[i] + k, begin);
      if (covered > SLIVER) weights[i * most + k] = covered / Math.min(step, source - begin);
    }
  }
  return { first, weights, most };
}

/** Means of areas, fractions of pixels included: in float32 and the order of featherseg's kernel, to the same bit. */
function areas(rgba, from, to) {
  const rows = cover(from[0], to[0]);
  const columns = cover(from[1], to[1]);
  const length = from[1] * 3;
  const sums = new Float32Array(length + 3 * columns.most);
  const small = new Uint8Array(to[0] * to[1] * 3);
  const fround = Math.fround;
  for (let y = 0, j = 0; y < to[0]; y++) {
    sums.fill(0);
    for (let k = 0; k < rows.most; k++) {
      const weight = rows.weights[y * rows.most + k];
      if (weight === 0 && k > 0) continue;
      let i = (rows.first[y] + k) * from[1] * 4;
      for (let x = 0; x < length; x += 3, i += 4) {
        sums[x] = fround(sums[x] + fround(weight * rgba[i]));
        sums[x + 1] = fround(sums[x + 1] + fround(weight * rgba[i + 1]));
        sums[x + 2] = fround(sums[x + 2] + fround(weight * rgba[i + 2]));
      }
    }
    for (let x = 0; x < to[1]; x++, j += 3) {
      let [red, green, blue] = [fround(0), fround(0), fround(0)];
      let i = 3 * columns.first[x];
      for (let k = 0; k < columns.most; k++, i += 3) {
        const weight = columns.weights[x * columns.most + k];
        red = fround(red + fround(weight * sums[i]));
        green = fround(green + fround(weight * sums[i + 1]));
        blue = fround(blue + fround(weight * sums[i + 2]));
      }
      small[j] = roundEven(red);
      small[j + 1] = roundEven(green);
      small[j + 2] = roundEven(blue);
    }
  }
  return small;
}

/** Where each of `target` positions lies among `source` ones, with weights in 2048ths. */
function taps(source, target) {
  const scale = 1 / (target / source);
  const [first, second, left, right] = [0, 0, 0, 0].map(() => new Int32Array(target));
  for (let i = 0; i < target; i++) {
    const place = Math.fround((i + 0.5) * scale - 0.5);
    const before = Math.floor(place);
    const share = Math.fround(place - before);
    first[i] = Math.min(Math.max(before, 0), source - 1);
    second[i] = Math.min(Math.max(before + 1, 0), source - 1);
    right[i] = roundEven(share * (1 << LINEAR_BITS));
    left[i] = roundEven(Math.fround(1 - share) * (1 << LINEAR_BITS));
  }
  return { first, second, left, right };
}

/**
 * Bilinear in whole numbers, as OpenCV's INTER_LINEAR has it for bytes (modules/imgproc/src/resize.cpp): rows first, in
 * 2048ths; then columns, each of whose two products loses its last 20 bits before they are added.
 */
function linear(rgba, from, to) {
  const rows = taps(from[0], to[0]);
  const columns = taps(from[1], to[1]);
  const length = to[1] * 3;
  const kept = new Map(); // rows of the frame at the new width; each is needed twice or oftener when a side grows
  const wide = (y) => {
    if (kept.has(y)) return kept.get(y);
    const row = new Int32Array(length);
    for (let x = 0, j = 0; x < to[1]; x++) {
      const i = (y * from[1] + columns.first[x]) * 4;
      const k = (y * from[1] + columns.second[x]) * 4;
      for (let c = 0; c < 3; c++) row[j++] = rgba[i + c] * columns.left[x] + rgba[k + c] * columns.right[x];
    }
    kept.set(y, row);
    return row;
  };
  const out = new Uint8Array(to[0] * length);
  for (let y = 0, j = 0; y < to[0]; y++) {
    for (const old of kept.keys()) if (old < rows.first[y]) kept.delete(old);
    const above = wide(rows.first[y]);
    const below = wide(rows.second[y]);
    const [up, down] = [rows.left[y], rows.right[y]];
    for (let x = 0; x < length; x++, j++) {
      out[j] = ((((above[x] >> 4) * up) >> 16) + (((below[x] >> 4) * down) >> 16) + 2) >> 2;
    }
  }
  return out;
}
