// Light or dark: the system's preference until a person chooses, then the choice (applied early by theme.js).

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
