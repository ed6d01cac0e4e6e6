/** The classes: colour, name, share of the picture, and whether each is shown. */

import { percent } from "./engine.js";

export class Legend {
  /**
   * @param {HTMLElement} list
   * @param {{names: string[], colors: number[][]}} classes
   * @param {Set<number>} hidden ids that are not shown; changed here
   * @param {() => void} changed called when it was
   */
  constructor(list, classes, hidden, changed) {
    this.hidden = hidden;
    this.changed = changed;
    this.rows = classes.names.map((name, id) => this.#row(name, classes.colors[id], id));
    list.replaceChildren(...this.rows.map(({ item }) => item));
  }

  /** Show each class's share of the pixels; those that do not occur step back. */
  update(counts) {
    const all = counts.reduce((sum, count) => sum + count, 0) || 1;
    this.rows.forEach(({ item, share, bar }, id) => {
      share.textContent = percent(counts[id] / all, 1);
      bar.style.width = `${(100 * counts[id]) / all}%`;
      item.classList.toggle("absent", counts[id] === 0);
    });
  }

  /** Show all classes, or none. */
  setAll(isShown) {
    this.rows.forEach(({ box }, id) => this.#set(id, (box.checked = isShown)));
    this.changed();
  }

  #row(name, color, id) {
    const item = element("li");
    const label = element("label", "class");
    const box = element("input");
    Object.assign(box, { type: "checkbox", checked: !this.hidden.has(id) });
    box.addEventListener("change", () => {
      this.#set(id, box.checked);
      this.changed();
    });
    const swatch = element("span", "swatch");
    swatch.style.background = `rgb(${color.join(" ")})`;
    const title = element("span", "name");
    title.textContent = name;
    const share = element("span", "share");
    const bar = element("span", "bar");
    bar.style.background = swatch.style.background;
    label.append(box, swatch, title, share);
    item.append(label, bar);
    return { item, box, share, bar };
  }

  #set(id, isShown) {
    if (isShown) this.hidden.delete(id);
    else this.hidden.add(id);
  }
}

function element(tag, className = "") {
  return Object.assign(document.createElement(tag), { className });
}
