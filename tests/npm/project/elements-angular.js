// A form that Angular renders again: window.update(state) changes its state. Without Angular's
// compiler in the build, so without decorators.
import "@angular/compiler";
import { Component, CUSTOM_ELEMENTS_SCHEMA, signal } from "@angular/core";
import { bootstrapApplication } from "@angular/platform-browser";
import "./captcha.js";

const Page = Component({
  selector: "main",
  schemas: [CUSTOM_ELEMENTS_SCHEMA],
  template: `
    @for (key of [state().key]; track key) {
      <form action="/login" method="post">
        <input name="user" value="ada" />
        <tcaptcha-button name="go" [attr.value]="state().count" [disabled]="state().disabled"
          [attr.aria-label]="state().label">
          @if (state().count > 1) { <b>Bold </b> } Send {{ state().count }}
        </tcaptcha-button>
      </form>
    }`,
})(
  class {
    state = signal({ count: 0, disabled: false, label: "Log in", key: 0 });

    constructor() {
      window.update = (changes) => this.state.update((before) => ({ ...before, ...changes }));
    }
  },
);
bootstrapApplication(Page);
