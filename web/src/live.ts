// The connection to the server: one event stream, found again after every loss, with the newest status kept.
//
// A stream that is silent for `SILENCE_MS` counts as lost, for a half-open connection tells nothing. Tries follow each
// other with growing pauses. What the page already shows stays; `onReconnect` asks for history again.

import * as api from "./api";

const PAUSES_MS = [500, 1000, 2000, 4000, 8000, 15_000];
const SILENCE_MS = 6000;
/** Selections often change in bursts; the stream is opened once for a burst. */
const SETTLE_MS = 120;

export type Link =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "lost"; retryAt: number; reason: string }
  | { state: "locked" };

export interface Listener {
  link(link: Link): void;
  status(status: api.Status): void;
  points(points: api.Points): void;
  dead(letter: api.DeadLetter): void;
  /** A stream has opened: whatever was missed must be asked for. `restarted` = the pipeline is a new one. */
  opened(restarted: boolean): void;
}

/** Browsers word a server that is away each in their own way. */
function reasonOf(error: unknown): string {
  if (error instanceof TypeError || error instanceof DOMException) return "the server does not answer";
  return error instanceof Error ? error.message : String(error);
}

export class Live {
  private stream: EventSource | null = null;
  private ids: number[] = [];
  private field = "";
  private tries = 0;
  private timer = 0;
  private settle = 0;
  private heard = 0;
  private uptime = -1;

  constructor(private readonly listener: Listener) {
    setInterval(() => this.watchdog(), 1000);
    addEventListener("online", () => this.retry());
  }

  start(): void {
    this.listener.link({ state: "connecting" });
    void this.connect();
  }

  /** Chooses which series are streamed. */
  watch(ids: number[], field: string): void {
    if (field === this.field && ids.join() === this.ids.join()) return;
    this.ids = [...ids];
    this.field = field;
    if (this.stream === null) return;
    clearTimeout(this.settle);
    this.settle = setTimeout(() => this.open(false), SETTLE_MS);
  }

  /** Try now, whatever the pause says. */
  retry(): void {
    if (this.stream !== null) return;
    clearTimeout(this.timer);
    void this.connect();
  }

  /** A plain request first: it tells a missing token (401) from a server that is away. */
  private async connect(): Promise<void> {
    clearTimeout(this.timer);
    try {
      const status = await api.status();
      const restarted = this.see(status);
      this.open(restarted);
    } catch (error) {
      if (error instanceof api.Locked) return this.lock();
      this.lose(reasonOf(error));
    }
  }

  private open(restarted: boolean): void {
    clearTimeout(this.settle);
    this.stream?.close();
    const stream = new EventSource(api.liveUrl(this.ids, this.field));
    this.stream = stream;
    this.heard = Date.now();
    stream.addEventListener("open", () => {
      this.tries = 0;
      this.heard = Date.now();
      this.listener.link({ state: "live" });
      this.listener.opened(restarted);
    });
    stream.addEventListener("error", () => this.drop("the stream ended"));
    this.hear<api.Status>(stream, "status", (status) => {
      if (this.see(status)) this.listener.opened(true);
    });
    this.hear<api.Points>(stream, "points", (points) => this.listener.points(points));
    this.hear<api.DeadLetter>(stream, "dead", (letter) => this.listener.dead(letter));
  }

  private hear<T>(stream: EventSource, event: string, act: (said: T) => void): void {
    stream.addEventListener(event, (message) => {
      if (stream !== this.stream) return;
      this.heard = Date.now();
      act(JSON.parse((message as MessageEvent<string>).data) as T);
    });
  }

  /** Passes a status on; true when the pipeline has been restarted since the last one. */
  private see(status: api.Status): boolean {
    const restarted = status.uptime_s < this.uptime - 0.5;
    this.uptime = status.uptime_s;
    this.listener.status(status);
    return restarted;
  }

  private watchdog(): void {
    if (this.stream !== null && Date.now() - this.heard > SILENCE_MS) this.drop("nothing heard for some seconds");
  }

  private drop(reason: string): void {
    this.stream?.close();
    this.stream = null;
    // the first try follows at once: a restarted server is often back already
    if (this.tries === 0) {
      this.tries = 1;
      void this.connect();
    } else this.lose(reason);
  }

  private lose(reason: string): void {
    const pause = PAUSES_MS[Math.min(this.tries, PAUSES_MS.length - 1)] as number;
    const wait = pause * (0.8 + Math.random() * 0.4); // so that fifty tabs do not come back in step
    this.tries += 1;
    this.listener.link({ state: "lost", retryAt: Date.now() + wait, reason });
    this.timer = setTimeout(() => void this.connect(), wait);
  }

  private lock(): void {
    this.listener.link({ state: "locked" });
    this.timer = setTimeout(() => void this.connect(), PAUSES_MS[4]);
  }
}
