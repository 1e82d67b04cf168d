// The pipeline as a drawn line with stations: sources → received → cleaners → clean → models → sinks.
//
// Stages are cards, topics are stations between them. The lines are measured from the cards after each layout; on a
// narrow screen the line runs down the left side instead.

import type { Stage, StageKind, StageState, Status } from "../api";
import { attribute, h, icon, keyed, s, setIcon, show, text, type IconName } from "../dom";
import { count, latency, rate } from "../format";
import { draw } from "../frame";

const STATE_WORDS: Record<StageState, string> = {
  running: "running",
  waiting: "waiting for data",
  backing_off: "retrying after an error",
  paused: "paused",
  stopped: "stopped",
  finished: "finished",
};
const STATE_ICON: Record<StageState, IconName> = {
  running: "running",
  waiting: "waiting",
  backing_off: "warning",
  paused: "paused",
  stopped: "stopped",
  finished: "finished",
};

interface Column {
  element: HTMLElement;
  stations: Element;
  moving: boolean;
}

export class Pipeline {
  private readonly lines = s("svg", { class: "flow-lines", "aria-hidden": "true" });
  private readonly flow = h("div", { class: "flow" }, this.lines);
  private readonly columns: Column[] = [];
  private readonly fill: Record<StageKind, (stages: Stage[]) => void>;
  private readonly topics: Record<"received" | "clean", HTMLElement>;
  readonly element = h(
    "section",
    { class: "panel", id: "pipeline", "aria-label": "Pipeline" },
    h("header", {}, h("h2", {}, "Pipeline"), h("p", { class: "hint" }, "Lag is the number of rows a stage is behind its input.")),
    this.flow,
  );

  constructor() {
    const ingest = this.stageColumn("Sources");
    const received = this.topicColumn("received");
    const clean = this.stageColumn("Cleaning");
    const cleaned = this.topicColumn("clean");
    const model = this.stageColumn("Models");
    const sink = this.stageColumn("Sinks");
    this.fill = { ingest, clean, model, sink };
    this.topics = { received, clean: cleaned };
    new ResizeObserver(() => draw(this.drawLines)).observe(this.flow);
  }

  update(status: Status): void {
    const kinds: StageKind[] = ["ingest", "clean", "model", "sink"];
    kinds.forEach((kind, i) => {
      const stages = status.stages.filter((stage) => stage.stage === kind);
      this.fill[kind](stages);
      const column = this.columns[[0, 2, 4, 5][i] as number] as Column;
      column.moving = stages.some((stage) => stage.rate > 0 && stage.state === "running");
      show(column.element, stages.length > 0);
    });
    text(this.topics.received, count(status.sums.ingest.received));
    text(this.topics.clean, count(status.sums.clean.clean));
    draw(this.drawLines);
  }

  private stageColumn(title: string): (stages: Stage[]) => void {
    const stations = h("div", { class: "stations" });
    const element = h("div", { class: "flow-column", role: "group", "aria-label": title }, h("h3", {}, title), stations);
    this.columns.push({ element, stations, moving: false });
    this.flow.append(element);
    return keyed<Stage>(stations, (stage) => `${stage.component} ${stage.name}`, stageCard);
  }

  private topicColumn(name: string): HTMLElement {
    const rows = h("b", {}, "0");
    const station = h("div", { class: "topic", title: `Topic “${name}” of the log` }, h("span", { class: "topic-dot" }), h("code", {}, name), rows, h("small", {}, "rows"));
    const stations = h("div", { class: "stations" }, station);
    const element = h("div", { class: "flow-column flow-topic" }, stations);
    this.columns.push({ element, stations, moving: false });
    this.flow.append(element);
    return rows;
  }

  private readonly drawLines = (): void => {
    const shown = this.columns.filter((column) => !column.element.hidden);
    const box = this.flow.getBoundingClientRect();
    const paths: { d: string; moving: boolean }[] = [];
    const upright = getComputedStyle(this.flow).flexDirection === "column";
    const link = (a: Column | undefined, b: Column | undefined, moving: boolean): void => {
      if (a === undefined || b === undefined) return;
      for (const from of ends(a, box)) for (const to of ends(b, box)) paths.push({ d: curve(from, to), moving });
    };
    if (!upright) {
      shown.forEach((column, i) => link(shown[i - 1], column, this.moves(shown[i - 1], column)));
      paths.push(...this.bypass(box));
    }
    const drawn = [...this.lines.children];
    paths.forEach(({ d, moving }, i) => {
      const path = drawn[i] ?? this.lines.appendChild(s("path"));
      attribute(path, "d", d);
      attribute(path, "class", moving ? "moving" : "still");
    });
    for (const extra of drawn.slice(paths.length)) extra.remove();
    attribute(this.lines, "viewBox", `0 0 ${Math.round(box.width)} ${Math.round(box.height)}`);
  };

  /** A line moves when the stage at either end does; topics have no rate of their own. */
  private moves(a: Column | undefined, b: Column): boolean {
    return (a?.moving ?? false) || b.moving;
  }

  /** Sinks also read `clean` directly: their line passes below the models. */
  private bypass(box: DOMRect): { d: string; moving: boolean }[] {
    const [clean, models, sinks] = [this.columns[3], this.columns[4], this.columns[5]] as [Column, Column, Column];
    if (models.element.hidden || sinks.element.hidden) return [];
    const from = ends(clean, box)[0];
    const to = ends(sinks, box).at(-1);
    if (from === undefined || to === undefined) return [];
    const lowest = Math.max(...ends(models, box).map((end) => end.bottom)) + 13;
    const [start, stop] = [from.right + 26, to.left - 26];
    const corner = 16;
    const d =
      `M${from.right} ${from.y} H${start - corner} Q${start} ${from.y} ${start} ${from.y + corner} V${lowest - corner} ` +
      `Q${start} ${lowest} ${start + corner} ${lowest} H${stop - corner} Q${stop} ${lowest} ${stop} ${lowest - corner} ` +
      `V${to.y + corner * Math.sign(lowest - to.y)} Q${stop} ${to.y} ${stop + corner} ${to.y} H${to.left}`;
    return [{ d, moving: sinks.moving }];
  }
}

interface End {
  left: number;
  right: number;
  y: number;
  bottom: number;
}

/** Where lines meet each card of a column. */
function ends(column: Column, box: DOMRect): End[] {
  return [...column.stations.children].map((card) => {
    const c = card.getBoundingClientRect();
    return { left: c.left - box.left, right: c.right - box.left, y: c.top - box.top + c.height / 2, bottom: c.bottom - box.top };
  });
}

function curve(from: End, to: End): string {
  const middle = (from.right + to.left) / 2;
  return `M${from.right} ${from.y} C${middle} ${from.y} ${middle} ${to.y} ${to.left} ${to.y}`;
}

function stageCard(first: Stage) {
  const sign = icon(STATE_ICON[first.state]);
  const words = h("span", { class: "stage-words" });
  const facts = { rate: fact("a second"), lag: fact("lag"), errors: fact("errors"), latency: fact("p50 / p99") };
  const detail = h("p", { class: "stage-detail" });
  const name = h("strong", {}, first.name);
  const component = h("code", {}, first.component);
  show(component, first.component !== first.name);
  const element = h(
    "div",
    { class: "stage", "data-stage": first.stage },
    h("div", { class: "stage-head" }, name, component, h("span", { class: "stage-state" }, sign, words)),
    h("dl", {}, ...Object.values(facts).map((f) => f.element)),
    detail,
  );
  const update = (stage: Stage): void => {
    attribute(element, "data-state", stage.state);
    setIcon(sign, STATE_ICON[stage.state] ?? "waiting");
    text(words, STATE_WORDS[stage.state] ?? stage.state);
    text(facts.rate.value, rate(stage.rate));
    text(facts.lag.value, count(stage.lag));
    attribute(facts.lag.value, "data-tone", stage.lag > Math.max(1000, stage.rate * 5) ? "warning" : null);
    text(facts.errors.value, count(stage.errors));
    attribute(facts.errors.value, "data-tone", stage.errors > 0 ? "warning" : null);
    text(facts.latency.value, stage.latency_ms_p50 === null ? "–" : `${latency(stage.latency_ms_p50)} / ${latency(stage.latency_ms_p99)}`);
    text(detail, stage.detail ?? "");
    attribute(detail, "title", stage.detail);
    show(detail, stage.detail !== null && stage.detail !== "");
  };
  return { element, update };
}

function fact(name: string): { element: HTMLElement; value: HTMLElement } {
  const value = h("dd");
  return { element: h("div", {}, h("dt", {}, name), value), value };
}
