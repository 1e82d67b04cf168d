// The newest anomalies; a press opens the chart of the series around that time.

import type { Anomaly } from "../api";
import { attribute, h, icon, keyed, show, text } from "../dom";
import { ago, count, moment, score, value } from "../format";

export class Anomalies {
  private readonly total = h("span", { class: "tally" });
  private readonly list = h("ol", { class: "events" });
  private readonly rows = keyed<Anomaly>(
    this.list,
    (a) => `${a.model} ${a.series} ${a.field} ${a.at}`,
    (a) => this.row(a),
  );
  private readonly empty = h(
    "p",
    { class: "hint" },
    "No anomalies so far. A model says one when it has learned what is usual for a series.",
  );
  readonly element = h(
    "section",
    { class: "panel", id: "anomalies", "aria-label": "Anomalies" },
    h("header", {}, h("h2", {}, "Anomalies ", this.total)),
    this.empty,
    this.list,
  );

  /** `go` shows a series around a time. */
  constructor(private readonly go: (series: number, at: number) => void) {}

  update(anomalies: Anomaly[], total: number): void {
    text(this.total, count(total));
    show(this.empty, anomalies.length === 0);
    this.rows(anomalies);
  }

  private row(anomaly: Anomaly) {
    const when = h("time", { title: moment(anomaly.at) });
    const button = h(
      "button",
      { type: "button", class: "event", title: "Show it in its chart" },
      icon("anomaly"),
      h("span", { class: "event-title" }, anomaly.label),
      when,
      h("span", { class: "event-words" }, anomaly.reason ?? "no reason given"),
      h("span", { class: "event-facts" }, facts(anomaly)),
    );
    button.addEventListener("click", () => this.go(anomaly.series, anomaly.at));
    const update = (): void => {
      text(when, ago(anomaly.at));
      attribute(when, "datetime", new Date(anomaly.at).toISOString());
    };
    return { element: h("li", {}, button), update };
  }
}

function facts(a: Anomaly): string {
  const said = a.score == null ? "" : ` · score ${score(a.score)}`;
  return `${a.field} ${value(a.value)}${said} · ${a.model}`;
}
