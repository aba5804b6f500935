// What applications without React write; the tests compile it where React is not installed.
import captcha, { TCaptcha, type Pair } from "tcaptcha-middleware";

captcha.options.settings = "/tcaptcha/settings.json";
export const send: typeof fetch = new TCaptcha({ darkMode: "force" }).fetch;

const button = document.createElement("tcaptcha-button");
button.disabled = true;
button.addEventListener("tcaptcha-solved", ({ detail }) => detail satisfies Pair);

// @ts-expect-error  a misspelt option
captcha.options.darkmode = true;
