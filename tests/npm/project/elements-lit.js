// A form in a shadow root that Lit renders again: window.update(state) changes its state.
import { LitElement, html } from "lit";
import { keyed } from "lit/directives/keyed.js";
import "./captcha.js";

class Page extends LitElement {
  static properties = { state: {} };

  constructor() {
    super();
    this.state = { count: 0, disabled: false, label: "Log in", key: 0 };
    window.update = (changes) => (this.state = { ...this.state, ...changes });
  }

  render() {
    const { count, disabled, label, key } = this.state;
    const form = html`<form action="/login" method="post">
      <input name="user" value="ada" />
      <tcaptcha-button name="go" value=${count} ?disabled=${disabled} aria-label=${label}>
        ${count > 1 ? html`<b>Bold </b>` : ""} Send ${count}
      </tcaptcha-button>
    </form>`;
    return keyed(key, form);
  }
}
customElements.define("test-page", Page);

// A form with the attribute, in a root of its own.
class Marked extends LitElement {
  static properties = { count: {} };

  render() {
    return html`<form data-tcaptcha action="/login" method="post">
      <input name="user" value="ada" /><button name="go" value=${this.count}>Enter</button>
    </form>`;
  }
}
customElements.define("test-marked", Marked);
document.querySelector("main").append(new Page(), new Marked());
