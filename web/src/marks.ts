// What is drawn over and under the lines: the future, anomalies, doubtful and dropped values, arrows at the edge.
//
// Each kind has its own shape: anomaly = filled diamond, marked = hollow circle, replaced = hollow square with a stem
// to the new value, dropped = cross, outside the drawn range = triangle at the edge. Colour only repeats it.

import type uPlot from "uplot";
import { FILLED, REPLACED } from "./format";
import { palette } from "./palette";
import type { Layer } from "./selection";
import type { ChartPoints } from "./track";

/** Above this many visible anomalies their vertical hair lines would hide the data. */
const HAIRLINES_MAX = 24;
/** Bound on drawn marks of one kind; the newest are drawn. */
const MARKS_MAX = 2000;

/** Under the lines: the time beyond the newest value. */
export function drawFuture(u: uPlot, newest: number | undefined): void {
  const { left, top, width, height } = u.bbox;
  if (newest === undefined) return;
  const x = Math.max(left, u.valToPos(newest, "x", true));
  if (x >= left + width - 2) return;
  const { ctx } = u;
  ctx.save();
  ctx.globalAlpha = 0.05;
  ctx.fillStyle = palette().forecast;
  ctx.fillRect(x, top, left + width - x, height);
  ctx.globalAlpha = 0.55;
  ctx.strokeStyle = palette().muted;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  line(ctx, x, top, x, top + height);
  ctx.restore();
}

/** Over the lines: every mark in the visible range. */
export function drawMarks(u: uPlot, points: ChartPoints, layers: Record<Layer, boolean>): void {
  const pen = new Pen(u);
  const from = u.scales.x?.min ?? 0;
  const to = u.scales.x?.max ?? 0;
  if (layers.received) {
    for (const p of points.received.within(from, to)) pen.outside(p.t, p.v, palette().received);
    for (const p of points.dropped(from, to).slice(-MARKS_MAX)) pen.cross(p.t, p.v as number);
  }
  for (const p of points.marked(from, to).slice(-MARKS_MAX)) {
    if (p.v === null) continue;
    const original = (p.q & REPLACED) !== 0 ? points.received.at(p.t)?.v : undefined;
    if (original !== undefined && original !== null && layers.received) pen.replaced(p.t, original, p.v);
    else if ((p.q & FILLED) !== 0) pen.dot(p.t, p.v, palette().clean);
    else pen.ring(p.t, p.v, palette().warning);
  }
  const anomalies = points.anomalies(from, to).slice(-MARKS_MAX);
  for (const a of anomalies) {
    const v = points.clean.at(a.t)?.v ?? points.received.at(a.t)?.v;
    if (v !== null && v !== undefined) pen.diamond(a.t, v, anomalies.length <= HAIRLINES_MAX);
  }
  pen.done();
}

class Pen {
  private readonly ctx: CanvasRenderingContext2D;
  private readonly unit = devicePixelRatio;
  private readonly top: number;
  private readonly bottom: number;

  constructor(private readonly u: uPlot) {
    this.ctx = u.ctx;
    const { left, top, width, height } = u.bbox;
    this.top = top;
    this.bottom = top + height;
    this.ctx.save();
    this.ctx.beginPath();
    this.ctx.rect(left - 8 * this.unit, top - 2, width + 16 * this.unit, height + 4);
    this.ctx.clip();
    this.ctx.lineWidth = 1.5 * this.unit;
  }

  done(): void {
    this.ctx.restore();
  }

  ring(t: number, v: number, colour: string): void {
    const [x, y] = this.place(t, v);
    this.circle(x, y, 3.6);
    this.ctx.fillStyle = palette().surface;
    this.ctx.fill();
    this.ctx.strokeStyle = colour;
    this.ctx.stroke();
    this.outside(t, v, colour);
  }

  dot(t: number, v: number, colour: string): void {
    const [x, y] = this.place(t, v);
    this.circle(x, y, 2.6);
    this.ctx.fillStyle = palette().surface;
    this.ctx.fill();
    this.ctx.strokeStyle = colour;
    this.ctx.stroke();
  }

  /** From what was received to what stands in its place. */
  replaced(t: number, original: number, v: number): void {
    const [x, y] = this.place(t, original);
    const [, end] = this.place(t, v);
    const size = 3.2 * this.unit;
    this.ctx.strokeStyle = palette().warning;
    line(this.ctx, x, y, x, end);
    this.ctx.fillStyle = palette().surface;
    this.ctx.fillRect(x - size, y - size, 2 * size, 2 * size);
    this.ctx.strokeRect(x - size, y - size, 2 * size, 2 * size);
    this.circle(x, end, 2.2);
    this.ctx.fillStyle = palette().warning;
    this.ctx.fill();
    this.outside(t, original, palette().warning);
  }

  cross(t: number, v: number): void {
    const [x, y] = this.place(t, v);
    const size = 3 * this.unit;
    this.ctx.strokeStyle = palette().received;
    line(this.ctx, x - size, y - size, x + size, y + size);
    line(this.ctx, x - size, y + size, x + size, y - size);
  }

  diamond(t: number, v: number, hairline: boolean): void {
    const [x, y] = this.place(t, v);
    const { ctx } = this;
    const size = 6.5 * this.unit;
    ctx.strokeStyle = palette().anomaly;
    if (hairline) {
      ctx.globalAlpha = 0.28;
      line(ctx, x, this.top, x, this.bottom);
      ctx.globalAlpha = 1;
    }
    ctx.beginPath();
    ctx.moveTo(x, y - size);
    ctx.lineTo(x + size, y);
    ctx.lineTo(x, y + size);
    ctx.lineTo(x - size, y);
    ctx.closePath();
    ctx.fillStyle = palette().anomaly;
    ctx.fill();
    ctx.lineWidth = 2 * this.unit;
    ctx.strokeStyle = palette().surface;
    ctx.stroke();
    ctx.lineWidth = 1.5 * this.unit;
  }

  /** A triangle at the edge for a value that lies beyond it. */
  outside(t: number, v: number | null, colour: string): void {
    if (v === null) return;
    const y = this.u.valToPos(v, "y", true);
    if (y >= this.top && y <= this.bottom) return;
    const x = this.u.valToPos(t, "x", true);
    const up = y < this.top;
    const edge = up ? this.top : this.bottom;
    const size = (up ? 5 : -5) * this.unit;
    this.ctx.beginPath();
    this.ctx.moveTo(x, edge);
    this.ctx.lineTo(x + size, edge + 1.6 * size);
    this.ctx.lineTo(x - size, edge + 1.6 * size);
    this.ctx.closePath();
    this.ctx.fillStyle = colour;
    this.ctx.fill();
  }

  private circle(x: number, y: number, radius: number): void {
    this.ctx.beginPath();
    this.ctx.arc(x, y, radius * this.unit, 0, 2 * Math.PI);
  }

  /** Canvas position; what lies outside is held a little inside the edge. */
  private place(t: number, v: number): [number, number] {
    const inset = 9 * this.unit;
    const y = this.u.valToPos(v, "y", true);
    return [this.u.valToPos(t, "x", true), y < this.top ? this.top + inset : y > this.bottom ? this.bottom - inset : y];
  }
}

function line(ctx: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number): void {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}
