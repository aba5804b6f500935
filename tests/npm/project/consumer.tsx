import { useRef } from "react";
import captcha, { CaptchaError, type Pair } from "tcaptcha-middleware";

export function Login() {
  const button = useRef<HTMLElementTagNameMap["tcaptcha-button"]>(null);
  return (
    <form data-tcaptcha="POST /login">
      <tcaptcha-button
        ref={button}
        name="go"
        value="1"
        disabled={false}
        aria-label="Log in"
        data-tcaptcha="POST /login"
        ontcaptcha-start={(event) => event.detail.for.startsWith("POST")}
        ontcaptcha-solved={({ detail }) => detail satisfies Pair}
        ontcaptcha-error={({ detail }) => detail satisfies CaptchaError}
      >
        Log in
      </tcaptcha-button>
      {/* @ts-expect-error  not an attribute */}
      <tcaptcha-button action="/login" />
    </form>
  );
}
captcha.options.settings = "/tcaptcha/settings.json";
