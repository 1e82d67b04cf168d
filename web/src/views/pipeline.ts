// The pipeline as a drawn line with stations: sources → received → cleaners → clean → models → sinks.
//
// Stages are cards, topics are stations between them. The lines are measured from the cards after each layout; on a
// narrow screen the line runs down the left side instead.

import type { Stage, StageKind, StageState, Status } from "../api";
import { attribute, h, icon, keyed, s, setIcon, show, text, type IconName } from "../dom";
import { count, latencies, rate } from "../format";
import { draw } from "../frame";

const STATE_WORDS: Record<StageState, string> = {
  running: "running",
  waiting: "waiting",
  backing_off: "retrying",
  paused: "paused",
  stopped: "stopped",
  finished: "finished",
  elsewhere: "on another host",
};
const STATE_ICON: Record<StageState, IconName> = {
  running: "running",
  waiting: "waiting",
  backing_off: "warning",
  paused: "paused",
  stopped: "stopped",
  finished: "finished",
  elsewhere: "running",
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
    h(
      "header",
      {},
      h("h2", {}, "Pipeline"),
      h("p", { class: "hint" }, "Lag is the number of rows a stage is behind its input."),
    ),
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
    const element = h(
      "div",
      { class: "flow-column", role: "group", "aria-label": title },
      h("h3", {}, title),
      stations,
    );
    this.columns.push({ element, stations, moving: false });
    this.flow.append(element);
    return keyed<Stage>(stations, (stage) => `${stage.component} ${stage.name}`, stageCard);
  }

  private topicColumn(name: string): HTMLElement {
    const rows = h("b", {}, "0");
    const station = h(
      "div",
      { class: "topic", title: `Topic “${name}” of the log` },
      h("span", { class: "topic-dot" }),
      h("code", {}, name),
      rows,
      h("small", {}, "rows"),
    );
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
    if (!upright) {
      shown.forEach((column, i) => {
        const before = shown[i - 1];
        if (before !== undefined)
          paths.push(...tracks(ends(before, box), ends(column, box), before.moving || column.moving));
      });
      paths.push(...this.bypass(box));
    }
    const strokes = [
      ...paths.map(({ d }) => [d, "rail"]),
      ...paths.filter((p) => p.moving).map(({ d }) => [d, "moving"]),
    ];
    const drawn = [...this.lines.children];
    strokes.forEach(([d = "", kind = ""], i) => {
      const path = drawn[i] ?? this.lines.appendChild(s("path"));
      attribute(path, "d", d);
      attribute(path, "class", kind);
    });
    for (const extra of drawn.slice(strokes.length)) extra.remove();
    attribute(this.lines, "viewBox", `0 0 ${Math.round(box.width)} ${Math.round(box.height)}`);
  };

  /** Sinks also read `clean` directly: their line passes below the models and joins at the junction. */
  private bypass(box: DOMRect): { d: string; moving: boolean }[] {
    const [clean, models, sinks] = [this.columns[3], this.columns[4], this.columns[5]] as [Column, Column, Column];
    if (models.element.hidden || sinks.element.hidden) return [];
    const from = ends(clean, box)[0];
    const passed = ends(models, box);
    const first = passed[0];
    const join = junction(passed, ends(sinks, box));
    if (from === undefined || first === undefined) return [];
    const low = Math.max(...passed.map((end) => end.bottom)) + 13;
    const start = (from.right + first.left) / 2;
    const corner = 12;
    const d =
      `M${from.right} ${from.y} H${start - corner} Q${start} ${from.y} ${start} ${from.y + corner} V${low - corner} ` +
      `Q${start} ${low} ${start + corner} ${low} H${join.x - corner} Q${join.x} ${low} ${join.x} ${low - corner} V${join.y}`;
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
    return {
      left: c.left - box.left,
      right: c.right - box.left,
      y: c.top - box.top + c.height / 2,
      bottom: c.bottom - box.top,
    };
  });
}

/** Lines between two neighbouring columns; many to many meet in a junction, so that they do not cross. */
function tracks(from: End[], to: End[], moving: boolean): { d: string; moving: boolean }[] {
  if (from.length === 0 || to.length === 0) return [];
  const join = junction(from, to);
  const curve = (x0: number, y0: number, x1: number, y1: number): string =>
    `M${x0} ${y0} C${(x0 + x1) / 2} ${y0} ${(x0 + x1) / 2} ${y1} ${x1} ${y1}`;
  const direct = from.length === 1 || to.length === 1;
  const drawn = direct
    ? from.flatMap((a) => to.map((b) => curve(a.right, a.y, b.left, b.y)))
    : [...from.map((a) => curve(a.right, a.y, join.x, join.y)), ...to.map((b) => curve(join.x, join.y, b.left, b.y))];
  return drawn.map((d) => ({ d, moving }));
}

function junction(from: End[], to: End[]): { x: number; y: number } {
  const x = ((from[0]?.right ?? 0) + (to[0]?.left ?? 0)) / 2;
  const y =
    to.length === 1
      ? (to[0]?.y ?? 0)
      : from.length === 1
        ? (from[0]?.y ?? 0)
        : to.reduce((sum, end) => sum + end.y, 0) / to.length;
  return { x, y };
}

function stageCard(first: Stage) {
  const sign = icon(STATE_ICON[first.state]);
  const words = h("span", { class: "stage-words" });
  const facts = { rate: fact("a second"), lag: fact("lag"), errors: fact("errors"), latency: fact("p50 / p99") };
  const detail = h("p", { class: "stage-detail" });
  const name = h("strong", {}, first.name);
  const component = h("code", { title: first.component }, first.component);
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
    text(facts.latency.value, latencies(stage.latency_ms_p50, stage.latency_ms_p99));
    text(detail, stage.detail ?? "");
    attribute(detail, "title", stage.detail);
    show(detail, stage.detail != null && stage.detail !== "");
  };
  return { element, update };
}

function fact(name: string): { element: HTMLElement; value: HTMLElement } {
  const value = h("dd");
  return { element: h("div", {}, h("dt", {}, name), value), value };
}
