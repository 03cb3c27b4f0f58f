// Notices in place of hits: a welcome, no hits, an error.

import { byId, element } from "./dom.js";

// Queries that fit the collection of `make demo`: the documentation of Python packages.
const EXAMPLES = {
  demo: ["how do I retry a failed request", "split text into tokens", "run a function on many machines", "validate JSON against a schema"],
};

const number = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
const action = (label, onclick, className = "primary") => element("button", { type: "button", className, onclick }, label);

export function clearNotices() {
  byId("notice").hidden = true;
  byId("error").hidden = true;
}

function show(node, ...children) {
  clearNotices();
  node.replaceChildren(...children);
  node.hidden = false;
}

/** No query yet. collection: {name, documents, passages}; onExample(query). */
export function showWelcome(collection, onExample) {
  const examples = (EXAMPLES[collection.name] ?? []).map((text) =>
    element("li", {}, element("button", { type: "button", className: "chip", onclick: () => onExample(text) }, text)),
  );
  show(
    byId("notice"),
    element("p", {}, `${number(collection.documents, "document")}, ${number(collection.passages, "passage")} in `, element("strong", {}, collection.name), "."),
    ...(examples.length ? [element("p", { className: "muted" }, "Try"), element("ul", { className: "chips" }, ...examples)] : []),
  );
}

/** No collection exists yet. */
export function showNoCollections() {
  const command = "python -m jobs.index --source ./docs --collection docs";
  show(
    byId("notice"),
    element("h2", {}, "No documents yet"),
    element("p", {}, "Index a folder, then reload this page:"),
    element("pre", { tabIndex: 0 }, element("code", {}, command)),
    element("p", {}, "Or send documents to the ", element("a", { href: "/docs" }, "API"), ", or try ", element("code", {}, "make demo"), "."),
  );
}

/** The filter in the URL is invalid, so no search was sent. */
export function showBrokenFilter(onNoFilter) {
  show(
    byId("error"),
    element("h2", {}, "The filter cannot be read"),
    element("p", {}, "Correct it under “Filter as JSON”, or search without it."),
    element("div", { className: "row" }, action("Search without the filter", onNoFilter)),
  );
}

/** A search found no hits. Buttons offer searches that may find some. */
export function showNothingFound(state, { onNoFilter, onHybrid, onFirstPage }) {
  const actions = [];
  if (state.page > 1) actions.push(action("Go to the first page", onFirstPage));
  else {
    if (state.filter) actions.push(action("Search without the filter", onNoFilter));
    if (state.mode === "sparse") actions.push(action("Search by meaning too", onHybrid));
  }
  const title = state.page > 1 ? "No more hits" : "Nothing found";
  const hint = state.page > 1 ? "The results end before this page." : "Try other words, or fewer words.";
  show(byId("notice"), element("h2", {}, title), element("p", {}, hint), element("div", { className: "row" }, ...actions));
}

/** failure: an ApiFailure, or any Error from a bug in the page. A retry is offered unless the request itself was wrong. */
export function showError(failure, onRetry) {
  const mayHelp = !(failure.status >= 400 && failure.status < 500) || failure.status === 408 || failure.status === 429;
  show(
    byId("error"),
    element("h2", {}, failure.title ?? "An error occurred in this page"),
    element("p", {}, failure.message),
    ...(mayHelp ? [element("div", { className: "row" }, action("Try again", onRetry))] : []),
  );
}
