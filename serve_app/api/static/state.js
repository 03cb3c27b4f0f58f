// The state of the page, stored in its URL so that links and the back button work.

import { parseFilter } from "./filter.js";

export const MODES = ["hybrid", "dense", "sparse"];

/**
 * Read {collection, query, mode, page, filter} from a URL's query string. Missing or invalid values get their defaults;
 * pages count from 1. An invalid filter is kept as `brokenFilter` {text, message}, so that the user can correct it.
 */
export function readState(search) {
  const parameters = new URLSearchParams(search);
  const mode = parameters.get("mode");
  const page = Number(parameters.get("page"));
  const state = {
    collection: parameters.get("collection") ?? "",
    query: parameters.get("q") ?? "",
    mode: MODES.includes(mode) ? mode : MODES[0],
    page: Number.isSafeInteger(page) && page > 1 ? page : 1,
    filter: null,
    brokenFilter: null,
  };
  const text = parameters.get("filter") ?? "";
  try {
    state.filter = parseFilter(text);
  } catch (error) {
    state.brokenFilter = { text, message: error.message };
  }
  return state;
}

/** The URL of a state, without defaults. */
export function address(state) {
  const parameters = new URLSearchParams();
  if (state.collection) parameters.set("collection", state.collection);
  if (state.query) parameters.set("q", state.query);
  if (state.mode !== MODES[0]) parameters.set("mode", state.mode);
  if (state.page > 1) parameters.set("page", state.page);
  if (state.brokenFilter) parameters.set("filter", state.brokenFilter.text);
  else if (state.filter) parameters.set("filter", JSON.stringify(state.filter));
  const query = parameters.toString();
  return query ? `/?${query}` : "/";
}

/** Preferences in localStorage. If it is blocked, they are lost, and the page works without them. */
export const remembered = {
  get(name) {
    try {
      return localStorage.getItem(`ai-docs.${name}`);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`ai-docs.${name}`, value);
    } catch {
      // blocked or full
    }
  },
};
