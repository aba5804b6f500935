// The component around the recipe for Angular; without its compiler, so without decorators.
import { HttpClient } from "@angular/common/http";
import { Component, CUSTOM_ELEMENTS_SCHEMA, inject, signal } from "@angular/core";

export const App = Component({
  selector: "main",
  schemas: [CUSTOM_ELEMENTS_SCHEMA],
  template: `
    <p>{{ text() }}</p>
    <button (click)="report()">Report</button>
    <form data-tcaptcha="POST /login" (submit)="login($event)">
      <input name="user" /><button>Log in</button>
    </form>
    <form><tcaptcha-button [disabled]="true">Delete</tcaptcha-button></form>`,
})(
  class {
    http = inject(HttpClient);
    text = signal("");
    show = (answer) => answer.subscribe((html) => this.text.set(html));
    report() {
      this.show(this.http.get("/report", { responseType: "text" }));
    }
    login(event) {
      event.preventDefault();
      const body = new FormData(event.target);
      this.show(this.http.post("/login", body, { responseType: "text" }));
    }
  },
);
