/**
 * From logits at the network's stride to the class of each pixel: bilinear interpolation (half-pixel centres) and arg
 * max, without full-size logits. The same as featherseg's kernel (runtime/postprocess.py, upsample_kernels.py), bit for
 * bit: all sums are in float32 and in its order.
 *
 * Interpolation is a convex combination of the four logits at a cell's corners. Where one class wins at all four, it
 * wins between them; a class that another one beats at all four cannot win. So most cells are filled with one id, and
 * the others are computed over the two or three classes that meet there.
 */

const fround = Math.fround;
const LEAD = fround(2 ** -19); // lead over a lower id, relative to the logit, that rounding cannot undo
const TINY = fround(1e-37); // the same where logits are so small that rounding is absolute

/**
 * @param {Float32Array} logits (classes, rows, columns)
 * @param {number[]} shape [classes, rows, columns]
 * @param {number[]} size [height, width] of the mask
 * @param {number[]} extent how many of the [rows, columns] from the top left corner the mask covers; whole numbers
 * @returns {Uint8Array} class ids, (height, width)
 */
export function upsampleArgmax(logits, shape, size, extent = shape.slice(1)) {
  const [classes, , pitch] = shape;
  const maps = { logits, classes, plane: shape[1] * pitch, pitch, height: extent[0], width: extent[1] };
  const rows = axis(extent[0], size[0]);
  const columns = axis(extent[1], size[1]);
  const mask = new Uint8Array(size[0] * size[1]);
  if (rows.identity && columns.identity) {
    for (let i = 0; i < maps.height; i++) mask.set(winnersOf(maps, i).ids, i * maps.width);
    return mask;
  }
  const room = { sides: new Float32Array(2 * columns.widest), best: new Float32Array(rows.widest * columns.widest) };
  let upper;
  let lower = winnersOf(maps, 0);
  for (let i = 0; i < maps.height; i++) {
    upper = lower;
    if (i + 1 < maps.height) lower = winnersOf(maps, i + 1);
    if (rows.bounds[i + 1] > rows.bounds[i]) fillCells(maps, i, upper, lower, rows, columns, mask, size[1], room);
  }
  return mask;
}

/** Where each of `target` positions lies among `source` ones: weights of the one after, and the bounds of cells. */
function axis(source, target) {
  const scale = fround(fround(source) / fround(target));
  const share = new Float32Array(target);
  const bounds = new Int32Array(source + 1); // positions bounds[i] … bounds[i + 1] - 1 lie in cell i
  let identity = source === target;
  let cell = -1;
  for (let i = 0; i < target; i++) {
    const place = Math.max(fround(fround(scale * fround(i + 0.5)) - 0.5), 0);
    const before = Math.min(Math.floor(place), source - 1);
    share[i] = Math.min(Math.max(fround(place - before), 0), 1);
    while (cell < before) bounds[++cell] = i;
    identity &&= before === i && share[i] === 0;
  }
  while (cell < source) bounds[++cell] = target;
  let widest = 0;
  for (let i = 0; i < source; i++) widest = Math.max(widest, bounds[i + 1] - bounds[i]);
  return { share, bounds, widest, identity };
}

/** The winner of each logit of a row, and whether its lead over lower ids survives rounding. */
function winnersOf({ logits, classes, plane, pitch, width }, row) {
  const ids = new Int32Array(width);
  const certain = new Uint8Array(width);
  const best = new Float32Array(width).fill(-Infinity);
  const below = new Float32Array(width).fill(-Infinity);
  for (let k = 0; k < classes; k++) {
    const from = k * plane + row * pitch;
    for (let j = 0; j < width; j++) {
      const value = logits[from + j];
      if (value > best[j]) {
        below[j] = best[j];
        ids[j] = k;
        best[j] = value;
      }
    }
  }
  for (let j = 0; j < width; j++) {
    certain[j] = fround(best[j] - below[j]) > fround(fround(LEAD * Math.abs(best[j])) + TINY) ? 1 : 0;
  }
  return { ids, certain };
}

/** Write the pixels of one row of cells. */
function fillCells(maps, i, upper, lower, rows, columns, mask, pitch, room) {
  const { width } = maps;
  const [top, bottom] = [rows.bounds[i], rows.bounds[i + 1]];
  let j = 0;
  while (j < width) {
    // As far as the same class wins at all corners, one fill does.
    const first = upper.ids[j];
    let end = j;
    while (
      end < width &&
      upper.ids[end] === first &&
      lower.ids[end] === first &&
      upper.certain[end] === 1 &&
      lower.certain[end] === 1
    ) {
      end++;
    }
    const stop = end === width ? width : end - 1; // the last column's cell has its one side twice
    if (stop > j) {
      const [from, to] = [columns.bounds[j], columns.bounds[stop]];
      for (let y = top; y < bottom; y++) mask.fill(first, y * pitch + from, y * pitch + to);
      j = stop;
      continue;
    }
    if (columns.bounds[j + 1] > columns.bounds[j])
      mixedCell(maps, i, j, upper, lower, rows, columns, mask, pitch, room);
    j++;
  }
}

/** Write the pixels of a cell in which several classes may win. */
function mixedCell(maps, i, j, upper, lower, rows, columns, mask, pitch, { sides, best }) {
  const { logits, classes, plane } = maps;
  const [y0, y1, x0, x1] = [rows.bounds[i], rows.bounds[i + 1], columns.bounds[j], columns.bounds[j + 1]];
  const wide = x1 - x0;
  const i1 = Math.min(i + 1, maps.height - 1);
  const j1 = Math.min(j + 1, maps.width - 1);
  const corners = [i * maps.pitch + j, i * maps.pitch + j1, i1 * maps.pitch + j, i1 * maps.pitch + j1];
  const leaders = [upper.ids[j], upper.ids[j1], lower.ids[j], lower.ids[j1]];
  best.fill(-Infinity, 0, (y1 - y0) * wide);
  for (let k = 0; k < classes; k++) {
    if (leaders.some((n) => n !== k && isBeaten(logits, plane, corners, k, n))) continue;
    const from = k * plane;
    const a = logits[from + corners[0]];
    const b = logits[from + corners[1]];
    const c = logits[from + corners[2]];
    const d = logits[from + corners[3]];
    for (let x = 0; x < wide; x++) {
      const right = columns.share[x0 + x];
      const left = fround(1 - right);
      sides[x] = fround(fround(a * left) + fround(b * right));
      sides[wide + x] = fround(fround(c * left) + fround(d * right));
    }
    for (let y = y0; y < y1; y++) {
      const down = rows.share[y];
      const up = fround(1 - down);
      let place = (y - y0) * wide;
      let pixel = y * pitch + x0;
      for (let x = 0; x < wide; x++, place++, pixel++) {
        const value = fround(fround(sides[x] * up) + fround(sides[wide + x] * down));
        if (value > best[place]) {
          best[place] = value;
          mask[pixel] = k;
        }
      }
    }
  }
}

/** Whether class n leads class k at all four corners, so that k cannot win between them. */
function isBeaten(logits, plane, corners, k, n) {
  for (const corner of corners) if (logits[n * plane + corner] === Infinity) return false; // NaN inside the cell
  for (const corner of corners) {
    const leader = logits[n * plane + corner];
    const other = logits[k * plane + corner];
    if (n < k) {
      if (!(leader >= other)) return false;
    } else if (!(fround(leader - other) > fround(fround(LEAD * Math.abs(leader)) + TINY))) {
      return false;
    }
  }
  return true;
}
