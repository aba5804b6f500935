// The demo's page: sends requests with tcaptcha.js as any page would, then shows their steps.
// The server's steps come from /trace/<number>.

import captcha, { CaptchaError, TCaptcha } from "/tcaptcha/tcaptcha.js";

/** @import { Pair } from "/tcaptcha/tcaptcha.js" */
/** @typedef {"ok" | "refused" | "warn" | "skipped"} State */
/** @typedef {{ who: string, state: State, title: string, facts: [string, string][] }} Step */
/** @typedef {{ number: number, method: string, path: string, status: number, outcome: string, reason: string, steps: Step[] }} Trace */
/** @typedef {{ label: string, state: State, title: string, text: string, steps: Step[] }} Entry */

const KEPT = 20;
const STATES = /** @type {Record<string, State>} */ ({
  passed: "ok",
  unchecked: "warn",
  refused: "refused",
});
const LET_IN = /** @type {Record<string, string>} */ ({
  passed: "let in",
  unchecked: "let in unchecked",
});
const PARTS = ["Server", "Gate", "Verifier", "Tencent", "Handler"];
const FAILED = /** @type {Record<string, string>} */ ({
  closed: "The visitor closed the challenge.",
  load: "Tencent’s script could not be loaded.",
  network: "Tencent’s script could not get a challenge.",
  settings: "The captcha’s settings could not be fetched.",
  timeout: "Tencent’s script took too long.",
});

/** @param {string} id */
const find = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const { appId, backend } = document.documentElement.dataset;
const form = /** @type {HTMLFormElement} */ (find("login"));

// Requests and their steps

/** @type {Entry[]} */
const entries = JSON.parse(sessionStorage.getItem("entries") ?? "[]");

/**
 * @param {string} who
 * @param {State} state
 * @param {string} title
 * @param {Record<string, string | null>} facts
 * @returns {Step}
 */
function step(who, state, title, facts = {}) {
  const known = Object.entries(facts).filter(([, value]) => value !== null);
  return { who, state, title, facts: /** @type {[string, string][]} */ (known) };
}

/** @param {Pair} pair */
function solved({ ticket, randstr }, title = "Solved the challenge") {
  return step("Page", "ok", title, { Ticket: `${ticket.slice(0, 12)}…`, Randstr: randstr });
}

/**
 * @param {Trace} trace
 * @param {string} text
 * @param {Step} first
 * @param {Step} last
 */
function keep(trace, text, first, last) {
  const state = STATES[trace.outcome];
  entries.push({
    label: `${trace.number} · ${trace.method} ${trace.path} · ${trace.status}`,
    state,
    title: `${trace.status} · ${LET_IN[trace.outcome] ?? trace.reason}`,
    text,
    steps: [first, ...trace.steps, last],
  });
}

/**
 * @param {number} number
 * @returns {Promise<Trace | undefined>}
 */
async function traceOf(number) {
  const answer = await fetch(`/trace/${number}`);
  return answer.ok ? answer.json() : undefined;
}

/**
 * Follows a request that was answered.
 * @param {Response} answer
 * @param {Step} first What the page did before it.
 */
async function follow(answer, first) {
  const trace = await traceOf(Number(answer.headers.get("X-Trace")));
  if (!trace) return;
  const body = await answer.json();
  const greeting = body.user ? `Hello, ${body.user}.` : `Comment accepted: ${body.comment}`;
  const text = body.detail ?? greeting;
  const last = step("Page", STATES[trace.outcome], `Shows “${text}”`, {
    Status: String(answer.status),
    Type: answer.headers.get("Content-Type"),
    "Retry-After": answer.headers.get("Retry-After"),
  });
  keep(trace, text, first, last);
  show();
}

/**
 * Keeps the refusal of a request that was then sent again.
 * @param {number} number
 * @param {string} path
 * @param {string} then
 */
async function followRefused(number, path, then) {
  const trace = await traceOf(number);
  if (trace?.outcome !== "refused" || trace.path !== path) return;
  const first = step("Page", "ok", "Sent without a ticket");
  keep(trace, then, first, step("Page", "warn", then, { Status: String(trace.status) }));
}

/** @param {unknown} error */
function broke(error) {
  const code = error instanceof CaptchaError ? error.code : "";
  const title = FAILED[code] ?? "The page failed.";
  const facts = { "error.code": code || null, Message: /** @type {Error} */ (error).message };
  entries.push({
    label: `not sent · ${code || "error"}`,
    state: code === "closed" ? "warn" : "refused",
    title: "Nothing sent",
    text: title,
    steps: [
      step("Page", code === "closed" ? "warn" : "refused", title, facts),
      ...PARTS.map((part) => step(part, "skipped", "Not reached")),
    ],
  });
  show();
}

// Display

/**
 * @param {string} tag
 * @param {Record<string, string>} attributes
 * @param {(Node | string)[]} children
 */
function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const WORDS = { ok: "fine", refused: "refused", warn: "attention", skipped: "not reached" };

/** @param {Step} step */
function stepShown({ who, state, title, facts }) {
  const pairs = facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
  return make(
    "li",
    { "data-state": state },
    make("h3", {}, who, make("span", { class: "unseen" }, `: ${WORDS[state]}`)),
    make("p", {}, title),
    ...(pairs.length ? [make("dl", { class: "facts" }, ...pairs)] : []),
  );
}

/**
 * @param {State} state
 * @param {string} title
 * @param {string} text
 */
function announce(state, title, text) {
  const verdict = find("verdict");
  verdict.dataset.state = state;
  verdict.replaceChildren(make("strong", {}, title), make("span", {}, text));
}

/** @param {string} text */
function wait(text) {
  announce("skipped", "Waiting for the gate’s probes", text);
}

function show(shown = entries.length - 1) {
  entries.splice(0, entries.length - KEPT);
  sessionStorage.setItem("entries", JSON.stringify(entries));
  const at = Math.min(shown, entries.length - 1);
  const { state, title, text, steps } = entries[at];
  announce(state, title, text);
  find("steps").classList.add("filled");
  find("steps").replaceChildren(...steps.map(stepShown));
  showHistory(at);
  find("panel").scrollTop = 0;
  const { top, bottom } = find("verdict").getBoundingClientRect();
  if (top < 0 || bottom > innerHeight) find("panel").scrollIntoView();
}

/** @param {number} at The index of the entry that is shown. */
function showHistory(at) {
  const items = entries.map(({ label, state }, number) => {
    const current = String(number === at);
    const button = make("button", { type: "button", "data-state": state, "aria-current": current }, label);
    button.addEventListener("click", () => {
      show(number);
      /** @type {HTMLElement | null} */ (find("history").querySelector("[aria-current=true]"))?.focus();
    });
    return make("li", {}, button);
  });
  find("history").replaceChildren();
  for (const item of items) find("history").prepend(item);
  /** @type {HTMLElement} */ (find("history").closest("nav")).hidden = false;
}

// Ways to send a request

/** @param {string} path */
function bodyFor(path) {
  return new URLSearchParams(path === "/comment" ? { comment: "Nice gate" } : { user: "Ada" });
}

/**
 * @param {string} path
 * @param {Pair} [pair]
 */
function post(path, pair) {
  const headers = /** @type {Record<string, string>} */ (
    pair ? { "X-Captcha-Ticket": pair.ticket, "X-Captcha-Randstr": pair.randstr } : {}
  );
  return fetch(path, { method: "POST", headers, body: bodyFor(path) });
}

/**
 * @param {string} path
 * @param {Step} first
 * @param {Pair} [pair]
 */
async function send(path, first, pair) {
  await follow(await post(path, pair), first);
}

async function comment() {
  const answer = await captcha.fetch("/comment", { method: "POST", body: bodyFor("/comment") });
  const number = Number(answer.headers.get("X-Trace"));
  if (answer.status === 403) {
    await follow(answer, step("Page", "warn", "Sent by captcha.fetch; the challenge was closed"));
    return;
  }
  await followRefused(number - 1, "/comment", "captcha.fetch shows the challenge and sends again");
  await follow(answer, step("Page", "ok", "Solved, and sent again by captcha.fetch"));
}

// tcaptcha.js shows the challenge first, and then submits again with the ticket in its fields.
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const body = new FormData(form);
  const [ticket, randstr] = ["ticket", "randstr"].map((name) => String(body.get(name)));
  const sent = fetch("/login", { method: "POST", body });
  sent.then((answer) => follow(answer, solved({ ticket, randstr }))).catch(broke);
});
form.addEventListener("tcaptcha-error", (event) => broke(event.detail));

// Failures

let loads = 0;

/** A captcha whose script has a new URL, so the browser loads it again. */
async function unloaded() {
  const settings = await (await fetch("/tcaptcha/settings.json")).json();
  loads += 1;
  return new TCaptcha({ settings: { ...settings, script: `${settings.script}?load=${loads}` } });
}

/**
 * @param {string} name
 * @param {string} path
 */
async function failInEmulator(name, path) {
  await fetch(`/failures/${name}`, { method: "POST" });
  const shown = name === "unloadable" ? await unloaded() : captcha;
  const pair = await shown.solve({ for: `POST ${path}` });
  await send(path, solved(pair), pair);
}

/**
 * Sends a request during an outage, and returns after it.
 * @param {string} path
 */
async function failInOutage(path) {
  wait("Tencent does not answer. Two failed probes of the gate establish the outage.");
  await fetch("/failures/down", { method: "POST" });
  const pair = await captcha.solve({ for: `POST ${path}` });
  const answer = await post(path, pair);
  wait("Tencent answers again, and the gate’s next probe finds out.");
  await fetch("/failures/over", { method: "POST" });
  await follow(answer, solved(pair));
}

/** @type {Record<string, (path: string) => Promise<void>>} */
const FAIL_IN_PAGE = {
  down: failInOutage,
  missing: (path) => send(path, step("Page", "warn", "Sent without a ticket")),
  async invented(path) {
    const random = crypto.getRandomValues(new Uint8Array(24));
    const ticket = `tr03${[...random].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    const pair = { ticket, randstr: "@abc" };
    await send(path, solved(pair, "Made a ticket up"), pair);
  },
  async disaster(path) {
    const ticket = `trerror_1001_${appId}_${Math.floor(Date.now() / 1000)}`;
    const pair = { ticket, randstr: "@abc" };
    await send(path, solved(pair, "Made up a disaster ticket, as anyone can"), pair);
  },
  async replayed(path) {
    // With a real account, the user solves the challenge.
    if (backend === "emulator") await fetch("/failures/replayed", { method: "POST" });
    const pair = await captcha.solve({ for: `POST ${path}` });
    await send(path, solved(pair), pair);
    await send(path, solved(pair, "Sent the same ticket again"), pair);
  },
};

/**
 * Runs one action at a time per button.
 * @param {HTMLElement} button
 * @param {() => Promise<void>} action
 */
async function run(button, action) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await action();
  } catch (error) {
    broke(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

find("comment").addEventListener("click", () => run(find("comment"), comment));

for (const button of /** @type {NodeListOf<HTMLElement>} */ (
  document.querySelectorAll("[data-failure]")
)) {
  const { failure = "", path = "/login" } = button.dataset;
  const fail = FAIL_IN_PAGE[failure] ?? (() => failInEmulator(failure, path));
  button.addEventListener("click", () => run(button, () => fail(path)));
}

// Return from a page that showed the challenge

async function followReport() {
  const number = Number(new URLSearchParams(location.search).get("trace"));
  if (!number) return;
  history.replaceState(null, "", "/");
  const trace = await traceOf(number);
  if (!trace) return;
  await followRefused(trace.number - 1, trace.path, "The challenge is shown instead of the page");
  const first = step("Page", "ok", "Solved; set two cookies and loaded the page again");
  keep(trace, "The page was shown.", first, step("Page", "ok", "Shows the report"));
  show();
}

if (entries.length) show();
await followReport();
