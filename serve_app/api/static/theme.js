// Applies the stored theme before the first paint, so that the page does not flash. theme_button.js has the button.
(() => {
  try {
    const theme = localStorage.getItem("ai-docs.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // storage is blocked, so the system's preference applies
  }
})();
