/**
 * Pictures as pixels, the way featherseg reads them: upright as their EXIF data says, colour profiles and transparency
 * left out. A canvas does neither by itself.
 */

const MOST_PIXELS = 1 << 24; // what canvases of telephones hold

/**
 * Read a picture.
 *
 * @param {Blob} blob a file of any kind that the browser knows
 * @returns {Promise<{rgba: Uint8ClampedArray, frame: number[], note: string}>} pixels, [height, width], what was done
 *   to the picture beyond reading it
 */
export async function readPicture(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      colorSpaceConversion: "none",
      imageOrientation: "from-image",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Error("This browser cannot read that file as a picture; try a JPEG or PNG.");
  }
  const share = Math.min(1, Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height)));
  const frame = [Math.floor(bitmap.height * share), Math.floor(bitmap.width * share)];
  const note =
    share < 1
      ? `Its ${bitmap.height} × ${bitmap.width} pixels are too many here; read at ${frame[0]} × ${frame[1]}.`
      : "";
  let rgba = readBitmap(bitmap, frame);
  if (share === 1 && isTransparent(rgba)) rgba = withoutTransparency(bitmap) ?? rgba;
  bitmap.close();
  return { rgba, frame, note };
}

/** Return the pixels of a bitmap, such as a frame of a camera, at a [height, width]. */
export function readBitmap(bitmap, [height, width]) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  context.globalCompositeOperation = "copy";
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

function isTransparent(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] !== 255) return true;
  return false;
}

/**
 * Return the colours under transparent pixels. A 2D canvas multiplies them by their alpha and loses them; a texture
 * does not. Null where there is no WebGL, or the picture is larger than its textures.
 */
function withoutTransparency(bitmap) {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!gl || Math.max(bitmap.width, bitmap.height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(
    gl.FRAMEBUFFER,
    gl.COLOR_ATTACHMENT0,
    gl.TEXTURE_2D,
    gl.getParameter(gl.TEXTURE_BINDING_2D),
    0,
  );
  const rgba = new Uint8ClampedArray(bitmap.width * bitmap.height * 4);
  gl.readPixels(0, 0, bitmap.width, bitmap.height, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
  const failed = gl.getError() !== gl.NO_ERROR;
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  if (failed) return null;
  for (let i = 3; i < rgba.length; i += 4) rgba[i] = 255;
  return rgba;
}
