// The newest dead letters: what was rejected, where, why, and the original as text or bytes. Never as markup.

import type { DeadLetter } from "../api";
import { h, keyed, show, text } from "../dom";
import { ago, count, moment } from "../format";

export const LETTERS_MAX = 50;

export class DeadLetters {
  private readonly total = h("span", { class: "tally" });
  private readonly list = h("ol", { class: "letters" });
  private readonly rows = keyed<DeadLetter>(this.list, keyOf, letterRow);
  private readonly empty = h(
    "p",
    { class: "hint" },
    "No dead letters: everything that came in could be read, cleaned and scored. What cannot is kept here with its original bytes.",
  );
  private letters: DeadLetter[] = [];
  readonly element = h(
    "section",
    { class: "panel", id: "dead-letters", "aria-label": "Dead letters" },
    h("header", {}, h("h2", {}, "Dead letters ", this.total)),
    this.empty,
    this.list,
  );

  /** The server's list, newest first. */
  set(letters: DeadLetter[]): void {
    this.letters = letters.slice(0, LETTERS_MAX);
    this.render();
  }

  /** One more, as it happens. */
  add(letter: DeadLetter): void {
    const key = keyOf(letter);
    if (this.letters.some((kept) => keyOf(kept) === key)) return;
    this.letters = [letter, ...this.letters].slice(0, LETTERS_MAX);
  }

  setTotal(total: number): void {
    text(this.total, count(total));
  }

  render(): void {
    show(this.empty, this.letters.length === 0);
    this.rows(this.letters);
  }
}

const keyOf = (l: DeadLetter): string =>
  [l.at, l.stage, l.component, l.reason, l.row, l.payload_hex ?? l.payload].join("\u0000");

function letterRow(letter: DeadLetter) {
  const when = h("time", { title: moment(letter.at), datetime: new Date(letter.at).toISOString() });
  const element = h(
    "li",
    {},
    h(
      "details",
      {},
      h(
        "summary",
        {},
        h("span", { class: "badge stage-badge", "data-stage": letter.stage }, letter.stage),
        h("span", { class: "event-title" }, letter.component),
        when,
        h("span", { class: "event-words" }, letter.reason),
      ),
      ...body(letter),
    ),
  );
  return { element, update: (): void => text(when, ago(letter.at)) };
}

function body(letter: DeadLetter): HTMLElement[] {
  const parts: HTMLElement[] = [];
  if (letter.time != null) parts.push(h("p", { class: "hint" }, `Event time ${moment(letter.time)}`));
  if (letter.row != null) parts.push(h("h4", {}, "Row"), h("pre", {}, letter.row));
  if (letter.payload != null || letter.payload_hex != null) parts.push(...payload(letter));
  if (letter.detail != null)
    parts.push(
      h("h4", {}, letter.detail.includes("\n") ? "Traceback" : "Detail"),
      h("pre", { class: "traceback" }, letter.detail),
    );
  return parts.length > 0 ? parts : [h("p", { class: "hint" }, "Nothing more is known about it.")];
}

function payload(letter: DeadLetter): HTMLElement[] {
  const pre = h("pre", { class: "payload" }, letter.payload ?? hexLines(letter.payload_hex ?? ""));
  const both = letter.payload != null && letter.payload_hex != null;
  const toggle = h("button", { type: "button", class: "small", "aria-pressed": "false", hidden: !both }, "hex");
  toggle.addEventListener("click", () => {
    const hex = toggle.getAttribute("aria-pressed") !== "true";
    toggle.setAttribute("aria-pressed", String(hex));
    pre.textContent = hex ? hexLines(letter.payload_hex ?? "") : letter.payload;
  });
  return [h("h4", {}, "Payload as it came ", toggle), pre];
}

/** Sixteen bytes a line: offset, bytes, readable characters. */
export function hexLines(hex: string): string {
  const bytes = (hex.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16));
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.slice(at, at + 16);
    const shown = row.map((b) => b.toString(16).padStart(2, "0")).join(" ");
    const readable = row.map((b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : ".")).join("");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${shown.padEnd(47)}  ${readable}`);
  }
  return lines.join("\n");
}
