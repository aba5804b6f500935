// Keeps the requests of this tab, and shows what each part did with one of them. The server's
// steps come from trace/<number>.

import { CaptchaError } from "./tcaptcha/tcaptcha.js";

/** @import { Pair } from "./tcaptcha/tcaptcha.js" */
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
export const find = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

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
export function step(who, state, title, facts = {}) {
  const known = Object.entries(facts).filter(([, value]) => value !== null);
  return { who, state, title, facts: /** @type {[string, string][]} */ (known) };
}

/** @param {Pair} pair */
export function solved({ ticket, randstr }, title = "Solved the challenge") {
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
  const answer = await fetch(`trace/${number}`);
  return answer.ok ? answer.json() : undefined;
}

/**
 * Shows a request that was answered.
 * @param {Response} answer
 * @param {Step} first What the page did before it.
 */
export async function follow(answer, first) {
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

/**
 * Shows a comment that `captcha.fetch` sent, and the refusal because of which it did so twice.
 * @param {Response} answer
 */
export async function followComment(answer) {
  if (answer.status === 403) {
    await follow(answer, step("Page", "warn", "Sent by captcha.fetch; the challenge was closed"));
    return;
  }
  const before = Number(answer.headers.get("X-Trace")) - 1;
  await followRefused(before, "/comment", "captcha.fetch shows the challenge and sends again");
  await follow(answer, step("Page", "ok", "Solved, and sent again by captcha.fetch"));
}

/** Shows the request for a page, if one links here that showed the challenge before. */
async function followPage() {
  const number = Number(new URLSearchParams(location.search).get("trace"));
  if (!number) return;
  history.replaceState(null, "", location.pathname);
  const trace = await traceOf(number);
  if (!trace) return;
  await followRefused(trace.number - 1, trace.path, "The challenge is shown instead of the page");
  const first = step("Page", "ok", "Solved; set two cookies and loaded the page again");
  keep(trace, "The page was shown.", first, step("Page", "ok", "Shows the report"));
  show();
}

/**
 * Shows why nothing was sent.
 * @param {unknown} error
 */
export function fail(error) {
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
export function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const WORDS = { ok: "fine", refused: "refused", warn: "attention", skipped: "not reached" };

/** @param {Step} step */
function stepShown({ who, state, title, facts }) {
  const pairs = facts.map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value)),
  );
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
export function wait(text) {
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

if (entries.length) show();
await followPage();
