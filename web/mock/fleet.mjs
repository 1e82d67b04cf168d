// A made-up fleet: every kind of value the page must be able to draw, from a seed, so that each run looks the same.

/** Backfill: one row a `STEP_MS` for the last `PAST_MS`, ending now; live rows then come every `LIVE_MS`. */
const PAST_MS = 30 * 60_000;
const STEP_MS = 1500;
export const LIVE_MS = 500;
const KEPT = 6000;
const FORECAST_EVERY_MS = 20_000;
const FORECAST_POINTS = 60;
const FORECAST_STEP_MS = 15_000;
const WARM_UP = 150;

/** Mulberry32: small, seeded, good enough for noise. */
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const KINDS = {
  cpu: { base: 31, swing: 9, period: 240, noise: 3.2 },
  memory: { base: 62, swing: 1.5, period: 900, noise: 0.15 },
  temperature: { base: 48, swing: 4, period: 600, noise: 0.4 },
  temp: { base: 21.4, swing: 2.2, period: 700, noise: 0.16 },
  humidity: { base: 54, swing: 6, period: 1100, noise: 0.6 },
  pressure: { base: 1013, swing: 2.4, period: 1500, noise: 0.22 },
};

export const HOSTILE = "<img src=x onerror=alert(1)>";

export function fleet() {
  const keys = [
    ["gantry", "cpu", false],
    ["gantry", "memory", false],
    ["gantry", "temperature", false],
    ["pump-1", "temp", true],
    ["pump-1", "humidity", true],
    ["pump-2", "temp", true],
    ["pump-2", "pressure", true],
    [HOSTILE, "temp", true],
    ["valve-west-with-a-rather-long-name-07", "pressure", true],
    ["quiet-1", "temp", true],
    ["fresh-1", "temp", true],
  ];
  const now = Date.now();
  const all = keys.map(([device, sensor, simulated], id) => new Sensor(id, device, sensor, simulated));
  for (const sensor of all) {
    const from = sensor.device === "fresh-1" ? now - 37 * STEP_MS : now - PAST_MS;
    const to = sensor.device === "quiet-1" ? now - 4 * 60_000 : now;
    for (let t = from; t < to; t += STEP_MS) sensor.measure(t);
  }
  return all;
}

export class Sensor {
  received = [];
  clean = [];
  scores = [];
  forecast = null;
  rows = 0;
  dropped = 0;
  replaced = 0;
  anomalies = [];
  fresh = { received: [], clean: [], scores: [], forecast: null };

  constructor(id, device, sensor, simulated) {
    Object.assign(this, { id, device, sensor, simulated });
    this.kind = KINDS[sensor];
    this.random = random(id * 7919 + 11);
    this.label = `${device} · ${sensor}`;
  }

  /** The next measurement at `t`, cleaned and scored. `forced` makes it an anomaly. */
  measure(t, forced = false) {
    this.rows += 1;
    const { base, swing, period, noise } = this.kind;
    const expected = base + swing * Math.sin((2 * Math.PI * (t / 1000 + this.id * 97)) / period);
    let v = expected + (this.random() + this.random() + this.random() - 1.5) * 2 * noise;
    const dice = this.random();
    const faulty = this.simulated && this.rows > 20;
    if (this.device === "pump-2" && this.rows > 700 && this.rows < 790) return; // a pause: drawn as a gap
    if (faulty && dice < 0.003) return this.replace(t, 812, expected);
    if (faulty && dice < 0.006) return this.drop(t, v + noise * 3);
    let q = 0;
    if (faulty && dice > 0.995) {
      q = 2;
      v += noise * (this.random() > 0.5 ? 14 : -14);
    }
    const wrong = forced || (this.id % 2 === 1 && (this.rows + this.id * 61) % 710 > 707 && this.rows > 300);
    if (wrong) v += noise * 16 + swing * 0.5;
    this.push(t, v, v, q, expected, wrong);
  }

  replace(t, original, v) {
    this.replaced += 1;
    this.push(t, original, v, 1 | 64, v, false);
  }

  drop(t, v) {
    this.dropped += 1;
    this.keep("received", { t, v });
  }

  push(t, original, v, q, expected, anomaly) {
    const ready = this.rows > WARM_UP;
    const { noise } = this.kind;
    this.keep("received", { t, v: original });
    this.keep("clean", { t, v, q });
    const score = Math.abs(v - expected) / (noise * 2);
    const reason = anomaly
      ? `${v.toFixed(2)} is ${score.toFixed(1)} usual spreads above the expected ${expected.toFixed(2)}`
      : null;
    const [lower, upper] = ready ? [expected - 4 * noise, expected + 4 * noise] : [null, null];
    this.keep("scores", {
      t,
      score: ready ? score : null,
      anomaly: anomaly && ready,
      expected: ready ? expected : null,
      lower,
      upper,
      reason,
    });
    if (anomaly && ready)
      this.anomalies.push({
        at: t,
        series: this.id,
        label: this.label,
        field: "value",
        value: v,
        score,
        reason,
        model: "anomaly",
      });
    if (ready && t - (this.forecast?.made_at ?? 0) > FORECAST_EVERY_MS) this.predict(t);
  }

  predict(made_at) {
    const { base, swing, period, noise } = this.kind;
    const t = Array.from({ length: FORECAST_POINTS }, (_, i) => made_at + (i + 1) * FORECAST_STEP_MS);
    const mean = t.map((at) => base + swing * Math.sin((2 * Math.PI * (at / 1000 + this.id * 97)) / period));
    const wide = (i) => noise * (1.6 + Math.sqrt(i) * 0.8);
    this.forecast = {
      made_at,
      t,
      mean,
      lower: mean.map((m, i) => m - wide(i)),
      upper: mean.map((m, i) => m + wide(i)),
    };
    this.fresh.forecast = this.forecast;
  }

  keep(track, point) {
    this[track].push(point);
    this.fresh[track].push(point);
    if (this[track].length > KEPT) this[track].shift();
  }

  /** What has come since the last call. */
  takeFresh() {
    const { fresh } = this;
    this.fresh = { received: [], clean: [], scores: [], forecast: null };
    return this.points(fresh, fresh.forecast);
  }

  history(limit) {
    const cut = (list) => list.slice(-limit);
    return this.points(
      { received: cut(this.received), clean: cut(this.clean), scores: cut(this.scores) },
      this.forecast,
    );
  }

  points({ received, clean, scores }, forecast) {
    const column = (list, name) => list.map((p) => p[name]);
    return {
      series: this.id,
      field: "value",
      received: { t: column(received, "t"), v: column(received, "v") },
      clean: { t: column(clean, "t"), v: column(clean, "v"), q: column(clean, "q") },
      scores: {
        ...Object.fromEntries(
          ["t", "score", "anomaly", "expected", "lower", "upper"].map((name) => [name, column(scores, name)]),
        ),
        reason: Object.fromEntries(scores.flatMap((p, i) => (p.reason === null ? [] : [[i, p.reason]]))),
      },
      forecast,
    };
  }

  describe() {
    const learning = this.rows <= WARM_UP ? { seen: this.rows, needed: WARM_UP } : null;
    return {
      id: this.id,
      key: [this.device, this.sensor],
      label: this.label,
      simulated: this.simulated,
      rows: this.clean.length,
      last_seen: this.received.at(-1)?.t ?? 0,
      last: { value: this.clean.at(-1)?.v ?? null },
      anomalies: this.anomalies.length,
      learning,
    };
  }
}
