// The sums of "nothing vanishes", written out: every row that came in is named on the right side.

import type { Status } from "../api";
import { attribute, h, icon, keyed, setIcon, text } from "../dom";
import { count } from "../format";

interface Term {
  name: string;
  n: number;
  red?: boolean;
}
interface Sum {
  name: string;
  left: Term[];
  right: Term[];
  balanced: boolean;
  note: string;
}

export class Sums {
  private readonly list = h("ul", { class: "sums" });
  private readonly rows = keyed<Sum>(this.list, (sum) => sum.name, sumRow);
  readonly element = h(
    "section",
    { class: "panel sums-panel", "aria-label": "Sums" },
    h(
      "header",
      {},
      h("h2", {}, "Sums"),
      h(
        "p",
        { class: "hint" },
        "Nothing vanishes: what went in equals what came out, over the life of the data directory.",
      ),
    ),
    this.list,
  );

  update(status: Status): void {
    this.rows(sumsOf(status));
  }
}

export function sumsOf(status: Status): Sum[] {
  const { ingest, clean, models } = status.sums;
  const by = Object.entries(clean.filtered_by ?? {}).filter(([, n]) => n > 0);
  return [
    {
      name: "ingest",
      left: [{ name: "taken", n: ingest.taken }, ...retried(ingest.retried)],
      right: [
        { name: "received", n: ingest.received },
        { name: "dead", n: ingest.dead },
      ],
      balanced: ingest.balanced,
      note: status.refused > 0 ? `refused and not counted: ${count(status.refused)}` : "",
    },
    {
      name: "clean",
      left: [{ name: "received", n: clean.received }, ...retried(clean.retried)],
      right: [
        { name: "clean", n: clean.clean },
        { name: "dead", n: clean.dead },
        { name: "filtered", n: clean.filtered },
        ...lost(clean.lost),
        { name: "in flight", n: clean.in_flight },
      ],
      balanced: clean.balanced,
      note: by.length > 0 ? `filtered by ${by.map(([rule, n]) => `${rule} ${count(n)}`).join(", ")}` : "",
    },
    ...Object.entries(models).map(([name, sum]) => ({
      name,
      left: [{ name: "clean", n: sum.clean }, ...retried(sum.retried)],
      right: [
        { name: "scored", n: sum.scored },
        { name: "dead", n: sum.dead },
        { name: "skipped", n: sum.skipped, red: sum.skipped > 0 },
        ...lost(sum.lost),
        { name: "in flight", n: sum.in_flight },
      ],
      balanced: sum.balanced,
      note: sum.skipped > 0 ? "skipped rows are kept and can be backfilled" : "",
    })),
  ];
}

const lost = (n: number): Term[] => (n > 0 ? [{ name: "lost to damage", n, red: true }] : []);
const retried = (n: number | undefined): Term[] => (n !== undefined && n > 0 ? [{ name: "retried", n }] : []);

function sumRow(first: Sum) {
  const sign = icon("finished");
  const verdict = h("span", { class: "sum-verdict" });
  const formula = h("span", { class: "formula" });
  const note = h("span", { class: "sum-note" });
  const element = h(
    "li",
    { "data-sum": first.name },
    h("span", { class: "sum-name" }, first.name),
    formula,
    h("span", { class: "sum-result" }, sign, verdict),
    note,
  );
  let written = "";
  const update = (sum: Sum): void => {
    attribute(element, "data-balanced", String(sum.balanced));
    setIcon(sign, sum.balanced ? "finished" : "failed");
    text(verdict, sum.balanced ? "balanced" : `off by ${count(Math.abs(total(sum.left) - total(sum.right)))}`);
    text(note, sum.note);
    const now = JSON.stringify([sum.left, sum.right]);
    if (now === written) return;
    written = now;
    formula.replaceChildren(...terms(sum.left), operator("="), ...terms(sum.right));
  };
  return { element, update };
}

const total = (side: Term[]): number => side.reduce((sum, term) => sum + term.n, 0);

function terms(side: Term[]): Node[] {
  return side.flatMap((term, i) => [
    ...(i > 0 ? [operator("+")] : []),
    h("span", { class: term.red === true ? "term red" : "term" }, `${term.name} `, h("b", {}, count(term.n)), " "),
  ]);
}

const operator = (sign: string): HTMLElement => h("span", { class: "operator" }, `${sign} `);
