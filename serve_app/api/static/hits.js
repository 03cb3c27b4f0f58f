// Draws hits.

import { documentPath } from "./client.js";
import { byId, element } from "./dom.js";
import { fieldLabel, hasEquality, isMatchable, metadataKey } from "./filter.js";
import { excerpt, findMatches, marked, queryStems } from "./highlight.js";

const EXCERPT_CHARS = 360;
const WHOLE = "Whole passage";
const LESS = "Less";

/** The URL if it is absolute and http or https; null for all others, above all `javascript:`. */
export function safeUrl(text) {
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url : null;
  } catch {
    return null;
  }
}

/** One <li> per hit. onFilter(key, value): called when a metadata chip is pressed. */
export function hitItems(hits, state, onFilter) {
  const stems = queryStems(state.query);
  const best = Math.max(...hits.map((hit) => hit.score), 0);
  return hits.map((hit, index) => hitItem(hit, { index, stems, best, state, onFilter }));
}

function hitItem(hit, { index, stems, best, state, onFilter }) {
  const item = byId("hit-template").content.firstElementChild.cloneNode(true);
  const part = (selector) => item.querySelector(selector);
  const title = hit.title || hit.document_id;
  const url = safeUrl(hit.url);

  const heading = part("h2");
  heading.id = `hit-${index}`;
  part("article").setAttribute("aria-labelledby", heading.id);
  const titleNodes = marked(title, findMatches(title, stems), [0, title.length]);
  heading.append(url ? element("a", { href: url.href, rel: "noopener noreferrer" }, titleNodes) : titleNodes);

  drawScore(part(".score"), hit.score, best);
  drawPath(part(".path"), hit, title, url);
  drawText(item, hit.text, stems);
  drawMetadata(part(".chips"), hit.metadata ?? {}, state.filter, onFilter);

  const id = part(".document-id");
  id.textContent = hit.document_id;
  id.href = documentPath(state.collection, hit.document_id);
  return item;
}

function drawScore(node, score, best) {
  node.querySelector(".score-value").textContent = formatScore(score);
  node.title = `Score ${score}`;
  const share = best > 0 ? Math.max(0, score) / best : 0;
  node.querySelector("i").style.width = `${Math.round(share * 100)}%`; // the content security policy allows CSSOM, but not style=""
}

const formatScore = (score) => (Math.abs(score) >= 100 ? score.toFixed(1) : score.toFixed(3));

/** The passage's location: host, then headings that do not repeat the title. */
function drawPath(node, hit, title, url) {
  const headings = (Array.isArray(hit.headings) ? hit.headings : []).filter((heading) => heading !== title);
  const steps = [...(url ? [url.host] : []), ...headings];
  node.hidden = !steps.length;
  steps.forEach((step, index) => {
    if (index) node.append(element("span", { "aria-hidden": "true" }, " › "));
    node.append(element("span", {}, step));
  });
}

function drawText(item, text, stems) {
  const paragraph = item.querySelector(".text");
  const button = item.querySelector(".expand");
  const brief = text.replace(/([^\p{L}\p{N}\s])\1{3,}/gu, "$1$1$1"); // shorten rules such as =====
  const found = findMatches(brief, stems);
  const stretch = excerpt(brief, found, EXCERPT_CHARS);
  const isCut = stretch[1] - stretch[0] < text.length;
  const draw = (expanded) => {
    paragraph.replaceChildren(
      expanded ? marked(text, findMatches(text, stems), [0, text.length]) : marked(brief, found, stretch),
    );
    item.firstElementChild.classList.toggle("expanded", expanded);
    button.setAttribute("aria-expanded", String(expanded));
    button.textContent = expanded ? LESS : WHOLE;
  };
  draw(false);
  button.hidden = !isCut && !text.includes("\n");
  button.addEventListener("click", () => draw(button.getAttribute("aria-expanded") === "false"));
}

function drawMetadata(list, metadata, filter, onFilter) {
  for (const [name, values] of Object.entries(metadata)) {
    for (const value of [values].flat()) {
      if (value === null || value === "") continue;
      list.append(element("li", {}, metadataChip(name, value, filter, onFilter)));
    }
  }
  list.hidden = !list.childElementCount;
}

function metadataChip(name, value, filter, onFilter) {
  const shown = typeof value === "object" ? JSON.stringify(value) : String(value);
  const label = [element("span", { className: "chip-key" }, name), shown.length > 48 ? `${shown.slice(0, 48)}…` : shown];
  const key = metadataKey(name);
  if (key === null || !isMatchable(value)) return element("span", { className: "chip", title: shown }, ...label);
  const active = hasEquality(filter, key, value);
  return element(
    "button",
    {
      type: "button",
      className: "chip",
      title: active ? "Remove from the filter" : `Only where ${fieldLabel(key)} is ${shown}`,
      "aria-pressed": String(active),
      onclick: () => onFilter(key, value),
    },
    ...label,
  );
}
