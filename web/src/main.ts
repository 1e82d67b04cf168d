// The page: builds the views, feeds them from the connection, and polls what is not streamed.
//
// Reads like a list: connect → status, points and dead letters as they come; series every two seconds; anomalies and
// dead letters when their counts have moved.

import "uplot/dist/uPlot.min.css";
import "./styles/theme.css";
import "./styles/page.css";
import "./styles/alerts.css";
import "./styles/pipeline.css";
import "./styles/charts.css";
import "./styles/lists.css";
import * as api from "./api";
import { h, show } from "./dom";
import { draw } from "./frame";
import { Live, type Link } from "./live";
import { startTheme } from "./palette";
import { Selection, keyOf, suggestion } from "./selection";
import { Anomalies } from "./views/anomalies";
import { Charts } from "./views/charts";
import { DeadLetters, LETTERS_MAX } from "./views/dead";
import { Header, Overview } from "./views/header";
import { Models } from "./views/models";
import { Alerts, FirstSteps, Locked, LostBanner } from "./views/notices";
import { Pipeline } from "./views/pipeline";
import { SeriesPanel } from "./views/series";
import { Sums } from "./views/sums";
import { Tables } from "./views/tables";

const SERIES_MAX = 1000;
const ANOMALIES_MAX = 50;
const POLL_MS = 2000;
/** Charts that the page opens by itself. */
const SUGGESTED = matchMedia("(min-width: 700px)").matches ? 4 : 2;
/** Time shown on either side of an anomaly that was pressed. */
const AROUND_MS = 120_000;

class Page {
  private readonly selection = new Selection();
  private readonly live = new Live({
    link: (link) => this.showLink(link),
    status: (status) => this.takeStatus(status),
    points: (points) => this.charts.take(points),
    dead: (letter) => this.takeLetter(letter),
    opened: () => this.reload(),
  });
  private readonly retry = () => this.live.retry();
  private readonly header = new Header();
  private readonly overview = new Overview();
  private readonly banner = new LostBanner(this.retry);
  private readonly alerts = new Alerts();
  private readonly locked = new Locked(this.retry);
  private readonly firstSteps = new FirstSteps();
  private readonly pipeline = new Pipeline();
  private readonly sums = new Sums();
  private readonly charts = new Charts(
    this.selection,
    (ids, field) => this.live.watch(ids, field),
    this.firstSteps.element,
  );
  private readonly series = new SeriesPanel(this.selection);
  private readonly anomalies = new Anomalies((id, at) => this.goTo(id, at));
  private readonly letters = new DeadLetters();
  private readonly models = new Models();
  private readonly tables = new Tables();
  private readonly content = h(
    "main",
    {},
    this.alerts.element,
    this.overview.element,
    h("div", { class: "watch" }, this.charts.element, this.series.element),
    this.pipeline.element,
    this.sums.element,
    h("div", { class: "pair" }, this.anomalies.element, this.letters.element),
    h("div", { class: "pair" }, this.models.element, this.tables.element),
  );
  private status: api.Status | null = null;
  private list: api.SeriesList | null = null;
  /** Counts whose lists are on the screen; another count means another list. */
  private readonly known = { anomalies: -1, dead: -1 };
  private busy = false;
  private style = "";

  mount(root: HTMLElement): void {
    startTheme();
    root.append(this.banner.element, this.header.element, this.locked.element, this.content);
    this.selection.onChange(() => this.applySelection());
    this.live.start();
    setInterval(() => void this.poll(), POLL_MS);
    document.addEventListener("visibilitychange", () => void this.poll());
  }

  private showLink(link: Link): void {
    this.header.setLink(link);
    this.banner.set(link);
    this.overview.setLink(link);
    const locked = link.state === "locked";
    show(this.locked.element, locked);
    show(this.content, !locked);
    document.documentElement.dataset.link = link.state;
  }

  private takeStatus(status: api.Status): void {
    this.status = status;
    draw(this.renderStatus);
  }

  private readonly renderStatus = (): void => {
    const { status } = this;
    if (status === null) return;
    this.header.update(status);
    this.alerts.update(status.notices ?? []);
    this.overview.update(status);
    this.pipeline.update(status);
    this.sums.update(status);
    this.models.update(status.models);
    this.tables.update(status.tables);
    this.letters.setTotal(deadCount(status));
    this.firstSteps.update(status, this.list);
  };

  private takeLetter(letter: api.DeadLetter): void {
    this.letters.add(letter);
    draw(this.renderLetters);
  }

  private readonly renderLetters = (): void => this.letters.render();

  /** A stream has opened: what it carries begins now, so everything before it is asked for. */
  private reload(): void {
    this.known.anomalies = -1;
    this.known.dead = -1;
    this.charts.reload();
    void this.poll();
  }

  /** What the stream does not carry. A hidden page asks for nothing. */
  private async poll(): Promise<void> {
    if (this.busy || document.hidden || document.documentElement.dataset.link !== "live") return;
    this.busy = true;
    try {
      await Promise.all([this.loadSeries(), this.loadAnomalies(), this.loadLetters()]);
    } catch {
      // the stream notices a server that is away and says so
    } finally {
      this.busy = false;
    }
  }

  private async loadSeries(): Promise<void> {
    this.list = await api.series(SERIES_MAX);
    const { fields, series } = this.list;
    if (this.selection.field === null || !fields.includes(this.selection.field))
      this.selection.field = firstNumeric(this.list);
    if (!this.selection.chosen && this.selection.field !== null && this.selection.charts.length < SUGGESTED) {
      const more = suggestion(series, this.selection.field, SUGGESTED).filter((key) => !this.selection.has(key));
      this.selection.suggest([...this.selection.charts, ...more].slice(0, SUGGESTED));
    }
    draw(this.renderSeries);
  }

  private readonly renderSeries = (): void => {
    if (this.list === null) return;
    this.series.update(this.list.series, this.list.total);
    this.charts.update(this.list.series, this.list.fields);
    this.firstSteps.update(this.status, this.list);
  };

  private async loadAnomalies(): Promise<void> {
    const total = this.status?.anomalies ?? 0;
    if (this.known.anomalies === total) return;
    const { anomalies } = await api.anomalies(ANOMALIES_MAX);
    this.known.anomalies = total;
    draw(() => this.anomalies.update(anomalies, total));
  }

  private async loadLetters(): Promise<void> {
    const total = this.status === null ? 0 : deadCount(this.status);
    if (this.known.dead === total) return;
    const { dead } = await api.dead(LETTERS_MAX);
    this.known.dead = total;
    this.letters.set(dead);
  }

  private applySelection(): void {
    const { layers, window } = this.selection.display;
    const style = JSON.stringify([layers, window]);
    if (style !== this.style) this.charts.restyle();
    else this.charts.redraw();
    this.style = style;
    draw(this.renderSeries);
  }

  /** Opens the chart of a series around a time. */
  private goTo(id: number, at: number): void {
    const series = this.list?.series.find((s) => s.id === id);
    if (series === undefined) return;
    this.selection.add(keyOf(series));
    this.selection.setZoom([at - AROUND_MS, at + AROUND_MS]);
    draw(() => document.querySelector(`.chart[data-series="${id}"]`)?.scrollIntoView({ block: "center" }));
  }
}

/** Number of dead letters over all stages. */
function deadCount({ sums }: api.Status): number {
  return sums.ingest.dead + sums.clean.dead + Object.values(sums.models).reduce((sum, model) => sum + model.dead, 0);
}

/** The first field that can be drawn. */
function firstNumeric({ fields, series }: api.SeriesList): string | null {
  const drawable = fields.find((field) => series.some((s) => typeof s.last[field] === "number"));
  return drawable ?? fields[0] ?? null;
}

new Page().mount(document.getElementById("app") as HTMLElement);
