// The page in a real browser: against the running pipeline named by TRACKSIDE_URL (one-time address, with its token),
// else against the mock server. Needs a built page (`npm run build`) and Chromium (TRACKSIDE_CHROMIUM).
//
// TRACKSIDE_SHOTS=folder keeps screenshots, light and dark, wide and narrow. Against a real pipeline the data must hold
// an anomaly and a device named TRACKSIDE_HOSTILE (default `<img src=x onerror=alert(1)>`).

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test as always } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const BROWSER =
  process.env.TRACKSIDE_CHROMIUM ??
  ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const SHOTS = process.env.TRACKSIDE_SHOTS;
const HOSTILE = process.env.TRACKSIDE_HOSTILE ?? "<img src=x onerror=alert(1)>";
const REAL = process.env.TRACKSIDE_URL;
const WAIT = { timeout: 30_000 };
// Without a browser the tests are skipped by name; CI has one.
const skip =
  BROWSER === undefined && !process.env.CI && "no Chromium found; install it or name it in TRACKSIDE_CHROMIUM";
const test = (name, ...rest) => always(name, { ...rest.slice(0, -1)[0], ...(skip && { skip }) }, rest.at(-1));

let mock;
let browser;
let address = REAL;

before(async () => {
  if (skip) return;
  assert.ok(BROWSER, "no Chromium found; install it or name it in TRACKSIDE_CHROMIUM");
  if (address === undefined) address = await startMock();
  browser = await chromium.launch({ executablePath: BROWSER, args: ["--no-sandbox", "--disable-gpu"] });
});

after(async () => {
  await browser?.close();
  mock?.kill();
});

function startMock() {
  mock = spawn(process.execPath, [fileURLToPath(new URL("../mock/server.mjs", import.meta.url))], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  return new Promise((ready, failed) => {
    mock.stdout.once("data", (line) => ready(JSON.parse(line).url));
    mock.once("exit", (code) => failed(new Error(`the mock server ended with ${code}`)));
  });
}

/** A page that is signed in and live; `faults` collects errors and policy violations. */
async function open({ width = 1440, height = 900, colorScheme = "light", path = "" } = {}) {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme,
    deviceScaleFactor: width < 500 ? 2 : 1,
  });
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("dialog", (dialog) => {
    faults.push(`a dialog opened: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.goto(address);
  if (path !== "") await page.goto(new URL(path, address).href);
  await page.waitForSelector('.link[data-link="live"]', WAIT);
  return { page, faults, close: () => context.close() };
}

const charted = (page) =>
  page.waitForFunction(
    () => [...document.querySelectorAll(".chart")].some((c) => Number(c.dataset.points) > 10),
    null,
    WAIT,
  );

/** Waits until every canvas holds a picture: many painted pixels in many colours, not axes alone. */
const painted = (page) =>
  page.waitForFunction(
    () => {
      const canvases = [...document.querySelectorAll(".chart canvas")];
      const full = (canvas) => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const found = new Set();
        let pixels = 0;
        for (let i = 0; i < data.length; i += 4) {
          if (data[i + 3] === 0) continue;
          pixels += 1;
          found.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
        }
        return found.size > 20 && pixels > 1000;
      };
      return canvases.length > 0 && canvases.every(full);
    },
    null,
    { ...WAIT, polling: 250 },
  );

test("a chart is drawn and no rule of the policy is broken", async () => {
  const { page, faults, close } = await open();
  await charted(page);
  await painted(page);
  assert.deepEqual(faults, []);
  await close();
});

test("anomalies are marked, listed, and read by keyboard", async () => {
  const { page, close } = await open();
  await page.waitForSelector("#anomalies .event", WAIT);
  await page.locator("#anomalies .event").first().click(); // opens its chart around that time
  await page.waitForFunction(
    () => [...document.querySelectorAll(".chart")].some((c) => Number(c.dataset.anomalies) > 0),
    null,
    WAIT,
  );
  const chart = page.locator('.chart:not([data-anomalies="0"])').first();
  assert.match(await chart.locator(".badge.anomaly").innerText(), /\d+ anomal/);
  // A live chart may be drawn anew between the key and the look, which hides the tooltip: the key is pressed again.
  const tooltip = chart.locator(".tooltip-anomaly");
  for (const end = Date.now() + WAIT.timeout; !(await tooltip.isVisible()) && Date.now() < end; ) {
    await chart.locator(".plot").focus();
    await page.keyboard.press("Shift+ArrowLeft");
    await tooltip.waitFor({ timeout: 1000 }).catch(() => {});
  }
  assert.match(await chart.locator(".tooltip").innerText(), /score/);
  await close();
});

test("every sum is shown and balances", async () => {
  const { page, close } = await open();
  await page.waitForSelector('[data-sum="ingest"]', WAIT);
  // a running pipeline is seen between two commits at worst: one of the next statuses must balance throughout
  await page.waitForFunction(
    () => [...document.querySelectorAll("[data-sum]")].every((sum) => sum.dataset.balanced === "true"),
    null,
    WAIT,
  );
  const sums = await page
    .locator("[data-sum]")
    .evaluateAll((all) => all.map((sum) => sum.querySelector(".formula").textContent.replace(/\s+/g, " ").trim()));
  assert.ok(sums.length >= 2);
  for (const formula of sums) {
    const [left, right] = formula
      .split("=")
      .map((side) => [...side.matchAll(/[\d,]+/g)].reduce((n, [figure]) => n + Number(figure.replaceAll(",", "")), 0));
    assert.equal(left, right, formula);
  }
  await close();
});

test("a hostile device name is text", async () => {
  const { page, faults, close } = await open();
  await page.getByRole("searchbox").fill(HOSTILE.slice(0, 12));
  const row = page.locator(".series-row").first();
  await row.waitFor(WAIT);
  assert.ok((await row.innerText()).includes(HOSTILE), await row.innerText());
  if ((await row.getAttribute("aria-pressed")) === "false") await row.click();
  await page.waitForFunction(
    (name) => [...document.querySelectorAll(".chart h3")].some((title) => title.textContent.includes(name)),
    HOSTILE,
    WAIT,
  );
  assert.equal(await page.locator("img").count(), 0);
  assert.deepEqual(faults, []);
  await close();
});

test("the link keeps the charts; pause, zoom and reset work", async () => {
  const { page, close } = await open();
  await charted(page);
  await page.locator('.series-row[aria-pressed="false"], .series-row').first().click();
  const shown = await page.locator(".chart h3").allInnerTexts();
  const search = await page.evaluate(() => location.search);
  await page.reload();
  await page.waitForFunction((n) => document.querySelectorAll(".chart").length === n, shown.length, WAIT);
  assert.equal(await page.evaluate(() => location.search), search);
  assert.deepEqual(await page.locator(".chart h3").allInnerTexts(), shown);
  await page.locator(".chart .plot canvas").first().waitFor(WAIT);
  const box = await page.locator(".chart .plot").first().boundingBox();
  await page.mouse.move(box.x + 120, box.y + 80);
  await page.mouse.down();
  await page.mouse.move(box.x + 240, box.y + 80, { steps: 4 });
  await page.mouse.up();
  await page.getByRole("button", { name: "Reset zoom" }).click();
  await page.getByRole("button", { name: "Reset zoom" }).waitFor({ state: "hidden" });
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByRole("button", { name: "Resume" }).click();
  await close();
});

test("without a token the page says how to get one", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(new URL("/", address).href);
  await page.getByText("trackside token").first().waitFor(WAIT);
  await context.close();
});

test("the page fits wide and narrow screens, light and dark", async () => {
  for (const [width, height] of [
    [1440, 900],
    [390, 844],
    [360, 740],
  ]) {
    for (const colorScheme of ["light", "dark"]) {
      const { page, close } = await open({ width, height, colorScheme });
      await charted(page);
      await page.waitForSelector("#anomalies .event", WAIT);
      await page.waitForSelector('[data-sum="ingest"]', WAIT);
      const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(beyond <= 0, `${beyond} px too wide at ${width}`);
      if (SHOTS !== undefined) {
        mkdirSync(SHOTS, { recursive: true });
        // charts far outside the view are not painted: make everything fit
        await page.setViewportSize({ width, height: await page.evaluate(() => document.documentElement.scrollHeight) });
        await painted(page);
        await page.screenshot({ path: join(SHOTS, `page-${colorScheme}-${width}.png`), fullPage: true });
      }
      await close();
    }
  }
});

test(
  "a lost connection is said, the data stay, and it comes back",
  { skip: REAL !== undefined && "needs the mock" },
  async () => {
    const { page, close } = await open();
    await charted(page);
    await fetch(new URL("/mock/away?ms=2500", address));
    await page.getByRole("alert").waitFor(WAIT);
    assert.ok((await page.locator(".chart").count()) > 0);
    await page.waitForSelector('.link[data-link="live"]', WAIT);
    await page.getByRole("alert").waitFor({ state: "hidden" });
    await close();
    await answering();
  },
);

/** Waits until the mock server answers again, so that the next test meets it awake. */
async function answering() {
  const answers = () => fetch(address).then(() => true, () => false);
  for (const end = Date.now() + WAIT.timeout; !(await answers()) && Date.now() < end; )
    await new Promise((done) => setTimeout(done, 50));
}

test("an empty pipeline says what to do next", { skip: REAL !== undefined && "needs the mock" }, async () => {
  await fetch(new URL("/mock/scene?name=empty", address));
  const { page, close } = await open();
  await page.getByRole("heading", { name: "Waiting for the first event" }).waitFor(WAIT);
  const curl = await page.locator(".first-steps code").last().innerText();
  assert.ok(curl.includes(`${new URL(address).origin}/api/v2/write`), curl);
  await close();
  await fetch(new URL("/mock/scene?name=full", address));
});
