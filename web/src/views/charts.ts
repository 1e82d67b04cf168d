// The charts panel: its tools (field, window, layers that are also the legend, pause, reset) and the open charts.

import * as api from "../api";
import type { Points, Series } from "../api";
import { Chart } from "../chart";
import { attribute, h, icon, setIcon, show, text } from "../dom";
import { onTheme } from "../palette";
import { WINDOWS, keyOf, type Layer, type Selection } from "../selection";

/** How many points of history a chart asks for. */
const HISTORY_POINTS = 2000;

export class Charts {
  private readonly charts = new Map<string, Chart>();
  private readonly grid = h("div", { class: "chart-grid" });
  private readonly missing = h("p", { class: "hint missing", hidden: true });
  private readonly field = h("select", { "aria-label": "Field" });
  private readonly fieldBox = h("label", { class: "choice" }, "Field", this.field);
  private readonly pauseIcon = icon("paused");
  private readonly pauseWords = h("span", {}, "Pause");
  private readonly pause = h("button", { type: "button", "aria-pressed": "false" }, this.pauseIcon, this.pauseWords);
  private readonly reset = h("button", { type: "button", hidden: true }, icon("reset"), "Reset zoom");
  private readonly window = windowChoice();
  readonly element: HTMLElement;
  private fields = "";

  constructor(
    private readonly selection: Selection,
    /** Tells which series to stream. */
    private readonly watch: (ids: number[], field: string) => void,
    empty: HTMLElement,
  ) {
    this.element = h(
      "section",
      { class: "panel charts", id: "charts", "aria-label": "Charts", tabindex: -1 },
      h(
        "header",
        {},
        h("h2", {}, "Charts"),
        h(
          "div",
          { class: "tools" },
          this.fieldBox,
          h("label", { class: "choice" }, "Window", this.window),
          this.pause,
          this.reset,
        ),
      ),
      h("div", { class: "legend", role: "group", "aria-label": "Legend and layers" }, ...this.legend()),
      empty,
      this.missing,
      this.grid,
      h(
        "p",
        { class: "hint keys" },
        "Drag over a chart to zoom, double-click to follow again. With the keyboard: arrow keys read values, Shift + arrow keys jump between anomalies, + and − zoom, Esc resets.",
      ),
    );
    this.field.addEventListener("change", () => selection.setField(this.field.value));
    this.window.addEventListener("change", () => selection.setWindow(this.window.value));
    this.pause.addEventListener("click", () => selection.setPaused(!selection.display.paused));
    this.reset.addEventListener("click", () => selection.setZoom(null));
    onTheme(() => this.each((chart) => chart.restyle()));
  }

  /** Opens and closes charts so that they match the selection. */
  update(list: Series[], fields: string[]): void {
    this.showFields(fields);
    this.showTools();
    const { field } = this.selection;
    if (field === null) return;
    const byKey = new Map(list.map((series) => [keyOf(series), series]));
    for (const [key, chart] of this.charts) {
      const kept =
        this.selection.has(key) && chart.field === field && (byKey.get(key)?.id ?? chart.series.id) === chart.series.id;
      if (!kept) this.close(key, chart);
    }
    const unknown: string[] = [];
    this.selection.charts.forEach((key) => {
      const series = byKey.get(key);
      const chart = this.charts.get(key);
      if (series === undefined && chart === undefined) unknown.push(key);
      else if (chart === undefined && series !== undefined) this.open(key, series, field);
      else if (series !== undefined) chart?.describe(series);
    });
    const none = list.length > 0 && this.selection.chosen && this.selection.charts.length === 0;
    show(this.missing, unknown.length > 0 || none);
    text(
      this.missing,
      none
        ? "No chart is open. Press a series in the list to open one."
        : `Not seen yet: ${unknown.join(", ")}. ${unknown.length === 1 ? "It opens" : "They open"} with the first event.`,
    );
    attribute(this.grid, "data-count", String(this.charts.size));
    this.watch(
      [...this.charts.values()].map((chart) => chart.series.id),
      field,
    );
  }

  /** How the charts are shown has changed, not which. */
  restyle(): void {
    this.showTools();
    this.each((chart) => chart.restyle());
  }

  redraw(): void {
    this.showTools();
    this.each((chart) => chart.redraw());
  }

  take(points: Points): void {
    this.each((chart) => {
      if (chart.series.id === points.series && chart.field === points.field) chart.take(points);
    });
  }

  /** Asks for the history of every chart, after a stream was opened: the two overlap, so that nothing is missed. */
  reload(): void {
    this.each((chart) => void this.load(chart));
  }

  private async load(chart: Chart): Promise<void> {
    chart.expectHistory();
    try {
      chart.setHistory(await api.history(chart.series.id, chart.field, HISTORY_POINTS), HISTORY_POINTS);
    } catch (error) {
      chart.fail(error instanceof Error ? error.message : String(error));
    }
  }

  private open(key: string, series: Series, field: string): void {
    const chart = new Chart(series, field, this.selection, () => this.selection.remove(key));
    this.charts.set(key, chart);
    this.grid.append(chart.element);
  }

  private close(key: string, chart: Chart): void {
    chart.destroy();
    this.charts.delete(key);
  }

  private each(act: (chart: Chart) => void): void {
    for (const chart of this.charts.values()) act(chart);
  }

  private showFields(fields: string[]): void {
    show(this.fieldBox, fields.length > 1);
    if (this.fields !== fields.join("\n")) {
      this.fields = fields.join("\n");
      this.field.replaceChildren(...fields.map((name) => h("option", { value: name }, name)));
    }
    if (this.selection.field !== null) this.field.value = this.selection.field;
  }

  private showTools(): void {
    const { paused, zoom, window } = this.selection.display;
    attribute(this.pause, "aria-pressed", String(paused));
    setIcon(this.pauseIcon, paused ? "play" : "paused");
    text(this.pauseWords, paused ? "Resume" : "Pause");
    show(this.reset, zoom !== null);
    this.window.value = window;
  }

  /** Each entry shows a mark as it is drawn; those of a layer are switches. */
  private legend(): HTMLElement[] {
    const layer = (name: Layer, words: string, title: string): HTMLElement => {
      const button = h(
        "button",
        { type: "button", class: `key key-${name}`, title },
        h("i", { class: "swatch", "aria-hidden": "true" }),
        words,
      );
      const describe = (): void => attribute(button, "aria-pressed", String(this.selection.display.layers[name]));
      button.addEventListener("click", () => {
        this.selection.setLayer(name, !this.selection.display.layers[name]);
        describe();
      });
      describe();
      return button;
    };
    const key = (name: string, words: string, title: string): HTMLElement =>
      h("span", { class: `key key-${name}`, title }, h("i", { class: "swatch", "aria-hidden": "true" }), words);
    return [
      key("clean", "clean", "The value after cleaning"),
      layer("received", "received", "The value as it was received"),
      layer("band", "usual range", "Where the model expected the value"),
      layer("forecast", "forecast", "Forecast and its range"),
      key("anomaly", "anomaly", "Tagged by a model"),
      key("marked", "marked", "Cleaning doubts this value"),
      key("replaced", "replaced", "Cleaning put another value in its place"),
      key("dropped", "dropped", "Received, but taken out by cleaning"),
      layer("outliers", "show outliers", "Make room for every value; otherwise those far out are arrows at the edge"),
    ];
  }
}

function windowChoice(): HTMLSelectElement {
  return h(
    "select",
    { "aria-label": "Time window" },
    ...WINDOWS.map(([key, words]) => h("option", { value: key }, words)),
  );
}
