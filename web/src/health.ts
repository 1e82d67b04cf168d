// One sentence of health: the worst thing first, else that all is well, with the figures that prove it.

import type { Status } from "./api";
import { count, rate } from "./format";

export type Level = "good" | "quiet" | "attention" | "bad";
export interface Health {
  level: Level;
  sentence: string;
}

export function unbalanced(status: Status): string[] {
  const { ingest, clean, models } = status.sums;
  return [
    ...(ingest.balanced ? [] : ["ingest"]),
    ...(clean.balanced ? [] : ["clean"]),
    ...Object.entries(models).flatMap(([name, sum]) => (sum.balanced ? [] : [name])),
  ];
}

export const eventRate = (status: Status): number =>
  status.stages.filter((s) => s.stage === "ingest").reduce((sum, s) => sum + s.rate, 0);

export function health(status: Status): Health {
  const wrong = unbalanced(status);
  if (wrong.length > 0)
    return bad(`The sum of ${wrong.join(" and ")} does not balance: rows are missing or counted twice.`);
  const failed = status.models.find((m) => m.state === "failed");
  if (failed) return bad(`Model ${failed.name} has failed; rows go on being stored, see its last error below.`);
  const stopped = status.stages.find((s) => s.state === "stopped");
  if (stopped) return bad(`${stopped.name} has stopped${because(stopped.detail)}.`);
  const trouble = status.stages.find((s) => s.state === "backing_off");
  if (trouble)
    return attention(`${trouble.name} is retrying after an error${because(trouble.detail)}; nothing is lost.`);
  const restarting = status.models.find((m) => m.state === "restarting");
  if (restarting) return attention(`Model ${restarting.name} is restarting; its rows wait in the log.`);
  const skipped = status.models.reduce((sum, m) => sum + m.skipped, 0);
  if (skipped > 0)
    return attention(`All is running, but models skipped ${count(skipped)} rows when they fell too far behind.`);
  if (status.state === "draining") return attention("Draining: what is in flight is finished, then the pipeline ends.");
  if (status.sums.ingest.taken === 0) return { level: "quiet", sentence: "Ready and waiting for the first event." };
  const paused = status.stages.find((s) => s.state === "paused");
  if (paused) return attention(`${paused.name} is paused${because(paused.detail)}.`);
  const learning = status.models.filter((m) => m.state === "learning").map((m) => m.name);
  if (status.state === "idle")
    return { level: "quiet", sentence: "Idle: everything that came in is delivered, and every sum balances." };
  const tail = learning.length > 0 ? `, ${learning.join(" and ")} still learning` : "";
  return {
    level: "good",
    sentence: `All is well: ${rate(eventRate(status))} events a second come in and every sum balances${tail}.`,
  };
}

const because = (detail: string | null): string => (detail === null || detail === "" ? "" : ` (${detail})`);
const bad = (sentence: string): Health => ({ level: "bad", sentence });
const attention = (sentence: string): Health => ({ level: "attention", sentence });
