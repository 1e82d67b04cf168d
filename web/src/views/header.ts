// Head of the page: name, connection, durability, uptime, theme; below it the sentence of health and the key figures.

import type { Status } from "../api";
import { attribute, h, icon, s, setIcon, text, type IconName } from "../dom";
import { clock, count, duration, rate } from "../format";
import { eventRate, health, type Level } from "../health";
import type { Link } from "../live";
import { setTheme, theme, type Theme } from "../palette";

const LEVEL_ICON: Record<Level, IconName> = { good: "finished", quiet: "waiting", attention: "warning", bad: "failed" };
const LINK_WORDS: Record<Link["state"], string> = {
  connecting: "connecting",
  live: "live",
  lost: "connection lost",
  locked: "locked",
};

export class Header {
  private readonly name = h("span", { class: "pipeline-name" }, "…");
  private readonly link = h("span", { class: "link", "data-link": "connecting" }, "connecting");
  private readonly durabilityWords = h("span", {}, "");
  private readonly durability = h(
    "span",
    { class: "fact durability", hidden: true, title: "What an acknowledgement promises" },
    icon("disk"),
    this.durabilityWords,
  );
  private readonly uptime = h("span", { class: "fact uptime" });
  readonly element = h(
    "header",
    { class: "top" },
    h("div", { class: "brand" }, mark(), h("span", { class: "wordmark" }, "Trackside"), this.name),
    h(
      "nav",
      { "aria-label": "Sections" },
      ...["Charts", "Pipeline", "Anomalies", "Dead letters", "Models", "Tables"].map(jump),
    ),
    h("div", { class: "facts" }, this.link, this.durability, this.uptime, themeButton()),
  );

  update(status: Status): void {
    text(this.name, status.pipeline);
    text(this.durabilityWords, status.durability);
    this.durability.hidden = status.durability === "";
    text(this.uptime, `up ${duration(status.uptime_s)}`);
    attribute(this.uptime, "title", `Trackside ${status.version}, ${status.url}`);
    const title = `${status.pipeline} · Trackside`;
    if (document.title !== title) document.title = title;
  }

  setLink(link: Link): void {
    attribute(this.link, "data-link", link.state);
    text(this.link, LINK_WORDS[link.state]);
  }
}

function jump(name: string): HTMLElement {
  return h("a", { href: `#${name.toLowerCase().replace(" ", "-")}` }, name);
}

/** The sentence and the figures. */
export class Overview {
  private readonly sign = icon("waiting");
  private readonly sentence = h("p", { class: "health-words", role: "status" }, "Connecting …");
  private readonly state = h("span", { class: "badge state" });
  private readonly health = h("div", { class: "health", "data-level": "quiet" }, this.sign, this.sentence, this.state);
  private heard = 0;
  private readonly figures = new Map<string, HTMLElement>();
  private readonly list = h("dl", { class: "figures" });
  /** On a phone the header has no room for these. */
  private readonly small = h("p", { class: "overview-small" });
  /** What an acknowledgement here does not promise. */
  private readonly weakness = h("p", { class: "overview-weakness", role: "note", hidden: true });
  readonly element = h(
    "section",
    { class: "overview", "aria-label": "Overview" },
    this.health,
    this.weakness,
    this.list,
    this.small,
  );

  /** While the server is away nothing is claimed about its health. */
  setLink(link: Link): void {
    if (link.state !== "lost" || this.heard === 0) return;
    this.say("attention", `No word from the pipeline since ${clock(this.heard)}; the figures are from then.`);
  }

  private say(level: Level, sentence: string): void {
    attribute(this.health, "data-level", level);
    setIcon(this.sign, LEVEL_ICON[level]);
    text(this.sentence, sentence);
  }

  update(status: Status): void {
    const { level, sentence } = health(status);
    this.heard = Date.now();
    this.say(level, sentence);
    text(this.state, status.state);
    attribute(this.state, "data-state", status.state);
    text(this.weakness, status.weakness ?? "");
    this.weakness.hidden = !status.weakness;
    text(this.small, `${status.durability} · up ${duration(status.uptime_s)} · ${status.state}`);
    const { ingest, clean, models } = status.sums;
    const dead = ingest.dead + clean.dead + Object.values(models).reduce((sum, m) => sum + m.dead, 0);
    this.figure("events a second", rate(eventRate(status)));
    this.figure("received", count(ingest.received));
    this.figure("clean", count(clean.clean));
    this.figure("anomalies", count(status.anomalies), status.anomalies > 0 ? "anomaly" : "");
    this.figure("forecasts", count(status.forecasts));
    this.figure("dead letters", count(dead), dead > 0 ? "warning" : "");
    this.figure("refused", count(status.refused), status.refused > 0 ? "warning" : "");
    this.figure("rows in tables", count(status.table_rows));
  }

  private figure(name: string, said: string, tone = ""): void {
    let place = this.figures.get(name);
    if (place === undefined) {
      place = h("dd");
      this.figures.set(name, place);
      this.list.append(h("div", {}, h("dt", {}, name), place));
    }
    text(place, said);
    attribute(place, "data-tone", tone);
  }
}

function mark(): SVGSVGElement {
  return s(
    "svg",
    { class: "mark", viewBox: "0 0 32 32", "aria-hidden": "true" },
    s("rect", { class: "mark-ground", width: 32, height: 32, rx: 8 }),
    s("path", { class: "mark-line", d: "M4 21h6l3-8 4 13 3.5-9H28" }),
    s("circle", { class: "mark-signal", cx: 22.5, cy: 8.5, r: 3.5 }),
  );
}

const THEMES: Theme[] = ["system", "light", "dark"];
const THEME_ICON: Record<Theme, IconName> = { system: "system", light: "sun", dark: "moon" };

function themeButton(): HTMLElement {
  const picture = icon(THEME_ICON[theme()]);
  const button = h("button", { type: "button", class: "quiet theme" }, picture);
  const describe = (): void => {
    const words = `Theme: ${theme() === "system" ? "as the system" : theme()}. Change`;
    attribute(button, "aria-label", words);
    attribute(button, "title", words);
    setIcon(picture, THEME_ICON[theme()]);
  };
  button.addEventListener("click", () => {
    setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length] as Theme);
    describe();
  });
  describe();
  return button;
}
