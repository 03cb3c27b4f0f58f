// Light or dark theme: the system's preference until the user chooses one. theme.js applies the choice on load.

import { byId } from "./dom.js";
import { remembered } from "./state.js";

const system = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : system.matches;
}

const draw = () => byId("theme").setAttribute("aria-pressed", String(isDark()));

export function toggleTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  remembered.set("theme", theme);
  draw();
}

export function bindTheme() {
  byId("theme").addEventListener("click", toggleTheme);
  system.addEventListener("change", draw);
  draw();
}
