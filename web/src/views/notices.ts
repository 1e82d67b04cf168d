// What the page says instead of data or above them: how to get in, that the connection is lost, what needs a look, what to
// do when nothing has come yet.

import type { Notice, SeriesList, Status } from "../api";
import { copyable, h, icon, show, text } from "../dom";
import { ago } from "../format";
import type { Link } from "../live";

/** 401: the whole page is this card. */
export class Locked {
  readonly element: HTMLElement;

  constructor(retry: () => void) {
    const again = h("button", { type: "button", class: "primary" }, "Try again");
    again.addEventListener("click", retry);
    this.element = h(
      "section",
      { class: "locked", hidden: true, "aria-label": "A token is needed" },
      icon("lock"),
      h("h1", {}, "This page needs its token"),
      h(
        "p",
        {},
        "Whoever can read the data directory may look in. On the machine where the pipeline runs, ask for the one-time address and open it in this browser:",
      ),
      copyable("trackside token", "the command"),
      h(
        "p",
        { class: "hint" },
        "In the pipeline's folder, or with --data and its data directory. It prints an address that opens once; from then on this browser stays signed in.",
      ),
      again,
    );
  }
}

/** A line over the page while the server is away; the last data stay. */
export class LostBanner {
  private readonly words = h("span");
  private readonly now = h("button", { type: "button", class: "small" }, "Try now");
  readonly element = h("div", { class: "banner", role: "alert", hidden: true }, icon("warning"), this.words, this.now);
  private link: Link = { state: "connecting" };

  constructor(retry: () => void) {
    this.now.addEventListener("click", retry);
    setInterval(() => this.tick(), 500);
  }

  set(link: Link): void {
    this.link = link;
    show(this.element, link.state === "lost");
    this.tick();
  }

  private tick(): void {
    if (this.link.state !== "lost") return;
    const seconds = Math.max(0, Math.ceil((this.link.retryAt - Date.now()) / 1000));
    text(
      this.words,
      `Connection lost (${this.link.reason}). What you see is the last that came; ${seconds === 0 ? "trying again …" : `next try in ${seconds} s.`}`,
    );
  }
}

/** A line for each thing that a human should look at: a full disk, a damaged log, a file that was not taken over. */
export class Alerts {
  readonly element = h("div", { class: "alerts", hidden: true, role: "status", "aria-label": "Needs a look" });
  private shown = "";

  update(notices: Notice[]): void {
    show(this.element, notices.length > 0);
    const lines = notices.map((notice) => [`${firstLine(notice.text)} · ${ago(notice.since_ms)}`, notice.help]);
    const words = JSON.stringify(lines);
    if (words === this.shown) return; // a screen reader reads out what changes
    this.shown = words;
    this.element.replaceChildren(
      ...notices.map((notice, i) => {
        const [what, help] = lines[i] ?? ["", ""];
        return h("p", { class: `alert ${notice.level}` }, icon("warning"), h("span", {}, what), h("span", { class: "hint" }, help));
      }),
    );
  }
}

function firstLine(words: string): string {
  return words.split("\n", 1)[0] ?? "";
}

/** No event yet: what to do next. */
export class FirstSteps {
  private readonly lead = h("p");
  private readonly line = copyable("", "the command");
  private readonly token = copyable("TOKEN=$(trackside token)   # in the pipeline's folder", "the command");
  private readonly curl = h("div", {}, this.token, this.line);
  readonly element = h(
    "div",
    { class: "first-steps", hidden: true },
    h("h3", {}, "Waiting for the first event"),
    this.lead,
    this.curl,
  );

  update(status: Status | null, list: SeriesList | null): void {
    const empty = list !== null && list.total === 0;
    show(this.element, empty);
    if (!empty || status === null) return;
    const sources = status.stages.filter((stage) => stage.stage === "ingest");
    const http = sources.some((stage) => stage.component === "http");
    const others = sources.filter((stage) => stage.component !== "http").map((stage) => stage.name);
    show(this.curl, http);
    text(this.lead, leadWords(http, others));
    this.line.set(curlLine(list.tags, list.fields));
  }
}

function leadWords(http: boolean, others: string[]): string {
  const also = others.length > 0 ? ` Also listening: ${others.join(", ")}.` : "";
  if (http) return `Send one from a terminal; its chart opens here by itself.${also}`;
  if (others.length > 0)
    return `The pipeline listens to ${others.join(", ")}; the first event opens its chart here by itself.`;
  return 'This pipeline has no source. Add one to the pipeline file, for instance [[source]] with type = "http", and start it again.';
}

/** Line protocol needs no time field: the server's clock stamps the event. */
function curlLine(tags: string[], fields: string[]): string {
  const escape = (name: string): string => name.replace(/[,= ]/g, "\\$&");
  const where = tags.map((tag, i) => `,${escape(tag)}=${["pump-1", "temp", "a", "b"][i] ?? "x"}`).join("");
  const event = `demo${where} ${escape(fields[0] ?? "value")}=21.5`.replaceAll("'", "'\\''");
  return `curl -i -H "Authorization: Bearer $TOKEN" \\\n  --data-binary '${event}' \\\n  ${location.origin}/api/v2/write`;
}
