// The server's HTTP API as the page sees it: types of every answer and one function for each request.
//
// A field that may be null may also be left out: views compare with `!= null`. All addresses are relative to the page, the cookie is sent by the browser. A request that does not answer within
// `REQUEST_MS` is given up. `Locked` is thrown for 401, so that one place can show how to get in.

const REQUEST_MS = 10_000;

/** What a stage or model is doing, as told by the engine. */
export type StageState = "running" | "waiting" | "backing_off" | "paused" | "stopped" | "finished" | "elsewhere";
export type StageKind = "ingest" | "clean" | "model" | "sink";

export interface Stage {
  stage: StageKind;
  name: string;
  component: string;
  rate: number;
  lag: number;
  errors: number;
  latency_ms_p50: number | null;
  latency_ms_p99: number | null;
  state: StageState;
  detail: string | null;
}

export interface IngestSum {
  taken: number;
  received: number;
  dead: number;
  retried: number;
  balanced: boolean;
}

export interface CleanSum {
  received: number;
  clean: number;
  dead: number;
  filtered: number;
  filtered_by: Record<string, number>;
  lost: number;
  in_flight: number;
  retried?: number;
  balanced: boolean;
}

export interface ModelSum {
  clean: number;
  scored: number;
  dead: number;
  skipped: number;
  lost: number;
  in_flight: number;
  retried?: number;
  balanced: boolean;
}

export interface Learning {
  seen: number;
  needed: number;
}

export interface Model {
  name: string;
  use: string;
  version: string;
  mode: string;
  state: "running" | "learning" | "restarting" | "failed" | "elsewhere";
  learning: Learning | null;
  pid: number | null;
  restarts: number;
  last_error: string | null;
  skipped: number;
}

export interface Table {
  topic: string;
  rows: number;
  files: number;
  bytes: number;
  path: string;
}

/** Something that a human should look at. */
export interface Notice {
  key: string;
  level: "warning" | "error";
  text: string;
  help: string;
  since_ms: number;
}

export interface Status {
  pipeline: string;
  state: "running" | "idle" | "draining";
  version: string;
  uptime_s: number;
  url: string;
  durability: string;
  /** What an acknowledged event may not survive, and what to do about it. */
  weakness?: string | null;
  stages: Stage[];
  sums: { ingest: IngestSum; clean: CleanSum; models: Record<string, ModelSum> };
  refused: number;
  anomalies: number;
  forecasts: number;
  table_rows: number;
  models: Model[];
  tables: Table[];
  /** The gravest first; a server of an earlier version sends none. */
  notices?: Notice[];
}

export interface Series {
  id: number;
  key: (string | null)[];
  label: string;
  simulated: boolean;
  rows: number;
  last_seen: number;
  last: Record<string, number | string | boolean | null>;
  anomalies: number;
  learning: Learning | null;
  /** Usual time between two rows; the page estimates it when the server does not say. */
  interval_ms?: number | null;
}

export interface SeriesList {
  tags: string[];
  fields: string[];
  series: Series[];
  total: number;
}

export interface Forecast {
  made_at: number;
  t: number[];
  mean: (number | null)[];
  lower: (number | null)[];
  upper: (number | null)[];
}

/** New points of one series and field; `/api/history` has the same shape, plus a cursor. */
export interface Points {
  series: number;
  field: string;
  received: { t: number[]; v: (number | null)[] };
  clean: { t: number[]; v: (number | null)[]; q: number[] };
  scores: {
    t: number[];
    score: (number | null)[];
    anomaly: boolean[];
    expected?: (number | null)[];
    lower?: (number | null)[];
    upper?: (number | null)[];
    reason?: Record<string, string>;
  };
  forecast: Forecast | null;
}

export interface DeadLetter {
  at: number;
  stage: string;
  component: string;
  reason: string;
  time: number | null;
  row: string | null;
  payload: string | null;
  payload_hex: string | null;
  detail: string | null;
}

export interface Anomaly {
  at: number;
  series: number;
  label: string;
  field: string;
  value: number | null;
  score: number | null;
  reason: string | null;
  model: string;
}

/** The server wants a token that this browser does not have. */
export class Locked extends Error {}

async function get<T>(path: string): Promise<T> {
  const answer = await fetch(path, {
    headers: { accept: "application/json" },
    cache: "no-store",
    signal: AbortSignal.timeout(REQUEST_MS),
  });
  if (answer.status === 401) throw new Locked("the server asks for a token");
  if (!answer.ok) throw new Error(`${path.split("?")[0]} answered ${answer.status}`);
  return (await answer.json()) as T;
}

export const status = (): Promise<Status> => get("api/status");
export const series = (limit: number): Promise<SeriesList> => get(`api/series?limit=${limit}`);
export const dead = (limit: number): Promise<{ dead: DeadLetter[]; total: number }> => get(`api/dead?limit=${limit}`);
export const anomalies = (limit: number): Promise<{ anomalies: Anomaly[] }> => get(`api/anomalies?limit=${limit}`);

export function history(id: number, field: string, points: number): Promise<Points> {
  return get(`api/history?series=${id}&field=${encodeURIComponent(field)}&points=${points}`);
}

/** Address of the event stream; without series it carries status and dead letters only. */
export function liveUrl(ids: number[], field: string): string {
  if (ids.length === 0) return "api/live";
  return `api/live?series=${ids.join(",")}&field=${encodeURIComponent(field)}`;
}
