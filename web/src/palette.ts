// Theme: follows the system unless the reader chose otherwise, and gives the canvas the colours that CSS defines.

export type Theme = "system" | "light" | "dark";
const KEY = "trackside-theme";
const NAMES = [
  "ink",
  "muted",
  "line",
  "surface",
  "received",
  "clean",
  "forecast",
  "band",
  "anomaly",
  "warning",
] as const;
export type Palette = Record<(typeof NAMES)[number], string>;

let cached: Palette | null = null;
const listeners = new Set<() => void>();

export function theme(): Theme {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : "system";
  } catch {
    return "system"; // storage may be forbidden
  }
}

export function setTheme(next: Theme): void {
  try {
    if (next === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // it then lasts as long as the page
  }
  apply(next);
}

function apply(next: Theme): void {
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  cached = null;
  for (const changed of listeners) changed();
}

/** Applies the kept choice; call once. */
export function startTheme(): void {
  apply(theme());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(theme()));
}

export function onTheme(changed: () => void): void {
  listeners.add(changed);
}

/** The colours as the browser resolves them; `light-dark()` must be read off a real element. */
export function palette(): Palette {
  if (cached !== null) return cached;
  const probe = document.createElement("i");
  document.body.append(probe);
  const read = (name: string): string => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  cached = Object.fromEntries(NAMES.map((name) => [name, read(name)])) as Palette;
  probe.remove();
  return cached;
}
