/** Engines that run the network, and the proof that each has to give before it may. */

export const NAMES = { webgpu: "WebGPU", wasm: "WebAssembly" };

/** No engine here does what the network did where the page was made. */
export class Refused extends Error {
  /** @param {{name: string, verdict: string}[]} tried */
  constructor(tried) {
    super(tried.map(({ name, verdict }) => `${NAMES[name]}: ${verdict}`).join(" "));
    this.tried = tried;
  }
}

/** A worker with the network in it. */
class Engine {
  constructor(name) {
    this.name = name;
    this.waiting = new Map();
    this.number = 0;
    // A worker from an address of the server has that answer's policy, which may be none; one from here has the page's.
    const script = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
    const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    this.worker = new Worker(address, { type: "module" });
    this.worker.onmessage = ({ data }) => this.#hear(data);
    this.worker.onerror = (event) => this.#fail(event.message || "its script cannot be loaded");
  }

  /** Ask the worker for something; `tell` gets the steps on the way. */
  ask(kind, content = {}, moved = [], tell = () => {}) {
    const number = ++this.number;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject, tell });
      this.worker.postMessage({ kind, number, ...content }, moved);
    });
  }

  close() {
    this.worker.terminate();
    this.#fail("it was closed");
  }

  #hear({ number, step, answer, failure }) {
    const { resolve, reject, tell } = this.waiting.get(number) ?? {};
    if (!resolve) return;
    if (step !== undefined) return tell(step);
    this.waiting.delete(number);
    if (failure !== undefined) reject(new Error(failure));
    else resolve(answer);
  }

  #fail(why) {
    for (const { reject } of this.waiting.values()) reject(new Error(why));
    this.waiting.clear();
  }
}

/**
 * Return the first engine whose golden mask is right.
 *
 * @param {object} facts page.json
 * @param {"auto" | "webgpu" | "wasm"} wanted
 * @param {(step: string) => void} tell
 * @returns {Promise<{engine: Engine, proof: object, tried: {name: string, verdict: string, passed: boolean}[]}>}
 * @throws {Refused} there is none
 */
export async function openProven(facts, wanted, tell) {
  const tried = [];
  for (const name of wanted === "auto" ? ["webgpu", "wasm"] : [wanted]) {
    const missing = name === "webgpu" ? await webgpuMissing(wanted === "webgpu") : "";
    if (missing) {
      tried.push({ name, verdict: missing, passed: false });
      continue;
    }
    const engine = new Engine(name);
    try {
      const note = (step) => tell(`${NAMES[name]}: ${step}`);
      const { threads } = await engine.ask("open", { facts, base: document.baseURI, engine: name }, [], note);
      note("Checking it on the golden image");
      const first = await engine.ask("prove"); // takes longer than all that follow
      const proof = await engine.ask("prove");
      const agreement = Math.min(first.agreement, proof.agreement);
      const share = percent(agreement);
      if (agreement >= facts.golden.agreement) {
        tried.push({ name, verdict: `${share} of the golden mask's pixels.`, passed: true });
        return { engine, proof: { ...proof, agreement, threads }, tried };
      }
      tried.push({ name, verdict: `wrong: only ${share} of the golden mask's pixels.`, passed: false });
    } catch (error) {
      tried.push({ name, verdict: `does not run: ${error.message}`, passed: false });
    }
    engine.close();
  }
  throw new Refused(tried);
}

/** Say why WebGPU is not to be tried; an empty text where it is. */
async function webgpuMissing(isWanted) {
  const adapter = await navigator.gpu?.requestAdapter?.().catch(() => null);
  if (!adapter) return "not to be had in this browser.";
  const isSlow = adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter;
  return isSlow && !isWanted ? "computed on the processor here, which WebAssembly does faster." : "";
}

/** A share as a percentage that never rounds up to all. */
export function percent(share, digits = 3) {
  const scale = 10 ** digits;
  return `${(Math.floor(share * 100 * scale) / scale).toFixed(digits)} %`;
}
