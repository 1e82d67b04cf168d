// Numbers, times and codes in words.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** `5,120` */
export const count = (n: number): string => whole.format(n);

/** A rate for people: `0`, `0.4`, `12`, `1,240`. */
export function rate(n: number): string {
  if (n > 0 && n < 0.05) return "< 0.1";
  return n < 10 ? String(Math.round(n * 10) / 10) : whole.format(n);
}

/** A measured value with about five significant digits and no noise. */
export function value(v: number | string | boolean | null | undefined): string {
  if (v === null || v === undefined) return "–";
  if (typeof v !== "number") return String(v);
  const size = Math.abs(v);
  if (size !== 0 && (size < 0.001 || size >= 1e9)) return v.toExponential(3);
  const digits = size >= 10_000 ? 0 : size >= 1000 ? 1 : size >= 1 ? 2 : 4;
  return v.toLocaleString("en-US", { maximumFractionDigits: digits });
}

/** A score; how many digits matter depends on its size. */
export const score = (v: number): string => (Math.abs(v) >= 100 ? v.toFixed(0) : v.toFixed(2));

/** `850 µs`, `1.2 ms`, `3.4 s` */
export function latency(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(1)} s`;
}

/** Two latencies in one unit: `0.9 / 3.2 ms`. */
export function latencies(p50: number | null, p99: number | null): string {
  if (p50 == null || p99 == null) return p50 == null ? "–" : latency(p50);
  const [scale, unit] = p99 < 1 ? [1000, "µs"] : p99 < 1000 ? [1, "ms"] : [0.001, "s"];
  const figure = (ms: number): string => (ms * scale < 10 ? (ms * scale).toFixed(1) : String(Math.round(ms * scale)));
  return `${figure(p50)} / ${figure(p99)} ${unit}`;
}

export function bytes(n: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  while (n >= 1000 && i < units.length - 1) {
    n /= 1000;
    i += 1;
  }
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
}

/** `42 s`, `3 min 5 s`, `2 h 10 min`, `5 d 3 h` */
export function duration(seconds: number): string {
  const t = Math.max(0, Math.floor(seconds));
  if (t < 60) return `${t} s`;
  if (t < 3600) return `${Math.floor(t / 60)} min ${t % 60} s`;
  if (t < 86_400) return `${Math.floor(t / 3600)} h ${Math.floor((t % 3600) / 60)} min`;
  return `${Math.floor(t / 86_400)} d ${Math.floor((t % 86_400) / 3600)} h`;
}

/** `now`, `12 s ago`, `3 min ago`, `5 h ago`, and a date beyond two days. */
export function ago(ms: number, now = Date.now()): string {
  const t = (now - ms) / 1000;
  if (t < -60) return `${coarse(-t)} ahead`;
  if (t < 1.5) return "now";
  if (t > 2 * 86_400) return day(ms);
  return `${coarse(t)} ago`;
}

function coarse(t: number): string {
  if (t < 60) return `${Math.round(t)} s`;
  if (t < 3600) return `${Math.floor(t / 60)} min`;
  return t < 86_400 ? `${Math.floor(t / 3600)} h` : `${Math.floor(t / 86_400)} d`;
}

const pad = (n: number): string => String(n).padStart(2, "0");

export function clock(ms: number): string {
  const d = new Date(ms);
  return `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
}

export function day(ms: number): string {
  const d = new Date(ms);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())}`;
}

/** Date only when it is not today. */
export function moment(ms: number): string {
  return day(ms) === day(Date.now()) ? clock(ms) : `${day(ms)} ${clock(ms)}`;
}

/** Labels of a time axis: the date where a new day starts, seconds only when they matter. */
export function axisTimes(splits: number[], step: number): string[] {
  let last = "";
  return splits.map((ms) => {
    const d = new Date(ms);
    const date = day(ms);
    const midnight = d.getHours() === 0 && d.getMinutes() === 0 && d.getSeconds() === 0;
    const fresh = last !== "" && date !== last;
    last = date;
    if (step >= 86_400_000 || (midnight && fresh)) return date.slice(5);
    return step < 60_000 ? clock(ms) : clock(ms).slice(0, 5);
  });
}

/** Quality bits of a clean value (0 = good), in the words of the glossary. */
export const QUALITY: readonly [number, string][] = [
  [1, "out of range"],
  [2, "spike"],
  [4, "flatline"],
  [8, "late"],
  [16, "clock suspect"],
  [32, "filled"],
  [64, "replaced"],
  [128, "converted"],
  [256, "sequence reset"],
];
export const OUT_OF_RANGE = 1;
export const SPIKE = 2;
export const FILLED = 32;
export const REPLACED = 64;
/** Bits that say how a value was made, not that it is doubtful. */
const HARMLESS = 128 | 256;

export const doubtful = (q: number): boolean => (q & ~HARMLESS) !== 0;

export function quality(q: number): string {
  if (q === 0) return "good";
  return QUALITY.filter(([bit]) => (q & bit) !== 0)
    .map(([, word]) => word)
    .join(", ");
}
