// Draws the answer to a search: hits or a notice, timings and release, page buttons.

import { PAGE_HITS } from "./client.js";
import { byId, element } from "./dom.js";
import { hitItems } from "./hits.js";
import { focusHit } from "./keys.js";
import { clearNotices, showNothingFound } from "./notices.js";

/** roundTrip_ms: measured by the browser. change, setFilter, toggleValue: called when a user acts on a hit or notice. */
export function drawAnswer(answer, state, roundTrip_ms, { change, setFilter, toggleValue }) {
  const hadFocus = byId("hits").contains(document.activeElement);
  byId("hits").replaceChildren(...hitItems(answer.hits, state, toggleValue));
  if (hadFocus) focusHit(0);
  clearNotices();
  if (!answer.hits.length) {
    showNothingFound(state, {
      onNoFilter: () => setFilter(null),
      onHybrid: () => change({ mode: "hybrid" }),
      onFirstPage: () => change({ page: 1 }),
    });
  }
  const first = (state.page - 1) * PAGE_HITS + 1;
  const range = answer.hits.length ? `Hits ${first}–${first + answer.hits.length - 1}` : "No hits";
  const facts = [`${answer.took_ms.toFixed(1)} ms search`, `${Math.round(roundTrip_ms)} ms round trip`, `cache ${answer.cache}`, answer.release];
  byId("status").replaceChildren(
    element("strong", {}, range),
    ...facts.map((fact) => element("span", {}, fact)),
  );
  byId("page").textContent = `Page ${state.page}`;
  byId("previous").disabled = state.page === 1;
  byId("next").disabled = answer.hits.length < PAGE_HITS;
  byId("pages").hidden = byId("previous").disabled && byId("next").disabled;
}

export function clearAnswer() {
  byId("hits").replaceChildren();
  byId("status").replaceChildren();
  byId("pages").hidden = true;
}
