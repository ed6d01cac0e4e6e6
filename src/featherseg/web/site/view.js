/** The picture with its mask over it: two canvases on one another, so that opacity costs nothing. */

const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

export class View {
  /**
   * @param {HTMLCanvasElement} picture
   * @param {HTMLCanvasElement} mask lies over `picture`
   * @param {{names: string[], colors: number[][]}} classes
   */
  constructor(picture, mask, classes) {
    this.picture = picture;
    this.mask = mask;
    this.classes = classes;
    this.hidden = new Set();
    this.opacity = 0.6;
    this.result = null;
  }

  /** Show what the worker found. */
  show(result) {
    const [height, width] = result.frame;
    this.result = result;
    for (const canvas of [this.picture, this.mask]) {
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    }
    this.picture.parentElement.style.setProperty("--ratio", width / height);
    this.picture.getContext("2d").putImageData(new ImageData(result.rgba, width, height), 0, 0);
    this.paint();
  }

  /** Draw the mask's colours again, those of hidden classes left out. */
  paint() {
    this.mask.style.opacity = this.opacity;
    if (!this.result) return;
    const [height, width] = this.result.frame;
    const image = new ImageData(width, height);
    const words = new Uint32Array(image.data.buffer);
    const table = this.#table();
    this.result.mask.forEach((id, i) => (words[i] = table[id]));
    this.mask.getContext("2d").putImageData(image, 0, 0);
  }

  /** Return the name of the class at a point of the window; null where there is none. */
  classAt(x, y) {
    if (!this.result) return null;
    const box = this.picture.getBoundingClientRect();
    const [height, width] = this.result.frame;
    const column = Math.floor(((x - box.left) / box.width) * width);
    const row = Math.floor(((y - box.top) / box.height) * height);
    if (column < 0 || row < 0 || column >= width || row >= height) return null;
    return this.classes.names[this.result.mask[row * width + column]] ?? null;
  }

  /** Return picture and colours as they are seen, as a PNG of the picture's own size. */
  overlay() {
    const canvas = document.createElement("canvas");
    [canvas.height, canvas.width] = this.result.frame;
    const context = canvas.getContext("2d");
    context.drawImage(this.picture, 0, 0);
    context.globalAlpha = this.opacity;
    context.drawImage(this.mask, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  /** Colours by id as canvases hold them, four bytes in a word. */
  #table() {
    const table = new Uint32Array(256);
    this.classes.colors.forEach(([red, green, blue], id) => {
      if (this.hidden.has(id)) return;
      table[id] = LITTLE_ENDIAN
        ? red | (green << 8) | (blue << 16) | (255 << 24)
        : (red << 24) | (green << 16) | (blue << 8) | 255;
    });
    return table;
  }
}
