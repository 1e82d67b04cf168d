// The page's test bench: answers like the real server (docs: web/README.md), from a made-up fleet, without Rust.
//
//   npm run build && npm run mock            → prints one line of JSON with the one-time address
//   MOCK_SCENE=empty|idle|trouble npm run mock
//
// `POST /mock/scene?name=…` changes the scene, `/mock/restart` starts anew, `/mock/away?ms=…` drops all connections and
// answers nothing for a while. The same strict Content-Security-Policy is sent as by the real server.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { HOSTILE, LIVE_MS, fleet } from "./fleet.mjs";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const TOKEN = process.env.TRACKSIDE_TOKEN ?? "mock-token";
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};
const POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

let scene = process.env.MOCK_SCENE ?? "full";
let awayUntil = 0;
let world = begin();
const streams = new Set();

function begin() {
  return {
    started: Date.now() - (scene === "restarted" ? 0 : 754_000),
    sensors: scene === "empty" ? [] : fleet(),
    dead: scene === "empty" ? [] : firstLetters(),
  };
}

function firstLetters() {
  const now = Date.now();
  const letter = (ago, stage, component, reason, rest) => ({
    at: now - ago,
    stage,
    component,
    reason,
    time: null,
    row: null,
    payload: null,
    payload_hex: null,
    detail: null,
    ...rest,
  });
  const payload = (text) => ({ payload: text, payload_hex: Buffer.from(text).toString("hex") });
  return [
    letter(4_000, "ingest", "http", "line 3: expected `:` at column 14, found `}`", {
      ...payload('{"device":"pump-1","sensor"}'),
      detail: "line 3",
    }),
    letter(
      61_000,
      "ingest",
      "http",
      "field `value`: expected a float, got text `<script>alert(1)</script>`",
      payload('{"device":"pump-2","sensor":"temp","value":"<script>alert(1)</script>"}'),
    ),
    letter(190_000, "model", "anomaly", "ValueError: cannot convert float NaN to integer", {
      time: now - 191_000,
      row: '{"time":"2026-02-11T10:22:04.118Z","device":"pump-2","sensor":"pressure","value":1013.42}',
      detail:
        'Traceback (most recent call last):\n  File "my_models.py", line 31, in update\n    bucket = int(value / spread)\nValueError: cannot convert float NaN to integer',
    }),
    letter(400_000, "clean", "range", "value 4,812.0 is outside −40 … 125 and the rule says reject", {
      time: now - 400_200,
      row: '{"device":"pump-1","sensor":"temp","value":4812.0}',
    }),
    letter(900_000, "ingest", "mqtt", "payload is not UTF-8", {
      payload: "\ufffd\ufffd\u0000\u0001T=21",
      payload_hex: "fffe0001543d3231",
    }),
  ];
}

setInterval(() => {
  if (scene !== "empty" && scene !== "idle") {
    const now = Date.now();
    const forced = Math.floor(now / LIVE_MS) % 90 < 3; // a new anomaly every 45 s
    for (const s of world.sensors)
      if (s.device !== "quiet-1") s.measure(now, forced && s.device === "pump-1" && s.sensor === "temp");
    if (Math.floor(now / LIVE_MS) % 60 === 0) addLetter();
  }
  const fresh = new Map(world.sensors.map((s) => [s.id, s.takeFresh()]));
  for (const stream of streams)
    for (const id of stream.ids) {
      const points = fresh.get(id);
      if (points !== undefined && points.received.t.length > 0) send(stream, "points", points);
    }
}, LIVE_MS).unref();
setInterval(() => streams.forEach((stream) => send(stream, "status", status())), 1000).unref();

function addLetter() {
  const letter = { ...firstLetters()[0], at: Date.now() };
  world.dead.unshift(letter);
  streams.forEach((stream) => send(stream, "dead", letter));
}

const send = (stream, event, data) => stream.answer.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
const sum = (list, of) => list.reduce((n, item) => n + of(item), 0);

function status() {
  const { sensors, dead } = world;
  const count = (stage) => dead.filter((letter) => letter.stage === stage).length;
  const received = sum(sensors, (s) => s.rows);
  const filtered = sum(sensors, (s) => s.dropped);
  const clean = received - filtered - count("clean");
  const busy = scene === "full" || scene === "trouble";
  const inFlight = busy ? 3 : 0;
  const trouble = scene === "trouble";
  const state = busy ? "running" : "waiting";
  const stage = (stage, name, component, rate, p50, p99, rest = {}) => ({
    stage,
    name,
    component,
    rate: busy ? rate : 0,
    lag: 0,
    errors: 0,
    latency_ms_p50: busy ? p50 : null,
    latency_ms_p99: busy ? p99 : null,
    state,
    detail: null,
    ...rest,
  });
  const skipped = trouble ? 1280 : 0;
  return {
    pipeline: "demo",
    state: busy ? "running" : "idle",
    version: "0.1.0",
    uptime_s: (Date.now() - world.started) / 1000,
    url: "http://127.0.0.1:7878",
    durability: "fsync before acknowledge, one disk",
    stages: [
      stage("ingest", "http", "http", 0.4, 1.2, 4.1, { errors: count("ingest") }),
      stage("ingest", "this machine", "host", 6, 0.9, 3.2),
      stage("ingest", "fleet", "generate", 16, 0.8, 2.9),
      stage("clean", "clean", "clean", 22.1, 0.31, 0.92, { lag: inFlight }),
      stage(
        "model",
        "anomaly",
        "trackside.models:Anomaly",
        22,
        2.1,
        6.4,
        trouble ? { state: "running", lag: 18_204, errors: 4 } : {},
      ),
      stage("model", "forecast", "trackside.models:Forecast", 22, 2.6, 9.8),
      stage("sink", "tables", "parquet", 22, 41, 120),
      stage(
        "sink",
        "alerts",
        "webhook",
        0.1,
        38,
        210,
        trouble
          ? {
              state: "backing_off",
              errors: 7,
              detail: "POST http://127.0.0.1:9/hook: connection refused; next try in 8 s",
            }
          : {},
      ),
    ],
    sums: {
      ingest: { taken: received + count("ingest"), received, dead: count("ingest"), retried: 0, balanced: true },
      clean: {
        received,
        clean: clean - inFlight,
        dead: count("clean"),
        filtered,
        filtered_by: { dedupe: Math.floor(filtered / 2), range: Math.ceil(filtered / 2) },
        in_flight: inFlight,
        balanced: true,
      },
      models: {
        anomaly: {
          clean: clean - inFlight,
          scored: clean - inFlight - count("model") - skipped,
          dead: count("model"),
          skipped,
          in_flight: 0,
          balanced: true,
        },
        forecast: {
          clean: clean - inFlight,
          scored: clean - inFlight,
          dead: 0,
          skipped: 0,
          in_flight: trouble ? 5 : 0,
          balanced: !trouble,
        },
      },
    },
    refused: 0,
    anomalies: sum(sensors, (s) => s.anomalies.length),
    forecasts: sum(sensors, (s) => s.forecast?.t.length ?? 0) * 12,
    table_rows: Math.max(0, clean - 40),
    models: [
      {
        name: "anomaly",
        use: "trackside.models:Anomaly",
        version: "1",
        mode: "process",
        state: trouble ? "restarting" : "running",
        learning: null,
        pid: trouble ? null : 41_207,
        restarts: trouble ? 3 : 0,
        last_error: trouble ? firstLetters()[2].detail : null,
        skipped,
      },
      {
        name: "forecast",
        use: "trackside.models:Forecast",
        version: "1",
        mode: "in_process",
        state: "learning",
        learning: { seen: sensors.length > 0 ? 37 : 0, needed: 150 },
        pid: null,
        restarts: 0,
        last_error: null,
        skipped: 0,
      },
    ],
    tables:
      sensors.length === 0
        ? []
        : ["clean", "scores.anomaly", "dead-letter"].map((topic, i) => ({
            topic,
            rows: [clean, clean, dead.length][i],
            files: 4 - i,
            bytes: [812_000, 604_000, 4100][i],
            path: `/srv/plant/data/tables/${topic}`,
          })),
  };
}

const API = {
  "/api/status": () => status(),
  "/api/series": () => ({
    tags: ["device", "sensor"],
    fields: ["value"],
    series: world.sensors.map((s) => s.describe()),
    total: world.sensors.length,
  }),
  "/api/history": (query) => ({
    ...world.sensors[Number(query.get("series"))].history(Number(query.get("points") ?? 2000)),
    cursor: "0",
  }),
  "/api/dead": () => ({ dead: world.dead.slice(0, 50), total: world.dead.length }),
  "/api/anomalies": () => ({
    anomalies: world.sensors
      .flatMap((s) => s.anomalies)
      .sort((a, b) => b.at - a.at)
      .slice(0, 50),
  }),
};

function control(path, query) {
  if (path === "/mock/scene") scene = query.get("name") ?? "full";
  if (path === "/mock/away") awayUntil = Date.now() + Number(query.get("ms") ?? 3000);
  if (path === "/mock/restart") scene = "full";
  if (path !== "/mock/away")
    world = { ...begin(), started: path === "/mock/restart" ? Date.now() : Date.now() - 754_000 };
  for (const stream of streams) stream.answer.destroy();
}

function openStream(request, answer, query) {
  answer.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  const stream = { answer, ids: (query.get("series") ?? "").split(",").filter(Boolean).map(Number) };
  streams.add(stream);
  request.on("close", () => streams.delete(stream));
  send(stream, "status", status());
}

async function file(path, answer) {
  const name = normalize(path === "/" ? "/index.html" : path).replace(/^(\.\.[/\\])+/, "");
  try {
    const body = await readFile(join(DIST, name));
    answer.writeHead(200, { "content-type": TYPES[extname(name)] ?? "application/octet-stream" }).end(body);
  } catch {
    answer.writeHead(404).end("not found; was the page built? npm run build\n");
  }
}

const server = createServer((request, answer) => {
  const url = new URL(request.url, "http://mock");
  answer.setHeader("content-security-policy", POLICY);
  if (Date.now() < awayUntil) return request.socket.destroy();
  if (url.pathname.startsWith("/mock/")) {
    control(url.pathname, url.searchParams);
    return answer.end("ok\n");
  }
  if (url.pathname === "/" && url.searchParams.get("token") === TOKEN) {
    return answer
      .writeHead(303, { location: "/", "set-cookie": `trackside=${TOKEN}; HttpOnly; SameSite=Strict; Path=/` })
      .end();
  }
  const known = (request.headers.cookie ?? "").includes(`trackside=${TOKEN}`);
  if (url.pathname.startsWith("/api/") && !known) {
    return answer
      .writeHead(401, { "content-type": "application/json" })
      .end('{"error":"a token is needed","hint":"run trackside token"}');
  }
  if (url.pathname === "/api/live") return openStream(request, answer, url.searchParams);
  const answers = API[url.pathname];
  if (answers === undefined) return void file(url.pathname, answer);
  answer
    .writeHead(200, { "content-type": "application/json", "cache-control": "no-store" })
    .end(JSON.stringify(answers(url.searchParams)));
});

server.listen(Number(process.env.MOCK_PORT ?? 0), "127.0.0.1", () => {
  const address = `http://127.0.0.1:${server.address().port}`;
  console.log(JSON.stringify({ ready: true, url: `${address}/?token=${TOKEN}`, hostile: HOSTILE }));
});
