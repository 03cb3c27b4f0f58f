// The filter builder: values of the metadata fields found in hits, with the number of passages for each value.

import { countFacets } from "./client.js";
import { byId, element, redraw } from "./dom.js";
import { fieldLabel, hasEquality, isMatchable, metadataKey } from "./filter.js";

const MAX_FIELDS = 6;
const MAX_VALUES = 8; // shown for a field; the rest is behind "more"

export class Facets {
  #collection = "";
  #types = new Map(); // field's path → typeof its values
  #asked = ""; // collection, filter and fields of the counts on the page
  #opened = new Set(); // fields that show all values

  /** Learn fields from these hits, then count their values if collection, filter or fields changed. onPick(key, value). */
  async update(state, hits, onPick, signal) {
    this.#learn(state.collection, hits);
    const fields = [...this.#types.keys()].slice(0, MAX_FIELDS);
    const question = JSON.stringify([state.collection, state.filter, fields]);
    if (question === this.#asked) return;
    if (!fields.length) {
      this.#asked = question;
      redraw(byId("facets"));
      return;
    }
    const answer = await countFacets(state, fields, signal);
    this.#asked = question;
    this.#draw(state.filter, answer, onPick);
  }

  /** Remove the counts from the page, because they belong to another search. */
  forget() {
    this.#asked = "";
    redraw(byId("facets"));
  }

  #learn(collection, hits) {
    if (collection !== this.#collection) {
      this.#collection = collection;
      this.#types.clear();
      this.#opened.clear();
    }
    for (const { metadata } of hits) {
      for (const [name, values] of Object.entries(metadata ?? {})) {
        const key = metadataKey(name);
        const value = [values].flat()[0];
        if (key !== null && isMatchable(value) && !this.#types.has(key)) this.#types.set(key, typeof value);
      }
    }
  }

  #draw(filter, { facets = {}, total }, onPick) {
    const groups = Object.entries(facets)
      .map(([key, counts]) => [key, this.#matchable(key, counts)])
      .filter(([key, counts]) => this.#isTelling(key, counts, filter))
      .sort(([, a], [, b]) => a.length - b.length);
    const heading = total === undefined ? [] : [element("p", { className: "muted" }, `${total.toLocaleString("en")} passages to search`)];
    redraw(byId("facets"), ...heading, ...groups.map(([key, counts]) => this.#group(key, counts, filter, onPick)));
  }

  /** [text, passages] of each value that a filter can match, most frequent first. */
  #matchable(key, counts) {
    return Object.entries(counts)
      .filter(([text]) => isMatchable(this.#valueOf(key, text)))
      .sort(([, a], [, b]) => b - a);
  }

  /** A field with a single value cannot narrow a search; it is shown only if the filter contains that value. */
  #isTelling(key, counts, filter) {
    return counts.length > 1 || counts.some(([text]) => hasEquality(filter, key, this.#valueOf(key, text)));
  }

  /** The value with its original type. Facets return values as text, but the filter needs the type. */
  #valueOf(key, text) {
    const type = this.#types.get(key);
    if (type === "number") return Number(text);
    return type === "boolean" ? text.toLowerCase() === "true" : text;
  }

  #group(key, counts, filter, onPick) {
    const list = element("ul", { className: "chips" });
    counts.forEach(([text, passages], index) => {
      const value = this.#valueOf(key, text);
      const chip = element(
        "button",
        {
          type: "button",
          className: "chip",
          title: text,
          data: { focus: `${key}=${text}` },
          "aria-pressed": String(hasEquality(filter, key, value)),
          onclick: () => onPick(key, value),
        },
        element("span", { className: "chip-text" }, text || "(empty)"),
        element("span", { className: "count", "aria-label": `${passages} passages` }, passages.toLocaleString("en")),
      );
      list.append(element("li", { hidden: index >= MAX_VALUES && !this.#opened.has(key) }, chip));
    });
    const group = element("section", { className: "facet", "aria-label": fieldLabel(key) }, element("h3", {}, fieldLabel(key)), list);
    if (counts.length > MAX_VALUES && !this.#opened.has(key)) group.append(this.#moreButton(key, list));
    return group;
  }

  #moreButton(key, list) {
    const hidden = list.querySelectorAll("li[hidden]").length;
    const button = element("button", { type: "button", className: "link" }, `${hidden} more`);
    button.addEventListener("click", () => {
      this.#opened.add(key);
      const first = list.querySelector("li[hidden] button");
      for (const item of list.children) item.hidden = false;
      button.remove();
      first?.focus();
    });
    return button;
  }
}
