// The dialog "Show as curl": the search as a command to copy.

import { curlCommand } from "./client.js";
import { byId } from "./dom.js";

export function openCurl(state) {
  if (!state.query) return;
  byId("curl-text").textContent = curlCommand(state);
  byId("curl-copy").textContent = "Copy";
  byId("curl").showModal();
}

export async function copyCurl() {
  try {
    await navigator.clipboard.writeText(byId("curl-text").textContent);
    byId("curl-copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(byId("curl-text")); // permission denied, or the origin is not secure
    byId("curl-copy").textContent = "Selected: press Ctrl+C";
  }
}
