// The controls, drawn from the state: mode, collection, filter, the window's title.

import { byId, element, redraw } from "./dom.js";
import { activeParts } from "./filter.js";

/** onFilter(filter): to search with another one. */
export function drawControls(state, onFilter) {
  byId("clear").hidden = !byId("query").value;
  document.querySelector(`input[name=mode][value=${state.mode}]`).checked = true;
  byId("collection").value = state.collection;
  byId("curl-open").hidden = !state.query;
  document.title = state.query ? `${state.query} · ai-docs` : "ai-docs search";
  document.body.dataset.view = state.query || state.brokenFilter ? "results" : "welcome";
  drawFilter(state, onFilter);
}

/** Put the query into its box, the caret behind it: where it comes from elsewhere, for who types there goes on typing. */
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
