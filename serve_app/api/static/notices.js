// What stands where hits would be: a welcome, nothing found, an error.

import { byId, element } from "./dom.js";

// Questions that the documentation of Python packages answers: what `make demo` indexes.
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

/** There is nothing to search yet. */
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

/** The filter of a link cannot be read, so nothing was searched. */
export function showBrokenFilter(onNoFilter) {
  show(
    byId("error"),
    element("h2", {}, "The filter cannot be read"),
    element("p", {}, "Mend it under “Filter as JSON”, or search without it."),
    element("div", { className: "row" }, action("Search without the filter", onNoFilter)),
  );
}

/** A search that found nothing. Each way out is a button where there is one. */
export function showNothingFound(state, { onNoFilter, onHybrid, onFirstPage }) {
  const ways = [];
  if (state.page > 1) ways.push(action("To the first page", onFirstPage));
  else {
    if (state.filter) ways.push(action("Search without the filter", onNoFilter));
    if (state.mode === "sparse") ways.push(action("Search by meaning too", onHybrid));
  }
  const title = state.page > 1 ? "No more hits" : "Nothing found";
  const hint = state.page > 1 ? "The results end before this page." : "Other words may help; fewer often do.";
  show(byId("notice"), element("h2", {}, title), element("p", {}, hint), element("div", { className: "row" }, ...ways));
}

/** failure: an ApiFailure, or an Error of our own. To try again helps where the request was not at fault. */
export function showError(failure, onRetry) {
  const mayHelp = !(failure.status >= 400 && failure.status < 500) || failure.status === 408 || failure.status === 429;
  show(
    byId("error"),
    element("h2", {}, failure.title ?? "This page has a fault"),
    element("p", {}, failure.message),
    ...(mayHelp ? [element("div", { className: "row" }, action("Try again", onRetry))] : []),
  );
}
