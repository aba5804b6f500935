// The captcha in the browser: settings -> script -> challenge -> ticket -> send.
// No dependencies and no build step; tcaptcha.d.ts declares what may be imported.

/** @import { Asked, Code, Options, Pair, Settings, Texts } from "./tcaptcha.js" */
/** @import { CaptchaError as Failure, TCaptcha as Declared } from "./tcaptcha.js" */
/** @typedef {{ destroy(): void, show(): void }} Widget */
/** @typedef {new (...options: any[]) => Widget} Tencent */
/** @typedef {Settings & { headers: Pair, fields: Pair }} FullSettings */
/** @typedef {{ settings: FullSettings, pair: Pair }} Solved */
/** @typedef {{ settings: FullSettings, pair?: Pair }} Ready What a form may be sent with. */

/**
 * What the copies of this module on a page share (`tcaptcha.js?v=2`, a bundle, two mounts): with
 * a listener of each, they would intercept each other's submissions.
 * @type {{
 *   scripts: Map<string, Promise<Tencent>>,
 *   last: WeakMap<object, Promise<unknown>>,
 *   messages: Texts,
 *   texts: Texts & { lang?: string },
 *   fetch: typeof fetch,
 *   sent: WeakSet<object>,
 *   closed: Set<string>,
 *   query: string,
 *   policy?: { createScriptURL(src: string): string },
 *   CaptchaError?: typeof import("./tcaptcha.js").CaptchaError,
 *   listening?: boolean,
 * }}
 */
const page = (/** @type {any} */ (globalThis)[Symbol.for("tcaptcha")] ??= {
  /** What is loaded or being loaded, by address. */
  scripts: new Map(),
  /** Added to the script's address: another one after each failure. */
  query: "",
  /** The last challenge at each place: in front of the page, or an element in it. */
  last: new WeakMap(),
  /** The browser's, in case that a page replaces it with captcha.fetch. */
  fetch: globalThis.fetch?.bind(globalThis),
  /** What captcha.fetch has sent, and does not handle again. */
  sent: new WeakSet(),
  /** What the user closed a challenge for, until their next input. */
  closed: new Set(),
  /** The application's own texts. */
  messages: {},
  /** The server's, in the visitor's language; these are used until the settings are loaded. */
  texts: {
    failed: "The captcha could not be loaded. Please try again.",
    loading: "The captcha is loading.",
    lang: "en",
  },
});

/** Shared: errors of every copy are of this class. */
export const CaptchaError = (page.CaptchaError ??= class extends Error {
  /** @type {"CaptchaError"} */
  name = "CaptchaError";

  /**
   * @param {Code} code
   * @param {string} message
   * @param {ErrorOptions} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.code = code;
  }
});

/**
 * Settles as `work` does, or rejects as soon as `signal` aborts.
 * @template T
 * @param {Promise<T>} work
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
function until(work, signal) {
  return new Promise((done, failed) => {
    work.then(done, failed);
    signal?.addEventListener("abort", () => failed(signal.reason));
    signal?.throwIfAborted();
  });
}

// 1. Settings

// Written apart from `new URL(…)`: bundlers take the two together for a file of the bundle.
const here = import.meta.url;

/**
 * @param {Options} options
 * @param {string} [need]
 * @returns {Promise<FullSettings>}
 */
async function read(options, need) {
  const { settings = new URL("settings.json", here), timeout = 15_000, language } = options;
  let received = /** @type {Settings} */ (settings);
  if (typeof settings === "string" || settings instanceof URL) {
    const url = new URL(settings, document.baseURI);
    if (need) url.searchParams.set("for", need);
    url.searchParams.set(language ? "language" : "lang", language || document.documentElement.lang);
    try {
      // Never from a cache: aidEncrypted is good for one challenge.
      const answer = await send(
        new Request(url, { cache: "no-store", signal: AbortSignal.timeout(timeout) }),
      );
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      received = await answer.json();
      // The script's address may be relative to that of the settings.
      received.script &&= new URL(received.script, url).href;
    } catch (cause) {
      const code = /** @type {Error} */ (cause).name === "TimeoutError" ? "timeout" : "settings";
      throw new CaptchaError(code, `${url} could not be loaded`, { cause });
    }
  }
  if (!received?.appId || !received.script) {
    throw new CaptchaError("settings", "The settings lack appId or script");
  }
  page.texts = received.messages ?? page.texts;
  return {
    ...received,
    // null if the rule reads no such names: then the server refuses what is sent.
    headers: received.headers ?? { ticket: "X-Captcha-Ticket", randstr: "X-Captcha-Randstr" },
    fields: received.fields ?? { ticket: "ticket", randstr: "randstr" },
  };
}

// 2. Script

/**
 * @param {string} src
 * @param {Options} options
 */
function load(src, options) {
  const loading = page.scripts.get(src) ?? insert(src + page.query, options);
  page.scripts.set(src, loading);
  loading.catch(() => {
    // So the next call loads the script again. A browser joins two requests for one address, and
    // the first may hang.
    if (page.scripts.delete(src)) page.query += "?";
  });
  return loading;
}

/**
 * @param {string} src
 * @param {Options} options
 * @returns {Promise<Tencent>}
 */
async function insert(src, { nonce, timeout = 15_000 }) {
  /** @param {Code} code */
  const failure = (code) => new CaptchaError(code, `${src} could not be loaded`);
  const script = document.createElement("script");
  // The attribute is hidden from scripts; the property is not.
  const nonced = /** @type {HTMLScriptElement | null} */ (document.querySelector("script[nonce]"));
  script.nonce = nonce ?? nonced?.nonce ?? "";
  try {
    // @ts-expect-error  TypeScript does not know Trusted Types.
    page.policy ??= window.trustedTypes.createPolicy("tcaptcha", { createScriptURL: String });
  } catch {
    // Either the browser lacks Trusted Types, or the page's CSP allows other policies only.
  }
  script.src = page.policy?.createScriptURL(src) ?? src;
  await new Promise((done, failed) => {
    script.addEventListener("load", done);
    script.addEventListener("error", () => failed(failure("load")));
    setTimeout(() => failed(failure("timeout")), timeout);
    document.head.append(script);
  });
  // Kept for this address: cn's script and intl's define the same name.
  const { TencentCaptcha } = /** @type {any} */ (window);
  if (!TencentCaptcha) throw failure("load");
  return TencentCaptcha;
}

// 3. Challenge

/**
 * The options of Tencent's script, which takes an undefined option for one that is set.
 * @param {FullSettings} settings
 * @param {Options} options
 * @param {Element} [embed]
 */
function optionsOf(settings, options, embed) {
  // The server knows how Tencent spells the option.
  const language = settings.language ?? options.language ?? document.documentElement.lang;
  /** @type {Record<string, unknown>} */
  const all = {
    userLanguage: language.toLowerCase() || undefined,
    enableDarkMode: options.darkMode ?? matchMedia("(prefers-color-scheme: dark)").matches,
    bizState: options.bizState,
    type: embed && "embed",
    aidEncrypted: settings.aidEncrypted,
  };
  for (const name in all) if (all[name] === undefined) delete all[name];
  return all;
}

/**
 * The pair in what Tencent's script calls back with. `ret` is 0, too, if the script could not
 * reach Tencent and made up a "disaster ticket", which proves nothing.
 * @param {any} answer `ret`, `ticket`, `randstr`, `errorCode` and `errorMessage`.
 * @param {boolean} [disasterTickets]
 * @returns {Pair}
 */
function pairOf({ ret, ticket, randstr, errorCode, errorMessage }, disasterTickets) {
  if (ret === 2) throw new CaptchaError("closed", "The captcha was closed");
  const disaster = errorCode > 0 || /^tr?error/.test(ticket);
  if (ret || !ticket || !randstr || (disaster && !disasterTickets)) {
    throw new CaptchaError("network", `Tencent says ${errorCode ?? ret} ${errorMessage ?? ""}`);
  }
  return { ticket, randstr };
}

/** How often the page is looked at while a challenge is open, in milliseconds. */
const STEP = 250;

/** How long a challenge may show nothing that can be solved: as long as the script may load. */
const HIDDEN = 15_000;

/** How long after its element was removed the script may still call back. */
const REMOVED = 1500;

/** What can be solved has one of these; a text such as "Loading" does not. */
const USABLE = "iframe,canvas,button,input,[tabindex],[role=dialog]";

/** @param {Element} element */
function isVisible(element) {
  const { width, height, right, bottom } = element.getBoundingClientRect();
  // A frame that is still loading is often kept far outside the page.
  if (width * height === 0 || right < -9000 || bottom < -9000) return false;
  return element.checkVisibility?.({ checkOpacity: true, checkVisibilityCSS: true }) ?? true;
}

/**
 * @param {ParentNode | null | undefined} root
 * @param {string} selector
 * @returns {Element[]}
 */
const all = (root, selector) => [...(root?.querySelectorAll(selector) ?? [])];

/** @param {Element} box */
function isUsable(box) {
  const elements = [box, ...all(box, USABLE), ...all(box.shadowRoot, USABLE)];
  return elements.some((element) => element.matches(USABLE) && isVisible(element));
}

/**
 * Where a challenge may be: Tencent does not document what its script adds to a page.
 * @param {Element} [embed]
 */
function boxes(embed) {
  return [...document.body.children, ...all(embed, "*"), ...all(document, "iframe")];
}

/**
 * Looks at the page again and again, until the challenge has left it.
 * @param {Set<Element>} before What was in the page without it.
 * @param {Element[]} places What the challenge needs in the page.
 * @param {(error: Failure) => void} gone
 * @param {Element} [embed]
 * @param {() => void} [shown]
 */
function watch(before, places, gone, embed, shown) {
  /** @type {Element | undefined} */
  let box;
  let unseen = 0;
  const look = () => {
    const usable = boxes(embed).find((other) => !before.has(other) && isUsable(other));
    if (usable && !box) shown?.();
    box = usable ?? box;
    unseen = usable ? 0 : unseen + STEP;
    const isRemoved = places.some((place) => !place.isConnected);
    if (isRemoved || unseen > (box?.isConnected === false ? REMOVED : HIDDEN)) {
      const text = box ? "The captcha left the page" : "The captcha did not show";
      gone(new CaptchaError("closed", text, { cause: "page" }));
    }
  };
  look();
  // A timer: no event reports what is hidden, or removed within a shadow root.
  return setInterval(look, STEP);
}

/**
 * @param {any} cause What Tencent's script threw, or the browser.
 * @returns {never}
 */
function fail(cause) {
  if (cause instanceof CaptchaError) throw cause;
  throw new CaptchaError("load", "Tencent's script failed", { cause });
}

/**
 * Shows one challenge. Waits for as long as the user thinks, but not after the page was rewritten,
 * nor for a script that neither shows anything nor calls back.
 * @param {Tencent} Tencent
 * @param {FullSettings} settings
 * @param {Options} options
 * @param {Element} [embed]
 * @param {AbortSignal} [signal]
 * @param {() => void} [shown]
 */
async function challenge(Tencent, settings, options, embed, signal, shown) {
  const focused = focusedElement();
  const before = new Set(boxes(embed));
  // Code that rewrites the page (`innerHTML`, Turbo) removes this together with the challenge.
  const mark = document.createElement("div");
  document.body.append(mark);
  // The script for intl wants an element first, and so does a challenge in the page.
  const place = embed ?? (settings.site === "intl" && mark);
  mark.hidden = place !== mark;
  /** @type {Widget | undefined} */
  let widget;
  /** @type {number | undefined} */
  let timer;
  /** @type {Promise<unknown>} */
  const answer = new Promise((called, gone) => {
    const values = [String(settings.appId), called, optionsOf(settings, options, embed)];
    widget = place ? new Tencent(place, ...values) : new Tencent(...values);
    widget.show();
    timer = watch(before, [mark, place || mark], gone, embed, shown);
  });
  try {
    return pairOf(await until(answer.catch(fail), signal), options.disasterTickets);
  } finally {
    clearInterval(timer);
    try {
      widget?.destroy();
    } catch {
      // It may have gone by itself.
    }
    mark.remove();
    const now = focusedElement();
    // Unless the user took the focus somewhere else meanwhile.
    if (!embed || !now || now === document.body || embed.contains(now)) focused?.focus?.();
  }
}

/** The element with the focus, also within shadow roots. */
function focusedElement() {
  let { activeElement } = document;
  while (activeElement?.shadowRoot?.activeElement) ({ activeElement } = activeElement.shadowRoot);
  return /** @type {HTMLElement | null} */ (activeElement);
}

/** @param {any} error */
const isClosed = (error) => error?.code === "closed";

/** Otherwise it has left the page, or has never shown. @param {any} error */
const isClosedByUser = (error) => isClosed(error) && !error.cause;

// 4. Ticket

/**
 * Solves one challenge, after those that were asked for before: two never show at once.
 * @param {Options} options
 * @param {Asked} asked
 * @param {(state: "loading" | "busy") => void} [report] Called once the settings are there, and
 *   once there is something to solve.
 * @param {boolean} [isForm] Whether a pair is left out if the server does not need one.
 * @returns {Promise<any>} `Solved`, or `Ready` for a form.
 */
function ask(options, { for: need, signal, embed = options.embed }, report, isForm) {
  const solving = async () => {
    signal?.throwIfAborted();
    // Not before its turn: aidEncrypted ages while others solve.
    const settings = await until(read(options, need), signal);
    if (isForm && settings.required === false) return { settings };
    report?.("loading");
    try {
      const Tencent = await until(load(settings.script, options).catch(fail), signal);
      const shown = () => report?.("busy");
      const pair = await challenge(Tencent, settings, options, embed, signal, shown);
      return { settings, pair };
    } catch (error) {
      // During an outage a form goes without, unless the user closed the challenge.
      if (isForm && settings.fail_open && !isClosedByUser(error)) return { settings };
      throw error;
    }
  };
  const place = embed ?? document;
  const mine = Promise.resolve(page.last.get(place)).then(solving);
  page.last.set(place, mine.catch(() => {}));
  return until(mine, signal);
}

// 5. Send

// With body_too_large, the pair was not in the part of the body that is read; it is sent in the
// headers.
const SHOW =
  /^(ticket_(missing|rejected|expired|reused)|risk_denied|disaster_ticket|body_too_large)$/;

/**
 * What the captcha is needed for ("POST /login"), if the server asks for it.
 * @param {Request} request
 * @param {Response} response
 */
async function neededFor({ method, url }, response) {
  // What redirected has done its work already; to send again would be to do it twice.
  if (response.redirected && !/^(GET|HEAD)$/.test(method)) return;
  const code = await codeOf(response);
  if (SHOW.test(code)) return `${method} ${new URL(response.url || url).pathname}`;
}

/**
 * Why the server refused a request. The body has it only if the client asked for JSON, and no
 * responder replaced it.
 * @param {Response} response
 */
async function codeOf(response) {
  const code = response.headers.get("Tcaptcha-Code");
  const type = response.headers.get("Content-Type");
  const isRefusal = /^4[01]3 application\/problem\+json\b/i.test(`${response.status} ${type}`);
  if (!code && !isRefusal) return;
  // Read to its end in either case: the caller may get this response much later.
  const problem = await response.clone().json().catch(() => null);
  return code ?? problem?.code;
}

/**
 * Sends as `fetch` does, even if that leads to captcha.fetch again.
 * @param {RequestInfo | URL} input
 * @param {RequestInit} [init]
 */
function send(input, init) {
  page.sent.add(/** @type {object} */ (init ?? input));
  return fetch(input, init);
}

/** @implements {Declared} */
export class TCaptcha {
  /** What each need's followers wait for: its answer or failure. @type {Map<string, Promise<unknown>>} */
  #leaders = new Map();

  /** The pair, not sent yet, of each need's challenge. @type {Map<string, Promise<Solved>>} */
  #unsent = new Map();

  /** @param {Options} [options] */
  constructor(options = {}) {
    this.options = options;
  }

  /**
   * @param {Asked} [asked]
   * @returns {Promise<Pair>}
   */
  async solve(asked = {}) {
    return (await ask(this.options, asked)).pair;
  }

  /**
   * A property, so it may be passed to other libraries without its object.
   * @param {RequestInfo | URL} input
   * @param {RequestInit} [init]
   * @returns {Promise<Response>}
   */
  fetch = async (input, init) => {
    // @ts-expect-error  Either may be a text or nothing, which is not in the set.
    if (page.sent.has(input) || page.sent.has(init)) return page.fetch(input, init);
    // A stream can be sent once, and keeping it for another time would be to buffer it.
    if (/** @type {any} */ (init?.body)?.getReader) return send(input, init);
    // Holds the body as it is now; the caller may change a FormData while the user solves.
    const request = new Request(input, init);
    const response = await send(request.clone());
    const need = await neededFor(request, response);
    return need ? this.#pass(need, request, response) : response;
  };

  /**
   * Of several that need the same, the first solves while the others wait. They are sent again
   * as they are: a server may need no more than one. Those still refused solve one by one.
   * @param {string} need
   * @param {Request} request
   * @param {Response} refusal
   */
  async #pass(need, request, refusal) {
    if (page.closed.has(need)) return refusal;
    try {
      for (let tried = false; this.#leaders.has(need); ) {
        const failure = await until(/** @type {any} */ (this.#leaders.get(need)), request.signal);
        // Closed or failed for one is so for all that waited: no user closes ten challenges.
        if (failure instanceof CaptchaError) throw failure;
        if (tried) continue;
        tried = true;
        refusal = await send(request.clone());
        if (!(await neededFor(request, refusal))) return refusal;
      }
      const sent = this.#lead(need, request).finally(() => this.#leaders.delete(need));
      this.#leaders.set(need, sent.catch((error) => error));
      return await sent;
    } catch (error) {
      // To close it is the user's choice, not a failure: return the server's answer.
      if (!isClosed(error)) throw error;
      return refusal;
    }
  }

  /**
   * @param {string} need
   * @param {Request} request
   */
  async #lead(need, request) {
    request.signal.throwIfAborted();
    const solving = this.#unsent.get(need) ?? this.#begin(need, request.signal);
    const { settings, pair } = await until(solving, request.signal);
    this.#unsent.delete(need);
    request.headers.set(settings.headers.ticket, pair.ticket);
    request.headers.set(settings.headers.randstr, pair.randstr);
    return send(request);
  }

  /**
   * Begins a challenge that a deadline does not remove once the user can see it: what it gives
   * serves the next request for the same.
   * @param {string} need
   * @param {AbortSignal} signal
   */
  #begin(need, signal) {
    const control = new AbortController();
    const address = document.URL;
    let isShown = false;
    signal.addEventListener("abort", () => {
      // AbortSignal.timeout(), axios, htmx and ofetch say so. Without a reason, it is the deadline
      // of ky or the end of a component, which comes with another address.
      const isDeadline = /time(d ?)?out|^AbortError/i.test(signal.reason);
      if (!(isShown && isDeadline && document.URL === address)) control.abort(signal.reason);
    });
    const solving = ask(this.options, { for: need, signal: control.signal }, (state) => {
      isShown = state === "busy";
    });
    const forget = () => this.#unsent.get(need) === solving && this.#unsent.delete(need);
    this.#unsent.set(need, solving);
    // A ticket is good for five minutes.
    solving.then(() => setTimeout(forget, 240_000), (error) => {
      // A library retries, without any input of the user in between.
      if (isClosedByUser(error)) page.closed.add(need);
      forget();
    });
    return solving;
  }
}

const captcha = new TCaptcha();
export default captcha;

// 6. Forms and buttons: <form data-tcaptcha>, <tcaptcha-button>

export const { messages } = page;

// A ticket must not be in an address, which is kept in logs and in the history.
const GET_FORM = 'A captcha needs method="post", or data-tcaptcha="POST /path"';

/** Those with a challenge open. @type {WeakSet<Element>} */
const busy = new WeakSet();

/** Those that a visitor has touched. @type {WeakSet<Element>} */
const prepared = new WeakSet();

/** The one that is being sent with its ticket just now. @type {Element | null | undefined} */
let sending;

/**
 * A member of an element as the browser defines it: a form's field may be called `append` or
 * `getAttribute`, and hide the form's own.
 * @param {Element} element
 * @param {string} name
 */
function member(element, name) {
  const value = Reflect.get(HTMLFormElement.prototype, name, element);
  return typeof value === "function" ? value.bind(element) : value;
}

/**
 * @param {Element | null | undefined} element
 * @param {string} name
 * @returns {string | null}
 */
const attribute = (element, name) => element ? member(element, "getAttribute")(name) : null;

/**
 * @param {HTMLFormElement} form
 * @returns {HTMLInputElement[]}
 */
const inputsOf = (form) => [...member(form, "elements")];

/**
 * @param {HTMLFormElement} form
 * @param {any} submitter
 */
function methodOf(form, submitter) {
  return submitter?.formMethod || member(form, "method");
}

/**
 * What a form needs the captcha for: the request that its attribute names, or its own. Undefined
 * for one that uses GET.
 * @param {HTMLFormElement} form
 * @param {HTMLElement | null} submitter
 * @param {Element | null} [button]
 * @returns {any} A text, if any.
 */
function formNeed(form, submitter, button) {
  const names = [button, form].map((element) => attribute(element, "data-tcaptcha"));
  // JSX makes "true" of an attribute without a value.
  const name = names.find((text) => /^[A-Z]+ \//i.test(/** @type {any} */ (text)));
  if (name || methodOf(form, submitter) !== "post") return name;
  /** @type {URL | Location} */
  let url = location;
  try {
    const action = attribute(submitter, "formaction") || member(form, "action");
    url = new URL(action, document.baseURI);
  } catch {
    // The browser sends nothing there, but a script may send the form.
  }
  // React's own are "javascript:…", and its function sends the form.
  return `POST ${(url.host ? url : location).pathname}`;
}

/**
 * A live region. It stays: one that comes together with its text is not read out.
 * @param {Element} host
 */
function statusOf(host) {
  let status = member(host, "querySelector")("[data-tcaptcha-status]");
  if (!status) {
    status = document.createElement("span");
    status.setAttribute("data-tcaptcha-status", "");
    status.setAttribute("role", "status");
    member(host, "append")(status);
  }
  return status;
}

/**
 * @param {Element} host
 * @param {Element | null} submitter
 * @param {keyof Texts} state
 * @param {string | null} [text]
 */
function tell(host, submitter, state, text) {
  member(host, "setAttribute")("data-tcaptcha-state", state);
  // Not on the form: what is busy is not read out, and the live region is in it.
  submitter?.setAttribute("aria-busy", `${state === "loading" || state === "busy"}`);
  const status = statusOf(host);
  // Later, since a live region has to be there before its text.
  setTimeout(() => {
    const own = messages[state];
    status.lang = (own ? document.documentElement : page.texts).lang ?? "";
    const words = text ?? own ?? page.texts[state];
    // With a gap to the button before it.
    status.textContent = words ? ` ${words}` : "";
  }, 100);
}

/**
 * Prepares for a submission when a visitor first touches a form or button: the texts and
 * Tencent's script are there sooner, and the live region before its first text.
 * @param {HTMLFormElement} host Or a button.
 */
function prepare(host) {
  if (prepared.has(host)) return;
  prepared.add(host);
  statusOf(host);
  // A button may be outside its form.
  const form = member(host, "matches")("form") ? host : member(host, "querySelector")("button")?.form;
  const need = form && formNeed(form, null, host);
  if (!need) return;
  read(captcha.options, need)
    .then(
      /** @returns {any} */
      (settings) => settings.required === false || load(settings.script, captcha.options),
    )
    // A submission tries again, and reports what failed.
    .catch(() => {});
}

/**
 * @param {HTMLFormElement} form
 * @param {string} name
 * @param {string} value
 */
function fill(form, name, value) {
  const inputs = inputsOf(form);
  let field = inputs.find((input) => input.name === name && input.type === "hidden");
  if (!field) {
    field = document.createElement("input");
    field.type = "hidden";
    field.name = name;
    // First: of a form with an upload, the server reads no more than it has to.
    member(form, "prepend")(field);
  }
  field.value = value;
}

/**
 * What stays the same when a framework renders a form again.
 * @param {HTMLFormElement} form
 * @param {Pair} fields
 */
function likeness(form, fields) {
  const names = ["id", "name", "action", "method", "data-tcaptcha"];
  const inputs = inputsOf(form);
  const pair = new Set(Object.values(fields));
  // Hidden values tell two forms of a list apart: never send another one.
  const own = inputs.filter(({ name }) => name && !pair.has(name));
  const texts = own.map(({ name, type, value }) => [name, type === "hidden" && value]);
  return JSON.stringify([names.map((name) => attribute(form, name)), texts]);
}

/**
 * The form, or what has replaced it in the page while the challenge was open.
 * @param {HTMLFormElement} form
 * @param {ParentNode} root
 * @param {Pair} fields
 * @returns {HTMLFormElement}
 */
function current(form, root, fields) {
  if (member(form, "isConnected")) return form;
  const likes = likeness(form, fields);
  const forms = /** @type {HTMLFormElement[]} */ (all(root, "form"));
  const same = forms.filter((other) => likeness(other, fields) === likes);
  if (same.length !== 1) {
    throw new CaptchaError("closed", "The form left the page", { cause: "page" });
  }
  return same[0];
}

/**
 * What submits a form as the button does that was pressed. One that was disabled meanwhile, or
 * that a framework replaced, cannot: a copy of it is added to the form.
 * @param {HTMLFormElement} form
 * @param {HTMLButtonElement | null} submitter An `<input>`, too.
 */
function submitterOf(form, submitter) {
  if (!submitter || (submitter.form === form && !submitter.matches(":disabled"))) return submitter;
  const copy = /** @type {HTMLButtonElement} */ (submitter.cloneNode());
  copy.hidden = true;
  copy.disabled = false;
  copy.removeAttribute("form");
  member(form, "append")(copy);
  return copy;
}

/**
 * A script may send a form that names its request; the browser may not, if the form uses GET.
 * @param {Event} event
 */
function refuse(event) {
  if (event.defaultPrevented) return;
  event.preventDefault();
  console.error(GET_FORM);
}

/**
 * Submits as the user did, for the form's other listeners. What is sent is put together before
 * requestSubmit returns, so the pair is removed at once: back in history, or pressed again,
 * the form holds no spent ticket.
 * @param {HTMLFormElement} form
 * @param {HTMLElement | null} submitter
 * @param {Pair} fields
 * @param {Pair} [pair]
 */
function submit(form, submitter, fields, pair) {
  /** @param {Pair} [values] */
  const fillPair = (values) => {
    fill(form, fields.ticket, values?.ticket ?? "");
    fill(form, fields.randstr, values?.randstr ?? "");
  };
  if (pair) fillPair(pair);
  const root = member(form, "getRootNode")();
  const button = submitterOf(form, /** @type {any} */ (submitter));
  // On the root, this listener runs after those of the form.
  if (methodOf(form, submitter) !== "post") root.addEventListener("submit", refuse);
  sending = form;
  try {
    member(form, "requestSubmit")(button);
  } finally {
    sending = null;
    root.removeEventListener("submit", refuse);
    if (button !== submitter) button?.remove();
    if (pair) fillPair();
  }
}

/** @param {SubmitEvent} event */
async function submitted(event) {
  const { submitter } = event;
  const form = /** @type {HTMLFormElement} */ (event.target);
  if (event.defaultPrevented || form === sending) return;
  const button = submitter?.closest("tcaptcha-button");
  const isMarked = button || attribute(form, "data-tcaptcha") !== null;
  // With the method "dialog", nothing is sent.
  if (!isMarked || methodOf(form, submitter) === "dialog") return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (busy.has(form)) return;
  const root = member(form, "getRootNode")();
  const need = formNeed(form, submitter, button);
  const host = () => (button?.isConnected ? button : form);
  /** @param {string} type @param {unknown} detail */
  const emit = (type, detail) => {
    // Events of an element outside the page do not bubble to the page.
    const target = member(host(), "isConnected") ? host() : document;
    const init = { bubbles: true, cancelable: true, composed: true, detail };
    return member(/** @type {Element} */ (target), "dispatchEvent")(new CustomEvent(type, init));
  };
  if (need && !emit("tcaptcha-start", { for: need })) return;
  busy.add(form);
  /** @param {keyof Texts} state @param {string | null} [text] */
  const report = (state, text) => tell(host(), submitter, state, text);
  report("loading");
  try {
    if (!need) throw new CaptchaError("settings", GET_FORM);
    const [embed] = member(form, "querySelectorAll")("[data-tcaptcha-embed]");
    /** @type {Ready} */
    const { settings, pair } = await ask(captcha.options, { for: need, embed }, report, true);
    report("solved", pair ? null : "");
    if (!pair || emit("tcaptcha-solved", pair)) {
      submit(current(form, root, settings.fields), submitter, settings.fields, pair);
    }
  } catch (error) {
    const closed = isClosed(error);
    if (!closed) console.error(error);
    report(closed ? "closed" : "failed");
    emit("tcaptcha-error", error);
  } finally {
    busy.delete(form);
  }
}

/**
 * Submit events do not leave the shadow root of their form, so each root is listened to.
 * @param {Node} root
 */
const listen = (root) => root.addEventListener("submit", /** @type {any} */ (submitted), true);

/** What its native button takes over from a `<tcaptcha-button>`. */
const TAKEN_OVER = /^(aria-(?!busy)|form|(disabled|name|value)$)/;

// Only in a page: a server that renders may load the bundle, too.
if (globalThis.document && !page.listening) {
  page.listening = true;
  // In the capture phase, before the form's own listeners; and so for forms that come later.
  listen(document);
  // One of these precedes a submission, and does leave the shadow root.
  for (const type of ["pointerdown", "keydown", "click", "focusin"]) {
    const find = (/** @type {Event} */ event) => {
      if (type !== "focusin") page.closed.clear();
      for (const node of event.composedPath()) {
        if (node instanceof ShadowRoot) listen(node);
        if (!(node instanceof Element)) continue;
        const isHost = member(node, "matches")("form[data-tcaptcha], tcaptcha-button");
        if (isHost) prepare(/** @type {HTMLFormElement} */ (node));
      }
    };
    document.addEventListener(type, find, true);
  }

  /**
   * Shows a native button: keyboard, focus and form are the browser's. What a framework has put in
   * stays in its place, since the framework will remove it from there; the button has a copy.
   */
  class Button extends HTMLElement {
    #button = document.createElement("button");
    #slot = this.attachShadow({ mode: "closed" }).appendChild(document.createElement("slot"));
    #watching = new MutationObserver(() => this.#draw());

    get disabled() {
      // React 18 writes "false".
      return (this.getAttribute("disabled") ?? "false") !== "false";
    }

    // Angular sets the property.
    set disabled(value) {
      this.toggleAttribute("disabled", !!value);
    }

    connectedCallback() {
      listen(this.getRootNode());
      this.#draw();
    }

    #draw() {
      this.#watching.disconnect();
      // A copy of this element, such as Turbo keeps, has a copy of its button.
      for (const copy of all(this, "button[slot=tcaptcha]")) {
        if (copy !== this.#button) copy.remove();
      }
      const isOwn = this.querySelector("button:not([slot=tcaptcha])");
      this.#slot.name = isOwn ? "" : "tcaptcha";
      if (isOwn) this.#button.remove();
      else {
        // Before the text, which would move it otherwise.
        if (this.#button.parentNode !== this) this.append(this.#button);
        this.#fill(statusOf(this));
      }
      for (const status of all(this, "[data-tcaptcha-status]")) {
        status.slot = this.#slot.name;
      }
      const every = { attributes: true, characterData: true, childList: true, subtree: true };
      this.#watching.observe(this, every);
    }

    /** @param {Element} status */
    #fill(status) {
      const button = this.#button;
      const label = [...this.childNodes].filter((node) => node !== button && node !== status);
      button.replaceChildren(...label.map((node) => node.cloneNode(true)));
      button.slot = "tcaptcha";
      for (const { name } of [...this.attributes, ...button.attributes]) {
        if (!TAKEN_OVER.test(name)) continue;
        const value = name === "disabled" && !this.disabled ? null : this.getAttribute(name);
        if (value === null) button.removeAttribute(name);
        else button.setAttribute(name, value);
      }
    }
  }
  customElements.define("tcaptcha-button", Button);
}
