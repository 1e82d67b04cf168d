// Draw at most once per animation frame: whoever has something to draw asks for it here, as often as it likes.
//
// A job asked for twice before the next frame runs once. A hidden tab gets no frames and so draws nothing.

const jobs = new Set<() => void>();
let asked = false;

export function draw(job: () => void): void {
  jobs.add(job);
  if (asked) return;
  asked = true;
  requestAnimationFrame(run);
}

function run(): void {
  asked = false;
  const now = [...jobs];
  jobs.clear();
  for (const job of now) job();
}
