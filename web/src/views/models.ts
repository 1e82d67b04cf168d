// The models: version, how they run, what they learn, and what went wrong last.

import type { Model } from "../api";
import { attribute, h, icon, keyed, setIcon, show, text, type IconName } from "../dom";
import { count } from "../format";

const STATE_ICON: Record<Model["state"], IconName> = {
  running: "running",
  learning: "learning",
  restarting: "warning",
  failed: "failed",
  elsewhere: "running",
};
const MODE_WORDS: Record<string, string> = { process: "in a worker process", in_process: "inside the engine" };

export class Models {
  private readonly list = h("ul", { class: "models" });
  private readonly rows = keyed<Model>(this.list, (model) => model.name, modelRow);
  private readonly empty = h("p", { class: "hint" }, "No model in this pipeline. Add one to the pipeline file:");
  private readonly example = h("pre", {}, '[[model]]\nname = "anomaly"\nuse = "trackside.models:Anomaly"');
  readonly element = h(
    "section",
    { class: "panel", id: "models", "aria-label": "Models" },
    h("header", {}, h("h2", {}, "Models")),
    this.empty,
    this.example,
    this.list,
  );

  update(models: Model[]): void {
    show(this.empty, models.length === 0);
    show(this.example, models.length === 0);
    this.rows(models);
  }
}

function modelRow(first: Model) {
  const sign = icon("running");
  const words = h("span");
  const use = h("code");
  const facts = h("p", { class: "model-facts" });
  const bar = h("progress", { max: 1, value: 0 });
  const learned = h("span");
  const learning = h("p", { class: "learning-line" }, bar, learned);
  const skipped = h("p", { class: "red" });
  const error = h("pre", { class: "traceback" });
  const trouble = h("details", {}, h("summary", {}, "Last error"), error);
  const element = h(
    "li",
    { "data-model": first.name },
    h(
      "div",
      { class: "model-head" },
      h("strong", {}, first.name),
      use,
      h("span", { class: "stage-state" }, sign, words),
    ),
    facts,
    learning,
    skipped,
    trouble,
  );
  const update = (model: Model): void => {
    attribute(element, "data-state", model.state);
    setIcon(sign, STATE_ICON[model.state] ?? "waiting");
    text(words, model.state === "elsewhere" ? "on another host" : model.state);
    text(use, model.use);
    text(facts, factsOf(model));
    show(learning, model.learning != null);
    if (model.learning != null) {
      const { seen, needed } = model.learning;
      bar.max = Math.max(1, needed);
      bar.value = Math.min(seen, needed);
      attribute(bar, "aria-label", "learned");
      text(learned, `learning: ${count(seen)} of ${count(needed)} rows`);
    }
    show(skipped, model.skipped > 0);
    text(skipped, `${count(model.skipped)} rows skipped: the model fell behind its backlog`);
    show(trouble, model.last_error != null);
    text(error, model.last_error ?? "");
  };
  return { element, update };
}

function factsOf(model: Model): string {
  return [
    `version ${model.version}`,
    MODE_WORDS[model.mode] ?? model.mode,
    model.pid == null ? null : `pid ${model.pid}`,
    model.restarts === 1 ? "1 restart" : `${count(model.restarts)} restarts`,
  ]
    .filter((part) => part !== null)
    .join(" · ");
}
