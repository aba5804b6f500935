// The module as the demo serves it, below its page.
export * from "../../../../tcaptcha_middleware/browser/tcaptcha.js";
export { default } from "../../../../tcaptcha_middleware/browser/tcaptcha.js";
