// Creates elements without markup strings, so that text from documents never becomes markup.

export const byId = (id) => document.getElementById(id);

/** Create an element with properties and children; strings become text. `on…` are listeners, `data` becomes data-*. */
export function element(tag, { data = {}, ...properties } = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  Object.assign(node.dataset, data);
  node.append(...children);
  return node;
}

/** Replace the children of `parent`. The focus moves to the new element with the same data-focus, if there is one. */
export function redraw(parent, ...children) {
  const focus = parent.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  parent.replaceChildren(...children);
  if (focus === undefined) return;
  [...parent.querySelectorAll("[data-focus]")].find((node) => node.dataset.focus === focus)?.focus();
}
