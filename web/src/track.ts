// The points behind one chart: three tracks in time order and the newest forecast, bounded, free of duplicates.
//
// History and the live stream overlap; a point that is already there is left out, a late one is put in its place.
// When a track is full its oldest points go.

import type { Forecast, Points } from "./api";
import { OUT_OF_RANGE, SPIKE, doubtful } from "./format";

/** Bound on what one chart holds; each of the three tracks may use a third. */
export const POINTS_PER_CHART_MAX = 20_000;
const TRACK_MAX = Math.floor(POINTS_PER_CHART_MAX / 3);
/** A pause of this many usual intervals is drawn as a gap. */
const GAP_INTERVALS = 6;
/** How long a received row may take through cleaning before its absence from `clean` means "dropped". */
const CLEANING_MS = 2000;

export interface Reading {
  t: number;
  v: number | null;
}
export interface Clean extends Reading {
  q: number;
}
export interface Score {
  t: number;
  score: number | null;
  anomaly: boolean;
  expected: number | null;
  lower: number | null;
  upper: number | null;
  reason: string | null;
}

/** Points ordered by time. */
export class Track<P extends { t: number }> {
  points: P[] = [];
  constructor(private readonly same: (a: P, b: P) => boolean) {}

  add(point: P): void {
    const points = this.points;
    const last = points[points.length - 1];
    const at = last === undefined || last.t <= point.t ? points.length : this.after(point.t);
    for (let i = at - 1; i >= 0 && (points[i] as P).t === point.t; i -= 1) {
      if (this.same(points[i] as P, point)) return;
    }
    if (at === points.length) points.push(point);
    else points.splice(at, 0, point);
    // trimmed a tenth at a time, so that a full track does not move its points for every new one
    if (points.length > TRACK_MAX) points.splice(0, Math.ceil(TRACK_MAX / 10));
  }

  /** Index of the first point later than `t`. */
  after(t: number): number {
    let low = 0;
    let high = this.points.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.points[middle] as P).t <= t) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  last(): P | undefined {
    return this.points[this.points.length - 1];
  }

  /** The points within, and one more on either side so that lines run off the edge. */
  within(from: number, to: number): P[] {
    return this.points.slice(Math.max(0, this.after(from) - 1), this.after(to) + 1);
  }

  at(t: number): P | undefined {
    const point = this.points[this.after(t) - 1];
    return point !== undefined && point.t === t ? point : undefined;
  }

  nearest(t: number): P | undefined {
    const i = this.after(t);
    const [a, b] = [this.points[i - 1], this.points[i]];
    if (a === undefined || b === undefined) return a ?? b;
    return t - a.t <= b.t - t ? a : b;
  }
}

/** Columns for uPlot: `undefined` = this line has no point here, `null` = a gap. */
export type Columns = [number[], ...(number | null | undefined)[][]];

export class ChartPoints {
  readonly received = new Track<Reading>((a, b) => a.v === b.v);
  readonly clean = new Track<Clean>((a, b) => a.v === b.v && a.q === b.q);
  readonly scores = new Track<Score>((a, b) => a.score === b.score && a.anomaly === b.anomaly);
  forecast: Forecast | null = null;
  /** From here on no point was thinned out by the server, so that a missing clean row means a dropped one. */
  exactFrom = Infinity;

  /** Takes history (`thinned` = the server may have left points out) or what is new. */
  take(points: Points, thinned: boolean): void {
    const { received, clean, scores } = points;
    if (!thinned) this.exactFrom = Math.min(this.exactFrom, received.t[0] ?? Infinity);
    received.t.forEach((t, i) => this.received.add({ t, v: received.v[i] ?? null }));
    clean.t.forEach((t, i) => this.clean.add({ t, v: clean.v[i] ?? null, q: clean.q[i] ?? 0 }));
    scores.t.forEach((t, i) =>
      this.scores.add({
        t,
        score: scores.score[i] ?? null,
        anomaly: scores.anomaly[i] ?? false,
        expected: scores.expected?.[i] ?? null,
        lower: scores.lower?.[i] ?? null,
        upper: scores.upper?.[i] ?? null,
        reason: scores.reason?.[String(i)] ?? null,
      }),
    );
    if (points.forecast != null && points.forecast.t.length > 0) this.forecast = points.forecast;
  }

  get size(): number {
    return this.received.points.length + this.clean.points.length + this.scores.points.length;
  }

  /** Newest event time of what was measured. */
  get newest(): number | undefined {
    const times = [this.clean.last()?.t, this.received.last()?.t].filter((t) => t !== undefined);
    return times.length === 0 ? undefined : Math.max(...times);
  }

  /** Received rows that cleaning took out. */
  dropped(from: number, to: number): Reading[] {
    const settled = Math.min(to, (this.clean.last()?.t ?? -Infinity) - CLEANING_MS);
    return this.received
      .within(Math.max(from, this.exactFrom), settled)
      .filter((p) => p.t >= this.exactFrom && p.t <= settled && p.v !== null && this.clean.at(p.t) === undefined);
  }

  /** Merges all tracks into uPlot's columns: received, clean, expected lower/upper, forecast mean/lower/upper. */
  columns(from: number, to: number): Columns {
    const received = withGaps(this.received.within(from, to), (t) => ({ t, v: null }));
    const clean = withGaps<Reading>(this.clean.within(from, to), (t) => ({ t, v: null }));
    const scores = withGaps<Band>(this.scores.within(from, to), (t) => ({ t, lower: null, upper: null }));
    const forecast = forecastPoints(this.forecast, this.clean.last());
    const out: Columns = [[], [], [], [], [], [], [], []];
    const heads = [0, 0, 0, 0];
    const lines = [received, clean, scores, forecast] as const;
    for (;;) {
      let t = Infinity;
      lines.forEach((line, i) => (t = Math.min(t, line[heads[i] as number]?.t ?? Infinity)));
      if (t === Infinity) return out;
      const take = <P extends { t: number }>(line: readonly P[], i: number): P | undefined => {
        const point = line[heads[i] as number];
        if (point === undefined || point.t !== t) return undefined;
        heads[i] = (heads[i] as number) + 1;
        return point;
      };
      const r = take(received, 0);
      const c = take(clean, 1);
      const s = take(scores, 2);
      const f = take(forecast, 3);
      push(out, t, [r?.v, c?.v, s?.lower, s?.upper, f?.mean, f?.lower, f?.upper]);
    }
  }

  /** Value range that shows what is typical; doubtful values widen it only as far as the typical ones stay readable. */
  range(
    from: number,
    to: number,
    all: boolean,
    layers: { received: boolean; band: boolean; forecast: boolean },
  ): [number, number] {
    const core = new Extent();
    const rest = new Extent();
    for (const p of this.clean.within(from, to)) (p.q & (OUT_OF_RANGE | SPIKE) ? rest : core).add(p.v);
    if (layers.received) for (const p of this.received.within(from, to)) rest.add(p.v);
    const values = core.empty ? rest : core;
    if (layers.forecast && this.forecast !== null) {
      const room = new Extent(values.low - values.span, values.high + values.span);
      this.forecast.t.forEach((t, i) => {
        if (t < from || t > to) return;
        values.addWithin(room, this.forecast?.lower[i] ?? null);
        values.addWithin(room, this.forecast?.upper[i] ?? null);
      });
    }
    if (layers.band) {
      const room = new Extent(values.low - values.span, values.high + values.span);
      for (const p of this.scores.within(from, to)) {
        values.addWithin(room, p.lower);
        values.addWithin(room, p.upper);
      }
    }
    if (values.empty) return [0, 1];
    const room = values.span * (all ? Infinity : 0.6);
    const low = rest.low < values.low - room ? values.low - values.span * 0.12 : Math.min(values.low, rest.low);
    const high = rest.high > values.high + room ? values.high + values.span * 0.12 : Math.max(values.high, rest.high);
    const margin = Math.max((high - low) * 0.08, Math.abs(high) * 1e-6, 1e-9);
    return high - low < 1e-12 ? [low - 1, high + 1] : [low - margin, high + margin];
  }

  /** Anomalies within, oldest first. */
  anomalies(from: number, to: number): Score[] {
    return this.scores.within(from, to).filter((p) => p.anomaly && p.t >= from && p.t <= to);
  }

  /** Doubtful clean values within. */
  marked(from: number, to: number): Clean[] {
    return this.clean.within(from, to).filter((p) => doubtful(p.q));
  }
}

function push(out: Columns, t: number, row: (number | null | undefined)[]): void {
  out[0].push(t);
  row.forEach((v, i) => (out[i + 1] as (number | null | undefined)[]).push(v));
}

/** The part of a score that is drawn as a band. */
type Band = Pick<Score, "t" | "lower" | "upper">;

function withGaps<P extends { t: number }>(points: P[], gap: (t: number) => P): P[] {
  const limit = usualInterval(points) * GAP_INTERVALS;
  if (limit === 0) return points;
  const out: P[] = [];
  points.forEach((p, i) => {
    const before = points[i - 1];
    if (before !== undefined && p.t - before.t > limit) out.push(gap((p.t + before.t) / 2));
    out.push(p);
  });
  return out;
}

/** Median distance of neighbours, from at most 200 of them; 0 = unknown. */
export function usualInterval(points: { t: number }[]): number {
  if (points.length < 4) return 0;
  const step = Math.max(1, Math.floor(points.length / 200));
  const distances: number[] = [];
  for (let i = 1; i < points.length; i += step) {
    distances.push((points[i] as { t: number }).t - (points[i - 1] as { t: number }).t);
  }
  distances.sort((a, b) => a - b);
  return distances[distances.length >> 1] ?? 0;
}

/** The forecast as a line that starts where the measured one ended when it was made. */
function forecastPoints(forecast: Forecast | null, last: Reading | undefined) {
  if (forecast === null) return [];
  const points = forecast.t.map((t, i) => ({
    t,
    mean: forecast.mean[i] ?? null,
    lower: forecast.lower[i] ?? null,
    upper: forecast.upper[i] ?? null,
  }));
  const first = points[0];
  const joined = last !== undefined && last.v !== null && first !== undefined && last.t < first.t;
  return joined ? [{ t: last.t, mean: last.v, lower: last.v, upper: last.v }, ...points] : points;
}

class Extent {
  constructor(
    public low = Infinity,
    public high = -Infinity,
  ) {}

  add(v: number | null): void {
    if (v === null || !Number.isFinite(v)) return;
    if (v < this.low) this.low = v;
    if (v > this.high) this.high = v;
  }

  addWithin(room: Extent, v: number | null): void {
    if (v !== null) this.add(Math.min(room.high, Math.max(room.low, v)));
  }

  get empty(): boolean {
    return this.low > this.high;
  }

  get span(): number {
    return this.empty ? 0 : this.high - this.low || Math.abs(this.high) * 0.1 || 1;
  }
}
