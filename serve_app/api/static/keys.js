// Keyboard shortcuts. Letters act only outside text fields.

import { byId } from "./dom.js";

const hits = () => [...document.querySelectorAll(".hit")];

export function focusHit(index) {
  const hit = hits()[index];
  hit?.focus({ preventScroll: true });
  hit?.scrollIntoView({ block: "nearest" });
}

/** Move the focus by `step` hits. Above the first hit is the query. */
function move(step) {
  const all = hits();
  const at = all.indexOf(document.activeElement.closest(".hit")); // -1 outside of hits
  if (at + step < 0) byId("query").focus();
  else focusHit(Math.min(at + step, all.length - 1));
}

function openHit(hit) {
  const link = hit.querySelector("h2 a");
  if (link) link.click();
  else expandHit(hit);
}

const expandHit = (hit) => hit?.querySelector(".expand:not([hidden])")?.click();
const pickMode = (index) => document.getElementsByName("mode")[index].click();

function focusQuery() {
  byId("query").focus();
  byId("query").select();
}

export function bindKeys({ clearQuery, toggleTheme, openCurl }) {
  const commands = {
    "/": focusQuery,
    j: () => move(1),
    ArrowDown: () => move(1),
    k: () => move(-1),
    ArrowUp: () => move(-1),
    x: () => expandHit(document.activeElement.closest(".hit")),
    n: () => byId("next").click(),
    p: () => byId("previous").click(),
    1: () => pickMode(0),
    2: () => pickMode(1),
    3: () => pickMode(2),
    f: () => byId("filter-toggle").click(),
    c: openCurl,
    t: toggleTheme,
    "?": () => byId("help").showModal(),
    Escape: focusQuery,
  };

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector("dialog[open]")) return; // the dialog handles Esc itself
    const { target, key } = event;
    if (target === byId("query")) {
      if (key === "ArrowDown") move(1);
      else if (key === "Escape") clearQuery();
      else return;
    } else if (target.matches("textarea, select")) {
      if (key !== "Escape" || target.matches("select")) return;
      focusQuery();
    } else if (target.matches("input[type=radio]") && key.startsWith("Arrow")) {
      return; // arrows select a mode
    } else if (key === "Enter" && target.matches(".hit")) {
      openHit(target);
    } else if (Object.hasOwn(commands, key)) {
      commands[key]();
    } else {
      return;
    }
    event.preventDefault();
  });
}
