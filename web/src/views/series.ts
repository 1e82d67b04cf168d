// The list of series: search, newest value with a spark line, last seen, anomalies; a press opens or closes a chart.

import type { Series } from "../api";
import { attribute, h, icon, keyed, s, show, text } from "../dom";
import { ago, count, duration, value } from "../format";
import { CHARTS_MAX, keyOf, type Selection } from "../selection";

/** Rows drawn at once; the search narrows the rest. */
const ROWS_MAX = 150;
const SPARK_POINTS = 48;
/** A series is stale after this many of its usual intervals, but never before `STALE_MS_MIN`. */
const STALE_INTERVALS = 5;
const STALE_MS_MIN = 10_000;

interface Seen {
  rows: number;
  lastSeen: number;
  /** Smoothed time between rows (ms), from what was seen; 0 = unknown. */
  interval: number;
  values: number[];
}

export class SeriesPanel {
  private readonly seen = new Map<string, Seen>();
  private readonly search = h("input", {
    type: "search",
    placeholder: "Search series",
    "aria-label": "Search series",
    autocomplete: "off",
    spellcheck: "false",
  });
  private readonly list = h("ul", { class: "series-list" });
  private readonly rows = keyed<Series>(this.list, keyOf, (series) => this.row(series));
  private readonly more = h("p", { class: "hint" });
  private readonly total = h("span", { class: "tally" });
  private latest: Series[] = [];
  private found = 0;
  readonly element = h(
    "section",
    { class: "panel series", id: "series", "aria-label": "Series" },
    h("header", {}, h("h2", {}, "Series ", this.total)),
    this.search,
    this.list,
    this.more,
  );

  constructor(private readonly selection: Selection) {
    this.search.addEventListener("input", () => this.render());
  }

  update(list: Series[], total: number): void {
    this.latest = list;
    this.found = total;
    for (const series of list) this.observe(series);
    for (const key of this.seen.keys()) if (this.seen.size > 2 * list.length + 100) this.seen.delete(key);
    this.render();
  }

  render(): void {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = this.latest.filter((series) => words.every((word) => series.label.toLowerCase().includes(word)));
    this.rows(hits.slice(0, ROWS_MAX));
    text(this.total, count(this.found));
    const hidden = this.found - Math.min(hits.length, ROWS_MAX);
    show(
      this.more,
      this.latest.length === 0 || hits.length === 0 || (words.length === 0 && hidden > 0) || hits.length > ROWS_MAX,
    );
    text(this.more, this.moreWords(hits.length, hidden));
  }

  private moreWords(hits: number, hidden: number): string {
    if (this.latest.length === 0) return "Each device and sensor appears here with its first event.";
    if (hits === 0) return "No series has these words.";
    return `${count(hidden)} more; search to narrow the list.`;
  }

  /** Notes what has changed since the last look. */
  private observe(series: Series): void {
    const key = keyOf(series);
    const newest = series.last[this.selection.field ?? ""];
    const before = this.seen.get(key);
    if (before === undefined) {
      this.seen.set(key, {
        rows: series.rows,
        lastSeen: series.last_seen,
        interval: 0,
        values: typeof newest === "number" ? [newest] : [],
      });
      return;
    }
    if (series.rows === before.rows) return;
    const interval = (series.last_seen - before.lastSeen) / (series.rows - before.rows);
    if (interval > 0) before.interval = before.interval === 0 ? interval : before.interval * 0.7 + interval * 0.3;
    before.rows = series.rows;
    before.lastSeen = series.last_seen;
    if (typeof newest === "number") before.values.push(newest);
    if (before.values.length > SPARK_POINTS) before.values.shift();
  }

  private row(first: Series) {
    const key = keyOf(first);
    const label = h("span", { class: "series-label" });
    const newest = h("span", { class: "series-value" });
    const seenAt = h("span", { class: "series-seen" });
    const simulated = h("span", { class: "badge simulated" }, "simulated");
    const learning = h("span", { class: "badge learning" });
    const anomalyCount = h("span");
    const anomalies = h("span", { class: "badge anomaly" }, icon("anomaly", "anomalies"), anomalyCount);
    const line = s("polyline", { class: "spark-line" });
    const spark = s(
      "svg",
      { class: "spark", viewBox: "0 0 72 20", preserveAspectRatio: "none", "aria-hidden": "true" },
      line,
    );
    const button = h(
      "button",
      { type: "button", class: "series-row" },
      h("span", { class: "tick", "aria-hidden": "true" }),
      label,
      newest,
      h("span", { class: "series-notes" }, seenAt, simulated, learning, anomalies),
      spark,
    );
    button.addEventListener("click", () =>
      this.selection.has(key) ? this.selection.remove(key) : this.selection.add(key),
    );
    const update = (series: Series): void => {
      const on = this.selection.has(key);
      attribute(button, "aria-pressed", String(on));
      attribute(
        button,
        "title",
        on
          ? "Close its chart"
          : this.selection.full
            ? `Open its chart; the oldest of ${CHARTS_MAX} closes`
            : "Open its chart",
      );
      text(label, series.label);
      text(newest, value(series.last[this.selection.field ?? ""]));
      this.describeAge(seenAt, series);
      show(simulated, series.simulated);
      show(learning, series.learning != null);
      if (series.learning != null)
        text(learning, `learning ${count(series.learning.seen)} of ${count(series.learning.needed)} rows`);
      show(anomalies, series.anomalies > 0);
      text(anomalyCount, count(series.anomalies));
      attribute(line, "points", sparkPoints(this.seen.get(key)?.values ?? []));
    };
    return { element: h("li", {}, button), update };
  }

  private describeAge(element: HTMLElement, series: Series): void {
    const interval = series.interval_ms ?? this.seen.get(keyOf(series))?.interval ?? 0;
    const age = Date.now() - series.last_seen;
    const limit = Math.max(STALE_MS_MIN, STALE_INTERVALS * (interval > 0 ? interval : 12_000));
    const stale = age > limit;
    text(element, `${stale ? "stale: " : ""}${ago(series.last_seen)}`);
    attribute(element, "data-stale", stale ? "true" : null);
    attribute(
      element,
      "title",
      interval > 0
        ? `Usually every ${duration(Math.max(1, interval / 1000))}; stale after ${duration(limit / 1000)}`
        : null,
    );
  }
}

function sparkPoints(values: number[]): string {
  if (values.length < 2) return "";
  const low = Math.min(...values);
  const span = Math.max(...values) - low;
  const step = 72 / (values.length - 1);
  return values
    .map((v, i) => `${(i * step).toFixed(1)},${(span === 0 ? 10 : 18 - ((v - low) / span) * 16).toFixed(1)}`)
    .join(" ");
}
