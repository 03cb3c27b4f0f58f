// Draws the controls from the state: mode, collection, filter, the window's title.

import { byId, element, redraw } from "./dom.js";
import { activeParts } from "./filter.js";

/** onFilter(filter): called to search with another filter. */
export function drawControls(state, onFilter) {
  byId("clear").hidden = !byId("query").value;
  document.querySelector(`input[name=mode][value=${state.mode}]`).checked = true;
  byId("collection").value = state.collection;
  byId("curl-open").hidden = !state.query;
  document.title = state.query ? `${state.query} · ai-docs` : "ai-docs search";
  document.body.dataset.view = state.query || state.brokenFilter ? "results" : "welcome";
  drawFilter(state, onFilter);
}

/** Put a query that the user did not type into the box, with the caret after it, so that typing continues there. */
export function fillQuery(query) {
  const box = byId("query");
  box.value = query;
  box.setSelectionRange(query.length, query.length);
}

function drawFilter(state, onFilter) {
  const chips = activeParts(state.filter).map(({ label, without }) =>
    element("li", {}, element(
      "button",
      { type: "button", className: "chip active", "aria-label": `Remove filter ${label}`, onclick: () => onFilter(without) },
      label, element("span", { "aria-hidden": "true" }, " ×"),
    )),
  );
  redraw(byId("active-filter"), ...chips);
  byId("active-filter").hidden = !chips.length;
  byId("filter-json").value = state.brokenFilter?.text ?? (state.filter ? JSON.stringify(state.filter, null, 2) : "");
  showFilterError(state.brokenFilter?.message ?? "");
  byId("filter-clear").hidden = !byId("filter-json").value;
}

export function showFilterError(message) {
  byId("filter-error").textContent = message;
  byId("filter-json").setAttribute("aria-invalid", String(Boolean(message)));
  if (!message) return;
  byId("raw-filter").open = true;
  showPanel(true);
}

export function showPanel(open) {
  byId("filter-panel").hidden = !open;
  byId("filter-toggle").setAttribute("aria-expanded", String(open));
}
