// One chart: received behind clean, the expected band, the forecast, marks; zoom by drag, reading by mouse or keys.
//
// Owns its points and its uPlot. Data only ever asks for a frame; `paint` merges the visible points and draws.

import uPlot from "uplot";
import type { Points, Series } from "./api";
import { attribute, h, icon, show, text } from "./dom";
import { axisTimes, count, value } from "./format";
import { draw } from "./frame";
import { drawFuture, drawMarks } from "./marks";
import { palette } from "./palette";
import { WINDOWS, type Selection } from "./selection";
import { Tooltip, read } from "./tooltip";
import { ChartPoints, type Columns } from "./track";

/** "Auto" shows about this many of the newest rows. */
const AUTO_ROWS = 600;
const AUTO_SPANS = [30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400, 172_800, 604_800, 2_592_000];
/** Share of the window that the forecast may take at the right. */
const FUTURE_SHARE = 0.35;
/** An anomaly this close (px) pulls the cursor. */
const REACH_PX = 9;
/** News is never held back longer than this. */
const PACE_MS_MAX = 400;
/** Points that wait for the history they follow. */
const PENDING_MAX = 200;

export class Chart {
  readonly element: HTMLElement;
  private points = new ChartPoints();
  /** Live points that arrived before their history; null = history is there. */
  private pending: Points[] | null = [];
  private plot: uPlot | null = null;
  private readonly tooltip = new Tooltip();
  private readonly holder = h("div", { class: "plot", tabindex: 0, role: "group" });
  private readonly parts = titleParts();
  private readonly size = new ResizeObserver(() => this.redraw());
  private readonly sight = new IntersectionObserver(
    (entries) => this.setVisible(entries.at(-1)?.isIntersecting ?? true),
    {
      rootMargin: "600px",
    },
  );
  /** When it was last drawn, and the timer of the next time. */
  private painted = 0;
  private pace = 0;
  /** The time range on the screen. */
  private shown: [number, number] | null = null;
  private hovered = false;
  private visible = true;
  private failure: string | null = null;

  constructor(
    public series: Series,
    readonly field: string,
    private readonly selection: Selection,
    remove: () => void,
  ) {
    const { title, badges, last, empty, close } = this.parts;
    close.addEventListener("click", remove);
    this.element = h(
      "article",
      { class: "chart", "data-field": field, "data-points": 0, "data-anomalies": 0 },
      h("header", {}, h("h3", {}, title), badges, last, close),
      h("div", { class: "plot-frame" }, this.holder, empty),
    );
    this.sight.observe(this.holder);
    this.size.observe(this.holder);
    this.listen();
    this.describe(series);
    this.redraw();
  }

  /** New live points. */
  take(points: Points): void {
    if (this.pending !== null) {
      if (this.pending.length < PENDING_MAX) this.pending.push(points);
      return;
    }
    this.points.take(points, false);
    this.changed();
  }

  /** From now on live points wait, for history is on its way. */
  expectHistory(): void {
    this.pending = [];
  }

  /** History replaces what was there: after a restart the server knows best. */
  setHistory(points: Points, asked: number): void {
    this.points = new ChartPoints();
    this.points.take(points, points.received.t.length >= asked * 0.9);
    for (const live of this.pending ?? []) this.points.take(live, false);
    this.pending = null;
    this.failure = null;
    this.changed();
  }

  fail(reason: string): void {
    this.failure = reason;
    if (this.pending !== null && this.points.size > 0) this.pending = null;
    this.changed();
  }

  describe(series: Series): void {
    this.series = series;
    const { title, simulated, learning } = this.parts;
    text(title, series.label);
    show(simulated, series.simulated);
    const { learning: l } = series;
    show(learning, l != null);
    if (l != null) text(learning, `learning: ${count(l.seen)} of ${count(l.needed)} rows`);
    attribute(this.element, "data-series", String(series.id));
    attribute(
      this.holder,
      "aria-label",
      `${series.label}, ${this.field}. Arrow keys read values, Shift and arrow keys jump between anomalies, plus and minus zoom, Escape resets.`,
    );
  }

  /** Something about how it is shown has changed. */
  restyle(): void {
    this.plot?.destroy();
    this.plot = null;
    this.redraw();
  }

  redraw(): void {
    draw(this.paint);
  }

  private setVisible(visible: boolean): void {
    this.visible = visible;
    if (visible) this.redraw();
  }

  destroy(): void {
    clearTimeout(this.pace);
    this.size.disconnect();
    this.sight.disconnect();
    this.plot?.destroy();
    this.element.remove();
  }

  /** New data: drawn when it can be seen, that is when the picture has moved by half a pixel, at the latest after `PACE_MS_MAX`. */
  private changed(): void {
    if (this.plot === null || this.shown === null) return this.redraw();
    if (this.selection.display.paused || this.pace !== 0) return;
    const [from, to] = this.shown;
    const wait = Math.min(PACE_MS_MAX, (to - from) / Math.max(1, this.holder.clientWidth) / 2);
    this.pace = setTimeout(
      () => {
        this.pace = 0;
        this.redraw();
      },
      Math.max(0, this.painted + wait - performance.now()),
    );
  }

  private readonly paint = (): void => {
    const { holder, points } = this;
    this.painted = performance.now();
    this.summarise();
    if (!this.visible || !holder.isConnected || holder.clientWidth === 0) return;
    const [from, to] = (this.shown = this.window());
    const { layers } = this.selection.display;
    const columns = points.columns(from, to);
    const [low, high] = points.range(from, to, layers.outliers, layers);
    this.plot ??= this.open(columns);
    const plot = this.plot;
    this.resize(plot);
    plot.batch(() => {
      plot.setData(columns, false);
      plot.setScale("x", { min: from, max: to });
      plot.setScale("y", { min: low, max: high });
    });
  };

  private resize(plot: uPlot): void {
    const { clientWidth: width, clientHeight: height } = this.holder;
    if (plot.width !== width || plot.height !== height) plot.setSize({ width, height });
  }

  /** Title, counts and the words of an empty chart. */
  private summarise(): void {
    const { points, parts } = this;
    const found = points.anomalies(-Infinity, Infinity).length;
    attribute(this.element, "data-points", String(points.size));
    attribute(this.element, "data-anomalies", String(found));
    text(parts.last, value(points.clean.last()?.v ?? points.received.last()?.v));
    show(parts.anomalies, found > 0);
    text(parts.anomalyCount, `${count(found)} ${found === 1 ? "anomaly" : "anomalies"}`);
    show(parts.empty, points.size === 0);
    text(parts.empty, this.emptyWords());
  }

  private emptyWords(): string {
    if (this.failure !== null) return `No history: ${this.failure}. It is asked for again when the connection is back.`;
    if (this.pending !== null) return "Loading …";
    return `No numbers in “${this.field}” of this series yet. They appear as they come in.`;
  }

  /** The time range to show. */
  private window(): [number, number] {
    const { zoom, window, layers, paused } = this.selection.display;
    if (zoom !== null) return zoom;
    if (paused && this.shown !== null && this.points.size > 0) return this.shown;
    const { clean, received, forecast, newest = Date.now() } = this.points;
    const rows = clean.points.length > 0 ? clean.points : received.points;
    const first = rows[0]?.t ?? newest;
    const fixed = WINDOWS.find(([key]) => key === window)?.[2] ?? 0;
    const least = Math.max(newest - first, 20_000);
    const span =
      fixed === 0
        ? Math.min(autoSpan(newest - (rows[Math.max(0, rows.length - AUTO_ROWS)]?.t ?? newest)), least)
        : Math.min(fixed, least);
    const end = layers.forecast ? (forecast?.t[forecast.t.length - 1] ?? newest) : newest;
    const future = Math.min(Math.max(end - newest, span * 0.02), span * FUTURE_SHARE);
    return [newest - span, newest + future];
  }

  private open(columns: Columns): uPlot {
    const { clientWidth: width, clientHeight: height } = this.holder;
    const plot = new uPlot({ ...options(this.selection), width, height, hooks: this.hooks() }, columns, this.holder);
    plot.over.append(this.tooltip.dot, this.tooltip.element);
    return plot;
  }

  private hooks(): uPlot.Hooks.Arrays {
    return {
      drawClear: [(u) => drawFuture(u, this.points.newest)],
      draw: [(u) => drawMarks(u, this.points, this.selection.display.layers)],
      setCursor: [(u) => this.readCursor(u)],
      setSelect: [
        (u) => {
          const { left, width } = u.select;
          if (width < 6 || !this.hovered) return;
          this.selection.setZoom([u.posToVal(left, "x"), u.posToVal(left + width, "x")]);
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
    };
  }

  private readCursor(u: uPlot): void {
    const left = u.cursor.left ?? -1;
    if (left < 0) return this.tooltip.hide();
    const t = u.posToVal(left, "x");
    const reach = u.posToVal(left + REACH_PX, "x") - t;
    const reading = read(this.points, t, reach);
    if (reading === null) return this.tooltip.hide();
    const y = Math.max(0, Math.min(u.over.clientHeight, u.valToPos(reading.v ?? 0, "y")));
    this.tooltip.show(reading, u.valToPos(reading.t, "x"), y, u.over.clientWidth, this.hovered);
  }

  private listen(): void {
    const { holder } = this;
    holder.addEventListener("pointerenter", () => (this.hovered = true));
    holder.addEventListener("pointerleave", () => this.leave());
    holder.addEventListener("blur", () => this.leave());
    holder.addEventListener("dblclick", () => this.selection.setZoom(null));
    holder.addEventListener("pointermove", (event) => this.touch(event));
    holder.addEventListener("keydown", (event) => {
      if (this.key(event)) event.preventDefault();
    });
  }

  private leave(): void {
    this.hovered = false;
    this.plot?.setCursor({ left: -10, top: -10 });
  }

  /** A finger moves the cursor; uPlot itself only knows the mouse. */
  private touch(event: PointerEvent): void {
    if (event.pointerType === "mouse" || this.plot === null) return;
    const box = this.plot.over.getBoundingClientRect();
    this.plot.setCursor({ left: event.clientX - box.left, top: event.clientY - box.top });
  }

  private key(event: KeyboardEvent): boolean {
    const plot = this.plot;
    if (plot === null) return false;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step !== undefined) return this.step(plot, step, event.shiftKey);
    if (event.key === "Escape") this.selection.setZoom(null);
    else if (event.key === "+" || event.key === "=") this.scaleZoom(plot, 0.5);
    else if (event.key === "-") this.scaleZoom(plot, 2);
    else return false;
    return true;
  }

  private step(plot: uPlot, direction: number, overAnomalies: boolean): boolean {
    const [from, to] = [plot.scales.x?.min ?? 0, plot.scales.x?.max ?? 0];
    const left = plot.cursor.left ?? -1;
    const t = left < 0 ? (this.points.newest ?? to) : (read(this.points, plot.posToVal(left, "x"), 0)?.t ?? to);
    const stops: { t: number }[] = overAnomalies ? this.points.anomalies(from, to) : this.points.clean.within(from, to);
    const next = direction > 0 ? stops.find((p) => p.t > t) : stops.findLast((p) => p.t < t && p.t >= from);
    this.hovered = true;
    if (next !== undefined) plot.setCursor({ left: plot.valToPos(next.t, "x"), top: plot.over.clientHeight / 2 });
    return true;
  }

  private scaleZoom(plot: uPlot, factor: number): void {
    const [from, to] = [plot.scales.x?.min ?? 0, plot.scales.x?.max ?? 1];
    const left = plot.cursor.left ?? -1;
    const centre = left < 0 ? (from + to) / 2 : plot.posToVal(left, "x");
    this.selection.setZoom([centre - (centre - from) * factor, centre + (to - centre) * factor]);
  }
}

function titleParts() {
  const simulated = h(
    "span",
    { class: "badge simulated", title: "Made by the generate source, not by a device" },
    "simulated",
  );
  const learning = h("span", { class: "badge learning" });
  const anomalyCount = h("span");
  const anomalies = h("span", { class: "badge anomaly" }, icon("anomaly"), anomalyCount);
  return {
    title: h("span"),
    badges: h("span", { class: "badges" }, simulated, learning, anomalies),
    simulated,
    learning,
    anomalies,
    anomalyCount,
    last: h("output", { class: "last", title: "Newest clean value" }),
    empty: h("p", { class: "plot-empty" }),
    close: h(
      "button",
      { type: "button", class: "quiet", "aria-label": "Remove this chart", title: "Remove this chart" },
      icon("close"),
    ),
  };
}

function autoSpan(span: number): number {
  const wanted = span / 1000;
  return (AUTO_SPANS.find((s) => s >= wanted) ?? wanted) * 1000;
}

function options(selection: Selection): Omit<uPlot.Options, "width" | "height"> {
  const colours = palette();
  const { layers } = selection.display;
  const axis: uPlot.Axis = {
    stroke: colours.muted,
    font: "11px system-ui, sans-serif",
    grid: { stroke: colours.line, width: 1 },
    ticks: { show: false },
  };
  const sparse = (u: uPlot, series: number, from: number, to: number): boolean => {
    const filled = u.data[series]?.slice(from, to + 1).filter((v) => v !== undefined && v !== null).length ?? 0;
    return filled * 9 < u.bbox.width / devicePixelRatio;
  };
  const band = { width: 0, points: { show: false } };
  return {
    ms: 1,
    padding: [10, 14, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      points: { show: false },
      drag: { x: true, y: false, setScale: false },
      bind: { dblclick: () => () => null },
      sync: {
        key: "trackside",
        setSeries: false,
        scales: ["x", null],
        filters: { pub: (type) => type === "mousemove" || type === "mouseleave", sub: () => true },
      },
    },
    scales: { x: { time: true, auto: false }, y: { auto: false } },
    axes: [
      { ...axis, size: 26, values: (_, splits, __, ___, step) => axisTimes(splits, step) },
      {
        ...axis,
        size: (_, values) => Math.max(34, ...(values ?? []).map((v) => v.length * 6.5 + 16)),
        values: (_, splits) => splits.map((v) => value(v)),
      },
    ],
    series: [
      {},
      {
        show: layers.received,
        stroke: fade(colours.received, 0.55),
        width: 1,
        points: { show: sparse, size: 4, fill: colours.received, width: 0 },
      },
      { stroke: colours.clean, width: 1.75, points: { show: sparse, size: 3.5, fill: colours.clean, width: 0 } },
      { show: layers.band, ...band },
      { show: layers.band, ...band },
      { show: layers.forecast, stroke: colours.forecast, width: 2, dash: [6, 4], points: { show: false } },
      { show: layers.forecast, ...band },
      { show: layers.forecast, ...band },
    ],
    bands: [
      { series: [4, 3], fill: fade(colours.band, 0.16) },
      { series: [7, 6], fill: fade(colours.forecast, 0.18) },
    ],
  };
}

/** The same colour, more transparent; the browser gives colours as `rgb(r, g, b)`. */
function fade(colour: string, alpha: number): string {
  return colour.replace(/^rgb\(/, "rgba(").replace(/\)$/, `, ${alpha})`);
}
