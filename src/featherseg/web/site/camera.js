/** A camera's newest frame whenever the last one is done; what comes meanwhile is let go. */

const IDEAL = { width: { ideal: 640 }, height: { ideal: 480 } }; // a telephone's processor has enough to do with it
const FRAMES = 20; // that the frames a second are a mean of

export class Camera {
  /**
   * @param {(bitmap: ImageBitmap) => Promise<void>} segment shows a frame's mask
   * @param {() => void} lost called when the camera was unplugged, or its use forbidden
   */
  constructor(segment, lost) {
    this.segment = segment;
    this.lost = lost;
    this.video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
    this.stream = null;
    this.facing = "environment"; // telephones: the camera at the back
    this.begun = [];
  }

  /** Frames a second, a mean of the last ones. */
  get rate() {
    const last = this.begun.length - 1;
    return last > 0 ? (1000 * last) / (this.begun[last] - this.begun[0]) : 0;
  }

  get isOn() {
    return this.stream !== null;
  }

  /** Begin. @throws {Error} with a sentence for people: there is none, or it may not be used */
  async start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("Browsers give their camera to pages from https:// or localhost only.");
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        video: { ...IDEAL, facingMode: this.facing },
        audio: false,
      });
    } catch (error) {
      const why = { NotAllowedError: "Its use was not allowed.", NotFoundError: "There is none here." }[error.name];
      throw new Error(`The camera cannot be used: ${why ?? error.message}`);
    }
    for (const track of this.stream.getTracks()) track.addEventListener("ended", () => this.lost());
    this.video.srcObject = this.stream;
    await this.video.play();
    this.#run(this.stream);
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
    this.begun = [];
  }

  /** Take the other camera of a telephone. */
  async turn() {
    this.facing = this.facing === "environment" ? "user" : "environment";
    this.stop();
    await this.start();
  }

  /** Return whether there is another camera to turn to; known only once one is in use. */
  async hasOther() {
    const devices = await navigator.mediaDevices.enumerateDevices();
    return devices.filter(({ kind }) => kind === "videoinput").length > 1;
  }

  async #run(stream) {
    while (this.stream === stream) {
      await this.#nextFrame();
      if (this.stream !== stream) return;
      this.begun = [...this.begun, performance.now()].slice(-FRAMES);
      await this.segment(await createImageBitmap(this.video));
    }
  }

  #nextFrame() {
    return new Promise((resolve) => {
      if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(resolve);
      else requestAnimationFrame(resolve);
    });
  }
}
