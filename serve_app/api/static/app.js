// The search page: state ↔ URL, events → state, state → search → page. The other modules draw its parts.

import { clearAnswer, drawAnswer } from "./answer.js";
import * as client from "./client.js";
import { drawControls, fillQuery, showFilterError, showPanel } from "./controls.js";
import { copyCurl, openCurl } from "./curl_dialog.js";
import { byId, element } from "./dom.js";
import { Facets } from "./facets.js";
import { parseFilter, toggleEquality } from "./filter.js";
import { bindKeys, focusHit } from "./keys.js";
import { clearNotices, showBrokenFilter, showError, showNoCollections, showWelcome } from "./notices.js";
import { address, readState, remembered } from "./state.js";
import { bindTheme, toggleTheme } from "./theme_button.js";

const DEBOUNCE_MS = 160;
const facets = new Facets();
let state = readState(location.search);
let known = []; // collections: {name, documents, passages}
let running = new AbortController(); // aborts the newest search when a newer one starts
let searched = null; // the state of the newest search
let typing = 0; // timer of the debounce; 0 if none runs
let isEditing = false; // while the user types, each search replaces the same history entry

// state → search

/** Search for the current state. Answers to older searches are never shown after this. */
async function run() {
  clearTimeout(typing);
  typing = 0;
  running.abort();
  running = new AbortController();
  const { signal } = running;
  drawControls(state, setFilter);
  if (!state.collection) return; // collections are not loaded yet (start() calls again), or none exists
  if (!state.query || state.brokenFilter) {
    setBusy(false);
    clearAnswer();
    clearNotices();
    facets.forget();
    if (state.brokenFilter) showBrokenFilter(() => setFilter(null));
    else welcome();
    return;
  }
  setBusy(true);
  const asked = (searched = state);
  const startedAt = performance.now();
  try {
    const answer = await client.search(asked, signal);
    signal.throwIfAborted();
    drawAnswer(answer, asked, performance.now() - startedAt, { change, setFilter, toggleValue });
    setBusy(false);
    await countFacets(asked, answer.hits, signal);
  } catch (error) {
    if (signal.aborted) return;
    searched = null; // so that start() may repeat it
    setBusy(false);
    clearAnswer();
    facets.forget();
    showError(error, run);
  }
}

/** Update the facets. If that fails, the hits stay and the panel has no facets. */
async function countFacets(asked, hits, signal) {
  try {
    await facets.update(asked, hits, toggleValue, signal);
  } catch {
    if (!signal.aborted) facets.forget();
  }
}

function setBusy(busy) {
  byId("results").setAttribute("aria-busy", String(busy));
}

function welcome() {
  const chosen = known.find(({ name }) => name === state.collection);
  if (chosen) showWelcome(chosen, searchExample);
}

// events → state

/** Change the state, write it to the URL, and search. replace: add no history entry. */
function change(part, { replace = false } = {}) {
  state = { ...state, page: 1, ...part };
  const target = address(state);
  if (target !== location.pathname + location.search) {
    if (replace) history.replaceState(null, "", target);
    else history.pushState(null, "", target);
  }
  return run();
}

function setFilter(filter) {
  return change({ filter, brokenFilter: null });
}

/** Add the value to the filter, or remove it. */
function toggleValue(key, value) {
  return setFilter(toggleEquality(state.filter, key, value));
}

async function turnPage(step) {
  await change({ page: Math.max(1, state.page + step) });
  focusHit(0);
  scrollTo({ top: 0 });
}

function searchTyped() {
  const query = byId("query").value.trim();
  if (query === state.query) return run();
  const replace = isEditing;
  isEditing = true;
  return change({ query }, { replace });
}

function searchExample(query) {
  byId("query").value = query;
  searchTyped();
  isEditing = false;
}

function onTyped(event) {
  byId("clear").hidden = !byId("query").value;
  if (event.isComposing) return; // an input method is composing a word
  clearTimeout(typing);
  typing = setTimeout(searchTyped, DEBOUNCE_MS);
}

function settleTyping() {
  if (typing) searchTyped();
  isEditing = false;
}

function clearQuery() {
  byId("query").value = "";
  searchTyped();
  isEditing = false;
  byId("query").focus();
}

function applyFilter() {
  try {
    setFilter(parseFilter(byId("filter-json").value));
  } catch (error) {
    showFilterError(error.message);
    byId("filter-json").focus();
  }
}

// start

function bind() {
  byId("query").addEventListener("input", onTyped);
  byId("query").addEventListener("blur", settleTyping);
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    searchTyped();
    isEditing = false;
  });
  byId("clear").addEventListener("click", clearQuery);
  byId("search").addEventListener("change", ({ target }) => {
    if (target.name === "mode") change({ mode: target.value });
  });
  byId("collection").addEventListener("change", ({ target }) => {
    remembered.set("collection", target.value);
    change({ collection: target.value, filter: null, brokenFilter: null });
  });
  byId("filter-toggle").addEventListener("click", () => showPanel(byId("filter-panel").hidden));
  byId("filter-form").addEventListener("submit", (event) => {
    event.preventDefault();
    applyFilter();
  });
  byId("filter-json").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) applyFilter();
  });
  byId("filter-clear").addEventListener("click", () => setFilter(null));
  byId("previous").addEventListener("click", () => turnPage(-1));
  byId("next").addEventListener("click", () => turnPage(1));
  byId("curl-open").addEventListener("click", () => openCurl(state));
  byId("curl-copy").addEventListener("click", copyCurl);
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  bindTheme();
  addEventListener("popstate", () => {
    state = readState(location.search);
    state.collection ||= defaultCollection();
    isEditing = false;
    fillQuery(state.query);
    run();
  });
  bindKeys({ clearQuery, toggleTheme, openCurl: () => openCurl(state) });
}

function defaultCollection() {
  const names = known.map(({ name }) => name);
  const before = remembered.get("collection");
  return names.includes(before) ? before : (names[0] ?? "");
}

async function start() {
  try {
    known = await client.collections();
  } catch (error) {
    searched = null; // so that a retry searches again, which removes the error
    showError(error, start);
    return;
  }
  state.collection ||= defaultCollection();
  const names = known.map(({ name }) => name);
  if (state.collection && !names.includes(state.collection)) names.push(state.collection); // from a link; its search reports the error
  const picker = byId("collection");
  picker.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  picker.disabled = !names.length;
  if (!names.length) {
    drawControls(state, setFilter);
    showNoCollections();
    return;
  }
  if (typing) searchTyped(); // the user typed while the collections were loading
  else if (searched === state) drawControls(state, setFilter); // the search was already sent; only the picker is new
  else run();
}

bind();
fillQuery(state.query);
drawControls(state, setFilter);
showPanel(matchMedia("(min-width: 60rem)").matches || Boolean(state.brokenFilter));
start();
