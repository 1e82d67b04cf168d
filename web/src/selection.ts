// What the reader looks at, kept in the address so that a link shows the same view: charts, field, window, layers.
//
// Series are kept by their tags (`chart=pump-1/temp`), not by number: numbers may differ after a restart.

import type { Series } from "./api";

export const CHARTS_MAX = 8;
export const WINDOWS: readonly [string, string, number][] = [
  ["auto", "Auto", 0],
  ["1m", "1 min", 60_000],
  ["5m", "5 min", 300_000],
  ["15m", "15 min", 900_000],
  ["1h", "1 hour", 3_600_000],
  ["1d", "1 day", 86_400_000],
  ["all", "All loaded", Infinity],
];
export type Layer = "received" | "band" | "forecast" | "outliers";
const LAYERS: readonly Layer[] = ["received", "band", "forecast"];

export interface Display {
  /** Key of `WINDOWS`. */
  window: string;
  /** Fixed time range of all charts, or null = follow the newest. */
  zoom: [number, number] | null;
  paused: boolean;
  layers: Record<Layer, boolean>;
}

export class Selection {
  /** Keys of the shown series, in the order they were chosen. */
  charts: string[] = [];
  field: string | null = null;
  /** Until the reader chooses, the page chooses. */
  chosen = false;
  display: Display = {
    window: "auto",
    zoom: null,
    paused: false,
    layers: { received: true, band: true, forecast: true, outliers: false },
  };
  private readonly listeners = new Set<() => void>();

  constructor() {
    const query = new URLSearchParams(location.search);
    this.charts = [...new Set(query.getAll("chart"))].slice(0, CHARTS_MAX);
    this.chosen = this.charts.length > 0;
    this.field = query.get("field");
    const wanted = query.get("window");
    if (WINDOWS.some(([key]) => key === wanted)) this.display.window = wanted as string;
    for (const layer of query.getAll("hide")) {
      if (LAYERS.includes(layer as Layer)) this.display.layers[layer as Layer] = false;
    }
    this.display.layers.outliers = query.has("outliers");
  }

  onChange(changed: () => void): void {
    this.listeners.add(changed);
  }

  has(key: string): boolean {
    return this.charts.includes(key);
  }

  get full(): boolean {
    return this.charts.length >= CHARTS_MAX;
  }

  add(key: string): void {
    if (this.has(key)) return;
    if (this.full) this.charts.shift();
    this.charts.push(key);
    this.chosen = true;
    this.changed();
  }

  remove(key: string): void {
    this.charts = this.charts.filter((kept) => kept !== key);
    this.chosen = true;
    this.changed();
  }

  /** The page's own choice: does not go into the address. */
  suggest(keys: string[]): void {
    if (this.chosen || keys.join("\n") === this.charts.join("\n")) return;
    this.charts = keys;
    this.tell();
  }

  setField(field: string): void {
    this.field = field;
    this.changed();
  }

  setWindow(window: string): void {
    this.display.window = window;
    this.display.zoom = null;
    this.changed();
  }

  setZoom(range: [number, number] | null): void {
    this.display.zoom = range;
    this.tell();
  }

  setPaused(paused: boolean): void {
    this.display.paused = paused;
    this.tell();
  }

  setLayer(layer: Layer, visible: boolean): void {
    this.display.layers[layer] = visible;
    this.changed();
  }

  private changed(): void {
    const query = new URLSearchParams();
    if (this.chosen) for (const key of this.charts) query.append("chart", key);
    if (this.field !== null) query.set("field", this.field);
    if (this.display.window !== "auto") query.set("window", this.display.window);
    for (const layer of LAYERS) if (!this.display.layers[layer]) query.append("hide", layer);
    if (this.display.layers.outliers) query.set("outliers", "1");
    const address = query.toString();
    history.replaceState(null, "", (address === "" ? location.pathname : `?${address}`) + location.hash);
    this.tell();
  }

  private tell(): void {
    for (const listener of this.listeners) listener();
  }
}

/** `pump-1/temp`; a slash or per cent sign inside a tag is escaped. */
export function keyOf(series: Series): string {
  return series.key.map((part) => (part ?? "").replace(/[%/]/g, encodeURIComponent)).join("/");
}

/** Which charts to open at first: what has anomalies, then what is real, then the rest. */
export function suggestion(list: Series[], field: string, room: number): string[] {
  const usable = list.filter((s) => typeof s.last[field] === "number");
  const flagged = usable.filter((s) => s.anomalies > 0).sort((a, b) => b.anomalies - a.anomalies);
  const ranked = new Set([
    ...flagged.slice(0, Math.ceil(room / 2)),
    ...usable.filter((s) => !s.simulated),
    ...flagged,
    ...usable,
  ]);
  return [...ranked].slice(0, room).map(keyOf);
}
