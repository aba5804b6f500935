/** The server's settings of the captcha that a request needs. */
export interface Settings {
  /** CaptchaAppId, which is public. */
  appId: string | number;
  site: "cn" | "intl";
  /** Where Tencent's script is loaded from; relative to the settings if they are fetched. */
  script: string;
  /** The names of the headers that carry the pair; `X-Captcha-…` by default. */
  headers?: Pair | null;
  /** The names of the form fields that carry the pair; `ticket` and `randstr` by default. */
  fields?: Pair | null;
  /** In Tencent's spelling, such as `zh-hk`. */
  language?: string;
  /** What forms tell this visitor, and the language that it is in. */
  messages?: Texts & { lang: string };
  /** Valid for one challenge: settings that contain it have to be fetched each time. */
  aidEncrypted?: string;
  /** Whether this visitor's request needs a pair; true by default. Forms obey it. */
  required?: boolean;
  /** Whether requests without a pair pass now, because of an outage; false by default. */
  fail_open?: boolean;
}

/** What a solved challenge gives; it serves one request. */
export interface Pair {
  ticket: string;
  randstr: string;
}

export interface Options {
  /** The settings or where they are; `settings.json` beside the module by default. */
  settings?: string | URL | Settings;
  /** Handed to Tencent's script as it is. */
  bizState?: unknown;
  /** Show the challenge in this element of the page, instead of in front of the page. */
  embed?: Element;
  /** As the page's `prefers-color-scheme` by default. */
  darkMode?: boolean | "force";
  /** By default that of `Page(language=…)`, or the page's `lang`. */
  language?: string;
  /** Of the page's CSP; that of the page's first script with one by default. */
  nonce?: string;
  /** How long the settings, and then the script, may take to load, in milliseconds; 15000. */
  timeout?: number;
  /** Pass on what Tencent's script makes up if it cannot reach Tencent; false by default. */
  disasterTickets?: boolean;
}

export interface Asked {
  /** The method and path of the request that needs the pair, such as `"POST /login"`. */
  for?: string;
  signal?: AbortSignal;
  /** Goes before the embed of the options. */
  embed?: Element;
}

export type Code = "closed" | "load" | "network" | "settings" | "timeout";

/** Why there is no ticket; see `code`. */
export class CaptchaError extends Error {
  constructor(code: Code, message: string, options?: ErrorOptions);
  readonly name: "CaptchaError";
  readonly code: Code;
}

export class TCaptcha {
  constructor(options?: Options);
  /** May be changed at any time; holds from the next challenge on. */
  options: Options;
  /** Show the challenge; rejects with a `CaptchaError`, or with the reason of `signal`. */
  solve(asked?: Asked): Promise<Pair>;
  /**
   * `fetch`, which solves the captcha if the server asks for it, and sends again. Bound to its
   * object: it may be handed on as it is.
   */
  readonly fetch: (input: RequestInfo | URL, init?: RequestInit) => Promise<Response>;
}

/** A text for each state of forms and buttons. */
export type Texts = Partial<Record<"loading" | "busy" | "solved" | "closed" | "failed", string>>;

/** Your own texts, instead of those of the settings. */
export const messages: Texts;

/** The one that forms and buttons use. */
declare const captcha: TCaptcha;
export default captcha;

interface TCaptchaEventMap {
  /** Prevent its default, and no challenge is shown. */
  "tcaptcha-start": CustomEvent<{ for: string }>;
  /** Prevent its default, and the form is not sent. */
  "tcaptcha-solved": CustomEvent<Pair>;
  "tcaptcha-error": CustomEvent<CaptchaError>;
}

type TCaptchaButton = HTMLElement & { disabled: boolean };

/** The attributes that the button has beside those of `<button>`, and its events in JSX. */
interface TCaptchaButtonProps {
  "data-tcaptcha"?: string;
  "ontcaptcha-start"?: (event: TCaptchaEventMap["tcaptcha-start"]) => void;
  "ontcaptcha-solved"?: (event: TCaptchaEventMap["tcaptcha-solved"]) => void;
  "ontcaptcha-error"?: (event: TCaptchaEventMap["tcaptcha-error"]) => void;
}

// Without React, neither of the two resolves, and nothing is declared.
// @ts-ignore
declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      // @ts-ignore
      "tcaptcha-button": DetailedHTMLProps<ButtonHTMLAttributes<TCaptchaButton>, TCaptchaButton> &
        TCaptchaButtonProps;
    }
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "tcaptcha-button": TCaptchaButton;
  }
  // Of elements, the document and the window; they bubble out of shadow roots too.
  interface GlobalEventHandlersEventMap extends TCaptchaEventMap {}
  interface ShadowRootEventMap extends TCaptchaEventMap {}
}
