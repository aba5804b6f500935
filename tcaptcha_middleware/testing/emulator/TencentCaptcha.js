// A substitute for Tencent's script, for tests and for work without internet: the same
// constructors, options, callbacks and methods, and a puzzle that proves nothing. It asks the
// emulator that serves it how each challenge ends.
//
// It follows Tencent's documentation only; comments mark what that does not specify.
// https://cloud.tencent.com/document/product/1110/36841 (domestic)
// https://www.tencentcloud.com/document/product/1159/49680 (international)

(() => {
  "use strict";

  // The emulator writes here the name of the function that throws once.
  const THROWS_IN = "";

  const me = /** @type {HTMLScriptElement | null} */ (document.currentScript);
  if (!me?.src) throw new Error("Load this with <script src=…>, like Tencent's script");
  const source = new URL(me.src);
  const name = source.pathname.split("/").at(-1);

  // Only the current international script requires an element.
  const NEEDS_ELEMENT = name === "TJNCaptcha-global.js";
  const TELLS_DURATIONS = name === "TJCaptcha.js";
  // Tencent: "some versions" name it appid. Assumed here for the older scripts.
  const APP_ID = name.startsWith("TJ") ? "CaptchaAppId" : "appid";

  const NO_CONFIGURATION = 1006;
  const CLOSED = 2;
  const NEAR = 3;

  const WARNING =
    "This is not Tencent's captcha. An emulator serves it for tests; solving it proves nothing.";

  const STYLE = `
    :host { all: initial; }
    .box {
      --back: #fff; --text: #1b2330; --soft: #56617a; --line: #cfd6e2;
      --main: #0052d9; --on-main: #fff; --warn: #fff3d6; --on-warn: #6b4700;
      --sky: #d5e6fb; --land: #7fa8d9; --hole: #33507a; color-scheme: light;
      box-sizing: border-box; width: 22rem; max-width: calc(100vw - 1.5rem); margin: auto;
      padding: 1rem; border: 1px solid var(--line); border-radius: .75rem;
      background: var(--back); color: var(--text); font: 1rem/1.4 system-ui, sans-serif;
      box-shadow: 0 .5rem 2rem #0005;
    }
    .box.dark {
      --back: #1d232d; --text: #eef2f8; --soft: #a9b4c6; --line: #46536a;
      --main: #7fabff; --on-main: #0c1626; --warn: #4a3a12; --on-warn: #ffe2a3;
      --sky: #2a3a52; --land: #4f6f9d; --hole: #0d1624; color-scheme: dark;
    }
    .box.embed { margin: 0; max-width: 100%; position: static; box-shadow: none; }
    .box.wait {
      position: fixed; inset: 0; z-index: 2147483647; width: max-content; height: max-content;
    }
    .box.embed.wait { position: static; }
    dialog::backdrop { background: #0008; }
    .head { display: flex; align-items: center; gap: .5rem; }
    h2 { flex: 1; margin: 0; font-size: 1.05rem; line-height: 1.3; }
    p { margin: .5rem 0 .75rem; }
    .warn {
      padding: .5rem .65rem; border-radius: .4rem;
      background: var(--warn); color: var(--on-warn); font-size: .875rem;
    }
    .said { margin: .75rem 0 0; color: var(--soft); font-size: .8125rem; overflow-wrap: anywhere; }
    .scene {
      position: relative; height: 7rem; overflow: hidden; border-radius: .4rem;
      background: linear-gradient(var(--sky) 55%, var(--land) 55%);
    }
    .scene i {
      position: absolute; top: 2.25rem; left: calc((100% - 2.5rem) * var(--at) / 100);
      box-sizing: border-box; width: 2.5rem; height: 2.5rem; border-radius: .4rem;
    }
    .hole { background: var(--hole); opacity: .55; }
    .piece { background: var(--main); border: 2px solid var(--on-main); }
    label { display: block; margin-top: .6rem; color: var(--soft); font-size: .875rem; }
    input {
      display: block; width: 100%; height: 1.75rem; margin: .4rem 0 .85rem; border-radius: .4rem;
      accent-color: var(--main); cursor: grab;
    }
    button {
      min-height: 2.5rem; border: 1px solid var(--line); border-radius: .5rem;
      background: transparent; color: inherit; font: inherit; cursor: pointer;
    }
    .solve {
      width: 100%; border-color: var(--main);
      background: var(--main); color: var(--on-main); font-weight: 600;
    }
    .close { width: 2.5rem; padding: 0; font-size: 1.25rem; line-height: 1; }
    :focus-visible { outline: 3px solid var(--main); outline-offset: 2px; }
  `;

  /**
   * @typedef {object} Ending How a challenge ends, from the emulator.
   * @property {"solve" | "skip" | "close" | "hang" | "error"} outcome
   * @property {string} [ticket]
   * @property {string} [randstr]
   * @property {string} [sid]
   * @property {number} [errorCode]
   * @property {string} [errorMessage]
   */

  /**
   * @typedef {object} Options The options of a page.
   * @property {*} [bizState]
   * @property {boolean | "force"} [enableDarkMode]
   * @property {{width: number, height: number}} [sdkOpts]
   * @property {(size: {sdkView: {width: number, height: number}}) => void} [ready]
   * @property {boolean | string} [needFeedBack]
   * @property {boolean} [loading]
   * @property {string} [userLanguage]
   * @property {"popup" | "embed"} [type]
   * @property {string} [aidEncrypted]
   * @property {"cbc" | "gcm"} [aidEncryptedType]
   * @property {string} [aidEncryptedAad]
   * @property {() => void} [showFn]
   */

  let throwsIn = THROWS_IN;

  /**
   * Throw once, if scripted for this place.
   * @param {string} place
   */
  function throwIfScripted(place) {
    if (throwsIn !== place) return;
    throwsIn = "";
    throw new Error(`The substitute for Tencent's script throws in ${place}, as scripted`);
  }

  /**
   * Return a value as JSON can hold it, otherwise as text.
   * @param {*} value
   */
  function plain(value) {
    try {
      return JSON.parse(JSON.stringify(value) ?? "null");
    } catch {
      return String(value);
    }
  }

  /**
   * Make an element.
   * @param {string} tag
   * @param {Record<string, string>} attributes
   * @param {(Node | string)[]} children
   */
  function make(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  /**
   * Ask the emulator how a challenge ends.
   * @param {string} appId
   * @param {Options} options
   * @param {AbortSignal} signal
   * @returns {Promise<Ending>}
   */
  async function ask(appId, options, signal) {
    const said = Object.entries(options).filter(([, value]) => typeof value !== "function");
    const plainly = Object.fromEntries(said.map(([key, value]) => [key, plain(value)]));
    const body = JSON.stringify({ script: name, appId, options: plainly });
    try {
      // Sent as plain text, which needs no preflight.
      const answer = await fetch(new URL("__emulator__/challenge", source), {
        method: "POST", body, signal, credentials: "omit",
      });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      return await answer.json();
    } catch (error) {
      return {
        outcome: "error",
        errorCode: NO_CONFIGURATION,
        errorMessage: `get_captcha_config_request_error (${error})`,
      };
    }
  }

  /** The elements of one challenge, in a shadow root. */
  class View {
    #host = make("div");
    #root = this.#host.attachShadow({ mode: "open" });
    #watching = new AbortController();
    #options;
    #embedded;

    /**
     * @param {Element | null} place The container; null for a modal dialog.
     * @param {Options} options
     */
    constructor(place, options) {
      this.#options = options;
      this.#embedded = place !== null;
      // A constructed sheet: without unsafe-inline, CSP blocks <style> but not this.
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
      this.#root.adoptedStyleSheets = [sheet];
      (place ?? document.body).append(this.#host);
    }

    /** Show that the challenge is loading. */
    wait() {
      const box = { class: this.#classes("wait"), role: "status" };
      this.#put(make("div", box, "Loading the captcha…"));
    }

    /**
     * Show the puzzle.
     * @param {string} appId
     * @param {{solve: () => void, close: () => void, act: () => void}} on Callbacks.
     */
    puzzle(appId, on) {
      const goal = 40 + Math.floor(Math.random() * 50);
      // Always English, so tests find the buttons by name.
      const slider = /** @type {HTMLInputElement} */ (
        make("input", { type: "range", min: "0", max: "100", value: "0", autofocus: "" })
      );
      const solve = make("button", { type: "button", class: "solve" }, "Solve");
      const close = make("button", { type: "button", class: "close", "aria-label": "Close" }, "×");
      const piece = make("i", { class: "piece" });
      const hole = make("i", { class: "hole" });
      hole.style.setProperty("--at", String(goal));
      piece.style.setProperty("--at", "0");
      const language = this.#options.userLanguage ?? navigator.language;
      const box = /** @type {HTMLDialogElement} */ (make(
        "dialog",
        {
          class: this.#classes(),
          lang: "en",
          "aria-labelledby": "title",
          "aria-describedby": "what",
        },
        make("div", { class: "head" }, make("h2", { id: "title" }, "Captcha emulator"), close),
        make("p", { class: "warn", id: "what" }, WARNING),
        make("div", { class: "scene", "aria-hidden": "true" }, hole, piece),
        make("label", {}, "Slide the piece into the gap, or press Solve", slider),
        solve,
        make("p", { class: "said" }, `appId ${appId} · language ${language}`),
      ));
      slider.addEventListener("input", () => {
        on.act();
        piece.style.setProperty("--at", slider.value);
      });
      // Only on change: dragging the piece across the gap does not solve the puzzle.
      slider.addEventListener("change", () => {
        if (Math.abs(Number(slider.value) - goal) <= NEAR) on.solve();
      });
      solve.addEventListener("click", () => {
        on.act();
        on.solve();
      });
      close.addEventListener("click", on.close);
      box.addEventListener("close", on.close, { signal: this.#watching.signal });
      this.#put(box);
      this.#open(box, on.close);
      const { width, height } = box.getBoundingClientRect();
      return { width, height };
    }

    /** Remove everything, and return the focus. */
    remove() {
      // The close event fires later, when another challenge may be running.
      this.#watching.abort();
      this.#root.querySelector("dialog")?.close();
      this.#host.remove();
    }

    /**
     * @param {HTMLDialogElement} box
     * @param {() => void} close
     */
    #open(box, close) {
      if (!this.#embedded) return box.showModal();
      // show() would take the focus from the page's form.
      box.setAttribute("open", "");
      // A non-modal dialog does not close on Escape.
      box.addEventListener("keydown", (event) => {
        if (event.key === "Escape") close();
      });
    }

    /** @param {Node} box */
    #put(box) {
      this.#root.replaceChildren(box);
    }

    /** @param {string[]} more */
    #classes(...more) {
      const embed = this.#embedded ? ["embed"] : [];
      const dark = this.#isDark() ? ["dark"] : [];
      return ["box", ...embed, ...dark, ...more].join(" ");
    }

    // Assumed: true follows the system. Tencent documents only 'force'.
    #isDark() {
      const asked = this.#options.enableDarkMode;
      if (asked === true) return matchMedia("(prefers-color-scheme: dark)").matches;
      return asked === "force";
    }
  }

  /**
   * @typedef {object} Arguments
   * @property {Element | null} element
   * @property {string} appId
   * @property {(result: object) => void} callback
   * @property {Options} options
   */

  /**
   * Parse the arguments of any of the three constructors.
   * @param {unknown[]} args
   * @returns {Arguments}
   */
  function parse(args) {
    const element = args[0] instanceof Element ? args[0] : null;
    const [first, second, third] = /** @type {any[]} */ (element ? args.slice(1) : args);
    const data = element instanceof HTMLElement ? element.dataset : {};
    const { appid = "", cbfn = "", bizState } = data;
    const appId = String(first ?? appid);
    refuseIf(!/^[0-9]+$/.test(appId), `CaptchaAppId is '${appId}': it must be a number`);
    const callback = /** @type {any} */ (second ?? named(cbfn));
    refuseIf(typeof callback !== "function", "a callback is missing, or data-cbfn with its name");
    const options = { ...(bizState === undefined ? {} : { bizState }), ...(third ?? {}) };
    refuseIf(NEEDS_ELEMENT && !element, `${name} needs an element as its first argument`);
    const nowhere = options.type === "embed" && !element?.isConnected;
    refuseIf(nowhere, "type 'embed' needs an element that is on the page");
    return { element, appId, callback, options };
  }

  /**
   * Throw if the page made a mistake. Tencent does not document what its script does then.
   * @param {boolean} mistaken
   * @param {string} message
   */
  function refuseIf(mistaken, message) {
    if (mistaken) throw new TypeError(`TencentCaptcha: ${message}`);
  }

  /**
   * Return a function that calls a global one by its name; that may be defined later.
   * @param {string} cbfn
   */
  function named(cbfn) {
    /** @param {object} result */
    const call = (result) => /** @type {any} */ (globalThis)[cbfn](result);
    return cbfn ? call : undefined;
  }

  /** Tencent's class, as far as it is documented. */
  class TencentCaptcha {
    #appId;
    #callback;
    #options;
    #element;
    /** @type {View | null} */
    #view = null;
    #round = new AbortController();
    #running = false;
    #ticket = "";
    #shownAt = 0;
    #actedAt = 0;

    /** @param {unknown[]} args (CaptchaAppId, callback, options), (element), or both. */
    constructor(...args) {
      throwIfScripted("constructor");
      const { element, appId, callback, options } = parse(args);
      this.#element = element;
      this.#appId = appId;
      this.#callback = callback;
      this.#options = options;
      if (options.type !== "embed") element?.addEventListener("click", this.#onClick);
    }

    /** Start a challenge, unless one is running. */
    show() {
      throwIfScripted("show");
      if (this.#running) return;
      this.#running = true;
      this.#round = new AbortController();
      this.#shownAt = performance.now();
      this.#actedAt = 0;
      this.#run(this.#round.signal);
    }

    /** End the challenge without a callback, and unbind the element. */
    destroy() {
      this.#element?.removeEventListener("click", this.#onClick);
      this.#end();
    }

    /** Return the last ticket; empty before the first. */
    getTicket() {
      return { CaptchaAppId: this.#appId, ticket: this.#ticket };
    }

    #onClick = () => this.show();

    /** @param {AbortSignal} signal */
    async #run(signal) {
      if (this.#options.loading !== false) this.#open().wait();
      const ending = await ask(this.#appId, this.#options, signal);
      if (!signal.aborted) this.#go(ending);
    }

    #open() {
      this.#view ??= new View(this.#options.type === "embed" ? this.#element : null, this.#options);
      return this.#view;
    }

    /** @param {Ending} ending */
    #go(ending) {
      if (ending.outcome === "solve") this.#draw(ending);
      else if (ending.outcome === "skip") this.#solved(ending);
      else if (ending.outcome === "close") this.#closed();
      else if (ending.outcome === "error") this.#failed(ending);
    }

    /** @param {Ending} ending */
    #draw(ending) {
      const sdkView = this.#open().puzzle(this.#appId, {
        act: () => { this.#actedAt ||= performance.now(); },
        solve: () => this.#solved(ending),
        close: () => this.#closed(),
      });
      this.#options.ready?.({ sdkView });
      this.#options.showFn?.();
    }

    /** @param {Ending} ending */
    #solved({ ticket = "", randstr, sid }) {
      const now = performance.now();
      const durations = {
        verifyDuration: Math.round(now - this.#shownAt),
        actionDuration: Math.round(now - (this.#actedAt || now)),
        sid,
      };
      this.#ticket = ticket;
      this.#answer({ ret: 0, ticket, randstr, ...(TELLS_DURATIONS ? durations : {}) });
    }

    #closed() {
      this.#answer({ ret: CLOSED });
    }

    /**
     * Make a disaster ticket, as Tencent's script does; ret is 0 here too.
     * https://cloud.tencent.com/document/product/1110/72310
     * @param {Ending} ending
     */
    #failed({ errorCode, errorMessage }) {
      const ticket = `trerror_${errorCode}_${this.#appId}_${Math.floor(Date.now() / 1000)}`;
      const randstr = `@${Math.random().toString(36).slice(2)}`;
      this.#ticket = ticket;
      this.#answer({ ret: 0, ticket, randstr, errorCode, errorMessage });
    }

    /** @param {object} result */
    #answer(result) {
      this.#end();
      this.#callback({ [APP_ID]: this.#appId, bizState: this.#options.bizState, ...result });
    }

    #end() {
      this.#running = false;
      this.#round.abort();
      this.#view?.remove();
      this.#view = null;
    }
  }

  /** Bind the element with the documented id, if there is one. */
  function bind() {
    const element = document.getElementById("TencentCaptcha");
    if (element?.dataset.appid) new TencentCaptcha(element);
  }

  Object.assign(globalThis, { TencentCaptcha });
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", bind);
  else bind();
})();
