// Elements without a framework. Text from the outside only ever becomes a text node: there is no `innerHTML` in this page.

type Child = Node | string | null | undefined | false;
type Attributes = Record<string, string | number | boolean | null | undefined | ((event: Event) => void)>;

/** `h("button", { class: "quiet", onclick: … }, "Pause")`. Attributes that are null or false are left out. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  assign(element, attributes);
  append(element, children);
  return element;
}

/** The same for SVG. */
export function s<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  assign(element, attributes);
  append(element, children);
  return element;
}

function assign(element: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

function append(element: Element, children: Child[]): void {
  for (const child of children) if (child !== null && child !== undefined && child !== false) element.append(child);
}

/** Sets the text only when it differs, so that a selection or a screen reader is not disturbed once a second. */
export function text(element: Element, value: string): void {
  if (element.textContent !== value) element.textContent = value;
}

/** Sets or removes one attribute, only when it differs. */
export function attribute(element: Element, name: string, value: string | null | undefined): void {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function show(element: HTMLElement, visible: boolean): void {
  if (element.hidden === visible) element.hidden = !visible;
}

/** One row of a keyed list: its element, and how to bring it up to date. */
export interface Row<T> {
  element: Element;
  update(item: T): void;
}

/**
 * Keeps a parent's children equal to a list of items. A row is made once for each key and then updated in place, so
 * that focus, an opened detail and a text selection outlive the next second.
 */
export function keyed<T>(parent: Element, key: (item: T) => string, make: (item: T) => Row<T>): (items: T[]) => void {
  const rows = new Map<string, Row<T>>();
  return (items) => {
    const wanted = new Set(items.map(key));
    for (const [name, row] of rows) {
      if (wanted.has(name)) continue;
      row.element.remove();
      rows.delete(name);
    }
    let place = parent.firstElementChild;
    for (const item of items) {
      const name = key(item);
      let row = rows.get(name);
      if (row === undefined) rows.set(name, (row = make(item)));
      row.update(item);
      if (row.element === place) place = place.nextElementSibling;
      else parent.insertBefore(row.element, place);
    }
  };
}

/** Shapes of states and marks: a state is told by shape and words, colour only repeats it. */
const SHAPES = {
  running: "M8 3a5 5 0 1 0 0 10A5 5 0 0 0 8 3Z",
  waiting: "M8 3a5 5 0 1 0 0 10A5 5 0 0 0 8 3Zm0 2.2a2.8 2.8 0 1 1 0 5.6 2.8 2.8 0 0 1 0-5.6Z",
  warning: "M8 2.2 14.6 13.6H1.4L8 2.2Zm-.9 4.2.2 3.8h1.4l.2-3.8H7.1Zm.9 4.6a.9.9 0 1 0 0 1.8.9.9 0 0 0 0-1.8Z",
  paused: "M4 3h3v10H4zM9 3h3v10H9z",
  stopped: "M3.5 3.5h9v9h-9z",
  finished: "m6.4 12.6-4-4 1.5-1.5 2.5 2.5 5.7-5.7 1.5 1.5z",
  failed: "m8 6.5 3.2-3.2 1.5 1.5L9.5 8l3.2 3.2-1.5 1.5L8 9.5l-3.2 3.2-1.5-1.5L6.5 8 3.3 4.8l1.5-1.5z",
  anomaly: "M8 1.5 14.5 8 8 14.5 1.5 8z",
  learning: "M2 12h2V9H2v3Zm4 0h2V6H6v6Zm4 0h2V3h-2v9Z",
  play: "M4.5 2.8 13 8l-8.5 5.2z",
  close: "m8 6.6 3.3-3.3 1.4 1.4L9.4 8l3.3 3.3-1.4 1.4L8 9.4l-3.3 3.3-1.4-1.4L6.6 8 3.3 4.7l1.4-1.4z",
  copy: "M5 2h7a1 1 0 0 1 1 1v8h-1.5V3.5H5zM3 5h6.5a1 1 0 0 1 1 1v7.5a1 1 0 0 1-1 1H3a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1Zm.5 1.5v6.5H9V6.5z",
  reset: "M8 3V1L4.5 4 8 7V5a3.5 3.5 0 1 1-3.5 3.5H2.6A5.4 5.4 0 1 0 8 3Z",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6ZM7.3 1h1.4v2.4H7.3zM7.3 12.6h1.4V15H7.3zM1 7.3h2.4v1.4H1zM12.6 7.3H15v1.4h-2.4zM2.6 3.6l1-1 1.7 1.7-1 1zM10.7 11.7l1-1 1.7 1.7-1 1zM2.6 12.4l1.7-1.7 1 1-1.7 1.7zM10.7 4.3l1.7-1.7 1 1-1.7 1.7z",
  moon: "M6.5 2A6 6 0 1 0 14 9.8 5 5 0 0 1 6.5 2Z",
  system: "M2 3h12v8H2zM3.5 4.5v5h9v-5zM5 12h6v1.5H5z",
  lock: "M5 7V5a3 3 0 0 1 6 0v2h1v7H4V7h1Zm1.5 0h3V5a1.5 1.5 0 0 0-3 0v2Z",
  disk: "M8 1.5 13 3.5v4c0 3.2-2 5.7-5 7-3-1.3-5-3.8-5-7v-4l5-2Zm-.8 8.7 3.6-3.6-1-1-2.6 2.6-1.2-1.2-1 1 2.2 2.2Z",
} as const;

export type IconName = keyof typeof SHAPES;

export function icon(name: IconName, label?: string): SVGSVGElement {
  const described = label === undefined ? { "aria-hidden": "true" } : { role: "img", "aria-label": label };
  return s("svg", { class: `icon icon-${name}`, viewBox: "0 0 16 16", ...described }, s("path", { d: SHAPES[name] }));
}

/** An icon that can change its shape. */
export function setIcon(element: SVGSVGElement, name: IconName): void {
  attribute(element, "class", `icon icon-${name}`);
  const path = element.firstElementChild;
  if (path !== null) attribute(path, "d", SHAPES[name]);
}

/** A box of code with a button that copies it. Where the browser has no clipboard, the text is selected instead. */
export function copyable(code: string, label: string): HTMLElement & { set(code: string): void } {
  const shown = h("code", {}, code);
  const word = h("span", {}, "Copy");
  const button = h("button", { type: "button", class: "copy", "aria-label": `Copy ${label}` }, icon("copy"), word);
  button.addEventListener("click", () => {
    void copy(shown).then((done) => {
      word.textContent = done ? "Copied" : "Selected";
      setTimeout(() => (word.textContent = "Copy"), 1500);
    });
  });
  const box = h("div", { class: "copyable" }, h("pre", {}, shown), button);
  return Object.assign(box, { set: (next: string) => text(shown, next) });
}

async function copy(element: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(element.textContent ?? "");
    return true;
  } catch {
    getSelection()?.selectAllChildren(element);
    return false;
  }
}
