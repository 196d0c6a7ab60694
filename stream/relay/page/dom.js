// Small helps with the document.

export const find = (id) => document.getElementById(id);

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function element(name, className, text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** A sign from the sheet of symbols in the page. */
function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Give a button or another element one sign and one text. */
export function label(node, sign, text) {
  if (node.dataset.label === sign + text) return;
  node.dataset.label = sign + text;
  node.replaceChildren(...(sign ? [icon(sign)] : []), element("span", "", text));
}

export const fromTemplate = (id) => find(id).content.firstElementChild.cloneNode(true);

/** A list's items by their keys, made where they are missing, removed where they are no more. */
export function items(list, keys, make) {
  const known = new Map([...list.children].map((item) => [item.dataset.key, item]));
  const wanted = keys.map((key) => {
    const item = known.get(key) ?? make(key);
    item.dataset.key = key;
    return item;
  });
  if (wanted.some((item, n) => item !== list.children[n]) || wanted.length !== known.size) {
    // Only what has to move is moved: a moved element loses the focus, and its video stops.
    for (const item of [...list.children]) if (!wanted.includes(item)) item.remove();
    wanted.forEach((item, n) => {
      if (list.children[n] !== item) list.insertBefore(item, list.children[n] ?? null);
    });
  }
  return wanted;
}

/** What was said before by the same speaker is replaced; equal sentences are shown once. */
export class Troubles {
  constructor(node) {
    this.node = node;
    this.said = new Map();
  }

  tell(who, ...sentences) {
    this.said.set(who, sentences.filter(Boolean));
    const all = [...new Set([...this.said.values()].flat())];
    if (this.node.dataset.shown === all.join("\n")) return;
    this.node.dataset.shown = all.join("\n");
    this.node.hidden = all.length === 0;
    this.node.replaceChildren(...all.map((sentence) => element("p", "", sentence)));
  }
}

/** Values that this browser remembers; a browser that keeps nothing is fine too. */
export const memory = {
  read(store, name, otherwise) {
    try {
      return JSON.parse(store().getItem(`lipstream.${name}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  write(store, name, value) {
    try {
      if (value === null) store().removeItem(`lipstream.${name}`);
      else store().setItem(`lipstream.${name}`, JSON.stringify(value));
    } catch {
      // Private windows may refuse.
    }
  },
};

export const forTab = () => window.sessionStorage;
export const forBrowser = () => window.localStorage;
