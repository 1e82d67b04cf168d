// The words beside the cursor: what was received, what cleaning made of it, what the models say about it.

import { h } from "./dom";
import { moment, quality, score, value } from "./format";
import type { ChartPoints } from "./track";

/** What a moment of a chart has to say; `v` is where the cursor's dot goes. */
export interface Reading {
  t: number;
  v: number | null;
  anomaly: boolean;
  rows: [string, string][];
  reason: string | null;
}

/** Reads the chart at a time; `reach` is how far (ms) an anomaly pulls the cursor. */
export function read(points: ChartPoints, t: number, reach: number): Reading | null {
  const newest = points.clean.last();
  if (newest !== undefined && t > newest.t + reach && points.forecast != null) return readForecast(points, t);
  const near = points.anomalies(t - reach, t + reach).sort((a, b) => Math.abs(a.t - t) - Math.abs(b.t - t))[0];
  const clean = near === undefined ? points.clean.nearest(t) : points.clean.nearest(near.t);
  if (clean === undefined) return null;
  const received = points.received.at(clean.t);
  const said = points.scores.at(clean.t);
  const rows: [string, string][] = [["clean", value(clean.v)]];
  if (received !== undefined && received.v !== clean.v) rows.unshift(["received", value(received.v)]);
  if (clean.q !== 0) rows.push(["quality", quality(clean.q)]);
  if (said !== undefined && said.expected !== null) rows.push(["expected", value(said.expected)]);
  if (said !== undefined && said.lower !== null && said.upper !== null) {
    rows.push(["usual range", `${value(said.lower)} … ${value(said.upper)}`]);
  }
  if (said !== undefined && said.score !== null) rows.push(["score", score(said.score)]);
  return { t: clean.t, v: clean.v, anomaly: said?.anomaly ?? false, rows, reason: said?.reason ?? null };
}

function readForecast(points: ChartPoints, t: number): Reading | null {
  const { forecast } = points;
  if (forecast === null) return null;
  let best = 0;
  forecast.t.forEach((at, i) => {
    if (Math.abs(at - t) < Math.abs((forecast.t[best] as number) - t)) best = i;
  });
  const mean = forecast.mean[best] ?? null;
  const rows: [string, string][] = [
    ["forecast", value(mean)],
    ["range", `${value(forecast.lower[best])} … ${value(forecast.upper[best])}`],
    ["made at", moment(forecast.made_at)],
  ];
  return { t: forecast.t[best] as number, v: mean, anomaly: false, rows, reason: null };
}

/** The tooltip and the dot, placed over a plot. */
export class Tooltip {
  readonly element = h("div", { class: "tooltip", role: "status", "aria-live": "polite", hidden: true });
  readonly dot = h("div", { class: "cursor-dot", hidden: true });

  hide(): void {
    this.element.hidden = true;
    this.dot.hidden = true;
  }

  /** Positions are CSS pixels inside the plot, `width` is the plot's. */
  show(reading: Reading, x: number, y: number, width: number, withWords: boolean): void {
    this.dot.hidden = reading.v === null;
    this.dot.style.transform = `translate(${x}px, ${y}px)`;
    this.element.hidden = !withWords;
    if (!withWords) return;
    this.element.replaceChildren(
      h("div", { class: "tooltip-time" }, moment(reading.t)),
      (reading.anomaly && h("div", { class: "tooltip-anomaly" }, "◆ anomaly")) || "",
      h("dl", {}, ...reading.rows.flatMap(([name, said]) => [h("dt", {}, name), h("dd", {}, said)])),
      reading.reason !== null ? h("p", {}, reading.reason) : "",
    );
    const own = this.element.offsetWidth;
    const left = x + 14 + own > width ? Math.max(0, x - own - 14) : x + 14;
    this.element.style.transform = `translate(${left}px, 6px)`;
  }
}
