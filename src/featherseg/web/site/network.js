/** The network in ONNX Runtime: its files fetched, each held to its hash, and images run through it. */

const MOST_THREADS = 8;

/** Return how many threads to compute with: all of a small processor, half of what a large one calls its cores. */
export function threadsHere() {
  if (!self.crossOriginIsolated) return 1; // no shared memory
  const cores = navigator.hardwareConcurrency || 1;
  return cores <= 4 ? cores : Math.min(Math.ceil(cores / 2), MOST_THREADS);
}

/**
 * Fetch a file that the page was made with.
 *
 * @param {{url: string, integrity: string}} file
 * @param {string} base address of the page
 */
export async function fetchProven(file, base) {
  const address = new URL(file.url, base);
  let response;
  try {
    response = await fetch(address, { integrity: file.integrity });
  } catch {
    throw new Error(`${address.href} cannot be fetched, or is not the file that this page was made with.`);
  }
  if (!response.ok) throw new Error(`${address.href} cannot be fetched (${response.status}).`);
  return response;
}

export class Network {
  /**
   * Open a network.
   *
   * @param {object} facts page.json
   * @param {"wasm" | "webgpu"} engine
   * @param {string} base address of the page
   * @param {(step: string) => void} tell
   */
  static async open(facts, engine, base, tell) {
    const { module, loader, binary } = facts.runtime[engine];
    tell(`Fetching ONNX Runtime, ${megabytes(binary)}`);
    const [ort, glue, program] = await Promise.all([
      asScript(module, base).then((address) => import(address)),
      asScript(loader, base),
      fetchProven(binary, base).then((response) => response.arrayBuffer()),
    ]);
    tell(`Fetching the network, ${megabytes(facts.model)}`);
    const model = await fetchProven(facts.model, base).then((response) => response.arrayBuffer());
    tell("Opening the network");
    ort.env.logLevel = "error";
    Object.assign(ort.env.wasm, { numThreads: threadsHere(), wasmBinary: program, wasmPaths: { mjs: glue } });
    const session = await ort.InferenceSession.create(model, {
      executionProviders: [engine],
      graphOptimizationLevel: "all",
      logSeverityLevel: 3, // errors alone: shapes are computed on the processor beside WebGPU, as they should be
    });
    return new Network(ort, session);
  }

  constructor(ort, session) {
    this.ort = ort;
    this.session = session;
  }

  /**
   * Run an image through the network.
   *
   * @param {Uint8Array} rgb (height, width, 3)
   * @param {number[]} size [height, width]
   * @returns {Promise<{logits: Float32Array, shape: number[]}>} [classes, rows, columns]
   */
  async run(rgb, [height, width]) {
    const image = new this.ort.Tensor("uint8", rgb, [1, height, width, 3]);
    try {
      const { logits } = await this.session.run({ image });
      return { logits: logits.data, shape: logits.dims.slice(1) };
    } catch (error) {
      // Mostly memory, of which a program in a browser has 4 GB at most; it does not recover from that.
      const what = `The network broke on ${height} × ${width} pixels (${error.message}).`;
      throw new Error(`${what} Load the page anew, and let it see less.`);
    }
  }
}

/** Return an address of a script's own bytes: what was held to its hash is what runs, wherever it came from. */
async function asScript(file, base) {
  const source = await (await fetchProven(file, base)).arrayBuffer();
  return URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
}

function megabytes(file) {
  return `${(file.bytes / 1e6).toFixed(1)} MB`;
}
