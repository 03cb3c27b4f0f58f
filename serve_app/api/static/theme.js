// Runs before the first paint, so that a remembered theme does not flash. The button is in theme_button.js.
(() => {
  try {
    const theme = localStorage.getItem("ai-docs.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // storage is blocked: the system's preference decides
  }
})();
