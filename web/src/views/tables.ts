// The tables on disk, each with a DuckDB query to copy.

import type { Table } from "../api";
import { copyable, h, keyed, show, text } from "../dom";
import { bytes, count } from "../format";

export class Tables {
  private readonly list = h("ul", { class: "tables" });
  private readonly rows = keyed<Table>(this.list, (table) => `${table.topic} ${table.path}`, tableRow);
  private readonly empty = h(
    "p",
    { class: "hint" },
    "No table yet. A parquet sink writes its first file after some seconds; if there is none, add it to the pipeline file:",
  );
  private readonly example = h("pre", {}, '[[sink]]\ntype = "parquet"\ntopic = "clean"');
  readonly element = h(
    "section",
    { class: "panel", id: "tables", "aria-label": "Tables" },
    h(
      "header",
      {},
      h("h2", {}, "Tables"),
      h("p", { class: "hint" }, "Parquet by day; readable while the pipeline runs."),
    ),
    this.empty,
    this.example,
    this.list,
  );

  update(tables: Table[]): void {
    show(this.empty, tables.length === 0);
    show(this.example, tables.length === 0);
    this.rows(tables);
  }
}

function tableRow(first: Table) {
  const facts = h("span", { class: "table-facts" });
  const path = h("code", { class: "path" }, first.path);
  const query = copyable(duckdb(first.path), `the DuckDB query for ${first.topic}`);
  const element = h("li", {}, h("div", { class: "model-head" }, h("strong", {}, first.topic), facts), path, query);
  const update = (table: Table): void => {
    text(
      facts,
      `${count(table.rows)} rows · ${count(table.files)} ${table.files === 1 ? "file" : "files"} · ${bytes(table.bytes)}`,
    );
  };
  return { element, update };
}

export function duckdb(path: string): string {
  const glob = `${path.replace(/\/+$/, "")}/**/*.parquet`.replaceAll("'", "''");
  return `SELECT * FROM read_parquet('${glob}', hive_partitioning = true)\nORDER BY time DESC LIMIT 20;`;
}
