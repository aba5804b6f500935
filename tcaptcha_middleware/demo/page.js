// The demo's page: sends requests with tcaptcha.js as any page would. Beside each button it shows
// the text of the functions here that the button calls, and the code that the server runs.

import captcha, { TCaptcha } from "./tcaptcha/tcaptcha.js";
import { fail, find, follow, followComment, make, solved, step, wait } from "./timeline.js";

/** @import { Pair } from "./tcaptcha/tcaptcha.js" */
/** @typedef {(path: string) => Promise<void>} Action */

const { appId } = document.documentElement.dataset;
const form = /** @type {HTMLFormElement} */ (find("login"));

/** @type {Promise<Record<string, string>>} By button: what the server runs for it. */
const serverCode = fetch("code").then((answer) => answer.json());

// Ways to send a request. A path such as "/login" is fetched below the page's own, "./login",
// so the demo also works below a prefix.

/** @param {string} path */
function fieldsFor(path) {
  return new URLSearchParams(path === "/comment" ? { comment: "Nice gate" } : { user: "Ada" });
}

/**
 * @param {string} path
 * @param {Pair} [pair]
 */
function post(path, pair) {
  const headers = new Headers();
  if (pair) {
    headers.set("X-Captcha-Ticket", pair.ticket);
    headers.set("X-Captcha-Randstr", pair.randstr);
  }
  return fetch(`.${path}`, { method: "POST", headers, body: fieldsFor(path) });
}

async function comment() {
  const body = fieldsFor("/comment");
  const answer = await captcha.fetch("./comment", { method: "POST", body });
  await followComment(answer);
}

// tcaptcha.js shows the challenge first, and then submits again with the ticket in its fields.
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const body = new FormData(form);
  const [ticket, randstr] = ["ticket", "randstr"].map((name) => String(body.get(name)));
  const sent = fetch(form.action, { method: "POST", body });
  sent.then((answer) => follow(answer, solved({ ticket, randstr }))).catch(fail);
});
form.addEventListener("tcaptcha-error", (event) => fail(event.detail));

// Failures

/** @type {Action} */
async function solveAndSend(path) {
  const pair = await captcha.solve({ for: `POST ${path}` });
  await follow(await post(path, pair), solved(pair));
}

/** @type {Action} */
async function sendWithoutTicket(path) {
  await follow(await post(path), step("Page", "warn", "Sent without a ticket"));
}

/** @type {Action} */
async function makeTicketUp(path) {
  const random = crypto.getRandomValues(new Uint8Array(24));
  const hex = [...random].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const pair = { ticket: `tr03${hex}`, randstr: "@abc" };
  await follow(await post(path, pair), solved(pair, "Made a ticket up"));
}

/** @type {Action} */
async function makeDisasterTicketUp(path) {
  const ticket = `trerror_1001_${appId}_${Math.floor(Date.now() / 1000)}`;
  const pair = { ticket, randstr: "@abc" };
  await follow(await post(path, pair), solved(pair, "Made up a disaster ticket, as anyone can"));
}

/** @type {Action} */
async function sendTwice(path) {
  const pair = await captcha.solve({ for: `POST ${path}` });
  await follow(await post(path, pair), solved(pair));
  await follow(await post(path, pair), solved(pair, "Sent the same ticket again"));
}

/** @type {Action} */
async function sendInOutage(path) {
  const pair = await captcha.solve({ for: `POST ${path}` });
  const answer = await post(path, pair);
  wait("Tencent answers again; the gate’s next probe finds out.");
  await fetch("failures/over", { method: "POST" });
  await follow(answer, solved(pair));
}

let loads = 0;

/** @type {Action} */
async function loadScriptAgain(path) {
  const url = new URL("tcaptcha/settings.json", location.href);
  const settings = await (await fetch(url)).json();
  const script = new URL(settings.script, url);
  // A browser loads a script again if its URL is new.
  script.search = `load=${(loads += 1)}`;
  const captchaWithNewScript = new TCaptcha({ settings: { ...settings, script: script.href } });
  const pair = await captchaWithNewScript.solve({ for: `POST ${path}` });
  await follow(await post(path, pair), solved(pair));
}

/** @type {Record<string, Action>} */
const ACTIONS = {
  missing: sendWithoutTicket,
  invented: makeTicketUp,
  disaster: makeDisasterTicketUp,
  replayed: sendTwice,
  down: sendInOutage,
  unloadable: loadScriptAgain,
};

// Buttons

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
    fail(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/**
 * Has the server make the emulator fail, if the failure is the emulator's.
 * @param {string} name
 */
async function prepare(name) {
  if (!(await serverCode)[name]) return;
  if (name === "down") {
    wait("Tencent does not answer. Two failed probes of the gate establish the outage.");
  }
  await fetch(`failures/${name}`, { method: "POST" });
}

/**
 * Shows the code behind a button.
 * @param {HTMLElement} button
 * @param {string} pageCode
 * @param {string} name
 */
async function showCode(button, pageCode, name) {
  const label = button.firstChild?.textContent?.trim();
  const code = [["The page", pageCode], ["The server", (await serverCode)[name]]]
    .filter(([, text]) => text)
    .flatMap(([where, text]) => [make("p", {}, where), make("pre", {}, text)]);
  const summary = make("summary", {}, "Code", make("span", { class: "unseen" }, ` of “${label}”`));
  button.after(make("details", { class: "code" }, summary, make("div", {}, ...code)));
}

/** @param {Element} element */
const tag = (element) => /** @type {Element} */ (element.cloneNode()).outerHTML;

const report = find("report");
const logIn = /** @type {HTMLElement} */ (form.querySelector("button"));
find("comment").addEventListener("click", () => run(find("comment"), comment));
showCode(logIn, tag(form).replace('=""', "").replace("><", ">…<"), "login");
showCode(find("comment"), String(comment), "comment");
showCode(report, report.outerHTML, "report");

for (const button of /** @type {NodeListOf<HTMLElement>} */ (
  document.querySelectorAll("[data-failure]")
)) {
  const { failure = "", path = "/login" } = button.dataset;
  const action = ACTIONS[failure] ?? solveAndSend;
  button.addEventListener("click", () =>
    run(button, async () => {
      await prepare(failure);
      await action(path);
    }),
  );
  showCode(button, [action, post].join("\n\n"), failure);
}
