// A form that React renders again: window.update(state) changes its state.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import "./captcha.js";

function Page() {
  const [state, setState] = useState({ count: 0, disabled: false, label: "Log in", key: 0 });
  window.update = (changes) => setState((before) => ({ ...before, ...changes }));
  const { count, disabled, label, key } = state;
  return (
    <form key={key} action="/login" method="post">
      <input name="user" defaultValue="ada" />
      <tcaptcha-button name="go" value={count} disabled={disabled} aria-label={label}>
        {count > 1 && <b>Bold </b>}
        Send {count}
      </tcaptcha-button>
    </form>
  );
}

createRoot(document.querySelector("main")).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);
