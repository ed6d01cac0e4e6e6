/** The page: what people do with it, and what it says. */

import { Camera } from "./camera.js";
import { NAMES, openProven, percent, Refused } from "./engine.js";
import { isolate, keepOnly } from "./isolation.js";
import { Legend } from "./legend.js";
import { writeMask } from "./png.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const INPUTS = ["file", "camera", "paste", "golden"];
const RESULTS = ["save-mask", "save-overlay"];

class App {
  constructor(facts) {
    this.facts = facts;
    this.engine = null;
    this.golden = null;
    this.last = null; // the file that is shown, to be segmented again when a setting changes
    this.name = "golden"; // what downloads are called after
    this.newest = 0; // number of the newest request: an older one's answer is not shown any more
    this.view = new View($("below"), $("above"), facts.classes);
    if (facts.background !== null) this.view.hidden.add(facts.background);
    this.legend = new Legend($("legend"), facts.classes, this.view.hidden, () => this.view.paint());
    this.camera = new Camera(
      (bitmap) => this.frame(bitmap),
      () => {
        this.stopCamera();
        trouble("The camera has stopped.");
      },
    );
  }

  /** Open an engine, prove it, and show what it was proven on. */
  async open(wanted = "auto") {
    this.camera.stop();
    this.cameraChanged();
    this.engine?.close();
    this.engine = null;
    enable([...INPUTS, ...RESULTS], false);
    $("engine").disabled = true;
    try {
      const { engine, proof, tried } = await openProven(this.facts, wanted, (step) => say("busy", `${step} …`));
      this.engine = engine;
      this.golden = proof;
      showTried(tried);
      say("good", verdict(engine, proof, tried));
      enable(INPUTS, true);
      this.showGolden();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      showTried(error.tried);
      $("hint").textContent = "Nothing is segmented here.";
      $("stage").classList.add("empty");
      say("bad", `This page refuses to segment: no engine here gives the mask that it should. ${error.message}`);
    } finally {
      $("engine").disabled = false;
    }
  }

  showGolden() {
    this.stopCamera();
    [this.last, this.name] = [null, "golden"];
    this.newest++;
    this.show(this.golden, "The golden image.");
  }

  /** Segment a file. */
  async file(blob, name = "picture") {
    if (!this.engine) return;
    this.stopCamera();
    [this.last, this.name] = [blob, name.replace(/\.[^.]*$/, "")];
    const number = ++this.newest;
    $("stage").setAttribute("aria-busy", "true");
    try {
      const result = await this.engine.ask("picture", { blob, mostPixels: mostPixels() });
      if (number !== this.newest) return;
      this.show(result);
      $("told").textContent = `Segmented: ${summary(result, this.facts.classes)}`;
    } catch (error) {
      if (number === this.newest) trouble(error.message);
    } finally {
      $("stage").removeAttribute("aria-busy");
    }
  }

  /** Segment a frame of the camera. */
  async frame(bitmap) {
    const number = this.newest;
    try {
      const result = await this.engine.ask("frame", { bitmap, mostPixels: mostPixels() }, [bitmap]);
      if (number !== this.newest || !this.camera.isOn) return;
      this.show(result);
      $("rate").textContent = `${this.camera.rate.toFixed(1)} frames a second`;
    } catch (error) {
      if (number !== this.newest) return;
      this.stopCamera();
      trouble(error.message);
    }
  }

  show(result, note = "") {
    trouble("");
    $("stage").classList.remove("empty");
    this.view.show(result);
    this.legend.update(result.counts);
    $("picture").setAttribute("aria-label", `${this.name}, segmented: ${summary(result, this.facts.classes)}`);
    const { pre, net, post } = result.ms;
    $("measures").textContent = [note, result.note, measures(result)].filter(Boolean).join(" ");
    Object.assign($("measures").dataset, { pre, net, post, name: this.name }); // for programs that look on
    enable(RESULTS, true);
  }

  async toggleCamera() {
    if (this.camera.isOn) return this.stopCamera();
    [this.last, this.name] = [null, "camera"];
    this.newest++;
    await this.withCamera(() => this.camera.start());
  }

  stopCamera() {
    if (!this.camera.isOn) return;
    this.newest++;
    this.camera.stop();
    this.cameraChanged();
  }

  async withCamera(change) {
    try {
      await change();
      $("turn").hidden = !(await this.camera.hasOther());
    } catch (error) {
      trouble(error.message);
    }
    this.cameraChanged();
  }

  cameraChanged() {
    const { isOn } = this.camera;
    $("camera").setAttribute("aria-pressed", String(isOn));
    $("camera").querySelector("span").textContent = isOn ? "Stop camera" : "Camera";
    $("rate").hidden = !isOn;
    if (!isOn) $("turn").hidden = true;
  }

  again() {
    if (this.last) this.file(this.last, this.name);
  }
}

function say(kind, text) {
  $("status").className = kind;
  $("status-text").textContent = text;
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

function enable(ids, isOn) {
  for (const id of ids) $(id).disabled = !isOn;
}

function mostPixels() {
  return Number($("detail").value) || null;
}

function by([height, width]) {
  return `${height} × ${width}`;
}

/** What the status says of an engine that has proven itself, and of those that were not used. */
function verdict(engine, proof, tried) {
  const count = proof.threads === 1 ? "1 thread" : `${proof.threads} threads`;
  const threads = engine.name === "wasm" ? `, ${count}` : "";
  const words = [`Checked: ${percent(proof.agreement)} of the golden mask with ${NAMES[engine.name]}${threads}.`];
  for (const { name, verdict, passed } of tried) if (!passed) words.push(`${NAMES[name]} is not used: ${verdict}`);
  if (proof.altered) words.push(`This browser changes pixels before pages see them: ${percent(proof.altered)}.`);
  return words.join(" ");
}

/** Sizes, and the time that each stage took. */
function measures({ frame, seen, natural, ms: { pre, net, post } }) {
  const limited = seen.join() === natural.join() ? "" : ` instead of ${by(natural)}`;
  const stages = `resize ${pre.toFixed(1)}, network ${net.toFixed(1)}, mask ${post.toFixed(1)}`;
  const sum = (pre + net + post).toFixed(0);
  return `${by(frame)} pixels, seen by the network at ${by(seen)}${limited}: ${sum} ms (${stages}).`;
}

/** The classes that cover most, in words. */
function summary({ counts }, { names }) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  const largest = counts
    .map((count, id) => ({ share: count / all, name: names[id] }))
    .sort((a, b) => b.share - a.share);
  const seen = largest.filter(({ share }) => share > 0).slice(0, 4);
  return seen.map(({ name, share }) => `${name} ${percent(share, 0)}`).join(", ");
}

function showTried(tried) {
  $("tried").replaceChildren(
    ...tried.map(({ name, verdict, passed }) => {
      const [item, mark, words] = ["li", "span", "span"].map((tag) => document.createElement(tag));
      mark.textContent = passed ? "✓" : "–";
      mark.className = passed ? "passed" : "";
      words.textContent = `${NAMES[name]}: ${verdict}`;
      item.append(mark, words);
      return item;
    }),
  );
}

function showFacts(facts) {
  const { model, classes, input } = facts;
  const millions = `${(model.params / 1e6).toFixed(2)} M parameters`;
  $("about").textContent = `${classes.names.length} classes · ${model.network}, ${millions}`;
  const rows = {
    Network: `${model.network}, ${millions}, stride ${model.stride}`,
    File: `${model.name}, ${(model.bytes / 1e6).toFixed(1)} MB`,
    Sees: input.size
      ? `pictures of ${by(input.size)}`
      : input.long_side
        ? `${input.long_side} pixels on the longer side`
        : "pictures as they are",
    Accuracy: model.miou === null ? "not measured" : `mIoU ${(100 * model.miou).toFixed(1)} %, ${model.protocol}`,
    Runtime: `ONNX Runtime ${facts.runtime.version}, from ${facts.runtime.source}`,
    "Made by": `featherseg ${facts.featherseg}`,
  };
  const entry = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
  $("facts").replaceChildren(...Object.entries(rows).flatMap(([name, text]) => [entry("dt", name), entry("dd", text)]));
  $("detail-label").hidden = input.size !== null;
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function pictureIn(files) {
  return [...(files ?? [])].find(({ type }) => type.startsWith("image/")) ?? files?.[0];
}

function listen(app) {
  const take = (file) => file && app.file(file, file.name);
  $("file").addEventListener("change", ({ target }) => {
    take(target.files[0]);
    target.value = ""; // the same file may be chosen again
  });
  $("camera").addEventListener("click", () => app.toggleCamera());
  $("turn").addEventListener("click", () => app.withCamera(() => app.camera.turn()));
  $("golden").addEventListener("click", () => app.showGolden());
  $("paste").hidden = !navigator.clipboard?.read;
  $("paste").addEventListener("click", async () => {
    try {
      const items = await navigator.clipboard.read();
      const item = items.find(({ types }) => types.some((type) => type.startsWith("image/")));
      if (!item) return trouble("There is no picture to paste.");
      await app.file(await item.getType(item.types.find((type) => type.startsWith("image/"))), "pasted");
    } catch {
      trouble("The browser does not let this page read what was copied; press Ctrl+V, or choose a file.");
    }
  });
  document.addEventListener("paste", ({ clipboardData }) => take(pictureIn(clipboardData.files)));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("stage").classList.add("over");
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || $("stage").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    take(pictureIn(event.dataTransfer.files));
  });
  $("opacity").addEventListener("input", ({ target }) => {
    app.view.opacity = target.value / 100;
    app.view.mask.style.opacity = app.view.opacity;
    $("opacity-text").textContent = `${target.value} %`;
  });
  $("all").addEventListener("click", () => app.legend.setAll(true));
  $("none").addEventListener("click", () => app.legend.setAll(false));
  $("detail").addEventListener("change", () => app.again());
  $("engine").addEventListener("change", ({ target }) => app.open(target.value));
  $("save-mask").addEventListener("click", async () => {
    const { mask, frame } = app.view.result;
    save(await writeMask(mask, frame, app.facts.classes.colors), `${app.name}_mask.png`);
  });
  $("save-overlay").addEventListener("click", async () => save(await app.view.overlay(), `${app.name}_overlay.png`));
  $("picture").addEventListener("pointermove", (event) => showPointer(app, event));
  $("picture").addEventListener("pointerleave", () => ($("pointer").hidden = true));
}

/** Name the class under the pointer. */
function showPointer(app, { clientX, clientY }) {
  const name = app.view.classAt(clientX, clientY);
  const box = $("picture").getBoundingClientRect();
  const pointer = $("pointer");
  pointer.hidden = name === null;
  pointer.textContent = name ?? "";
  pointer.classList.toggle("left", clientX - box.left > box.width / 2);
  Object.assign(pointer.style, { left: `${clientX - box.left}px`, top: `${clientY - box.top}px` });
}

/** Addresses of all files that last: the service worker lets others of the kind go. */
function lasting(facts) {
  const { wasm, webgpu } = facts.runtime;
  const files = [facts.model, facts.golden.image, facts.golden.mask, ...Object.values(wasm), ...Object.values(webgpu)];
  return files.map(({ url }) => new URL(url, document.baseURI).href);
}

try {
  say("busy", "Starting …");
  await isolate();
  const facts = await (await fetch("page.json", { cache: "no-cache" })).json();
  showFacts(facts);
  keepOnly(lasting(facts));
  const app = new App(facts);
  listen(app);
  const wanted = new URLSearchParams(location.search).get("engine");
  if (wanted in NAMES) $("engine").value = wanted;
  await app.open($("engine").value);
} catch (error) {
  say("bad", `This page does not start: ${error.message}`);
}
