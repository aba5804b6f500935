// What users of tcaptcha.js write, and what must not type-check.
import captcha, {
  CaptchaError,
  TCaptcha,
  messages,
  type Code,
  type Options,
  type Pair,
  type Settings,
} from "../../tcaptcha_middleware/browser/tcaptcha.js";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Equal<A, B>): void => {};

const control = new AbortController();
const { ticket, randstr } = await captcha.solve({ for: "POST /login", signal: control.signal });
same<typeof ticket, string>(true);
same<typeof randstr, string>(true);

const answer = await captcha.fetch("/login", { method: "POST", body: new FormData() });
same<typeof answer, Response>(true);
// It goes wherever fetch goes.
const send: typeof fetch = captcha.fetch;
await send(new Request("/login"));

try {
  await captcha.solve();
} catch (error) {
  if (error instanceof CaptchaError) same<typeof error.code, Code>(true);
}
same<Code, "closed" | "load" | "network" | "settings" | "timeout">(true);

const settings: Settings = { appId: 190000000, site: "intl", script: "https://a.example/b.js" };
const options: Options = { settings, embed: document.body, darkMode: "force", bizState: { a: 1 } };
const own = new TCaptcha(options);
own.options.language = "zh-cn";
new TCaptcha({ settings: new URL("https://a.example/settings.json"), timeout: 5000 });
messages.busy = "请完成验证。";

const button = document.createElement("tcaptcha-button");
button.addEventListener("tcaptcha-solved", (event) => same<typeof event.detail, Pair>(true));
button.addEventListener("tcaptcha-error", ({ detail }) => same<typeof detail.code, Code>(true));
button.disabled = true;
document.body.addEventListener("tcaptcha-start", ({ detail }) => same<typeof detail.for, string>(true));
document.addEventListener("tcaptcha-solved", (event) => same<typeof event.detail, Pair>(true));
window.addEventListener("tcaptcha-error", ({ detail }) => same<typeof detail, CaptchaError>(true));
button.shadowRoot?.addEventListener("tcaptcha-solved", (event) => same<typeof event.detail, Pair>(true));

// @ts-expect-error  another code
new CaptchaError("other", "message");
// @ts-expect-error  another site
new TCaptcha({ settings: { ...settings, site: "us" } });
// @ts-expect-error  a misspelt option
new TCaptcha({ darkmode: true });
// @ts-expect-error  a message that is never shown
messages.other = "";
