// @vitest-environment jsdom
import captcha, { CaptchaError } from "tcaptcha-middleware";
import { beforeEach, expect, test } from "vitest";
import settings from "./settings.js";

beforeEach(() => {
  document.body.innerHTML = "";
  captcha.options = { timeout: 100 };
});

test("the button is drawn", () => {
  document.body.innerHTML = "<form><tcaptcha-button>Go</tcaptcha-button></form>";
  expect(document.querySelector("tcaptcha-button button").textContent).toBe("Go");
});

test("a form is sent with the documented settings", async () => {
  captcha.options.settings = settings;
  document.body.innerHTML = `<form data-tcaptcha="POST /act"><input name="a" value="1"><button>Go`;
  const sent = new Promise((resolve) => {
    document.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      resolve([...new FormData(event.target)]);
    });
  });
  document.querySelector("button").click();
  expect(await sent).toEqual([["a", "1"]]);
});

test("a challenge rejects, because no script is loaded", async () => {
  captcha.options.settings = { ...settings, required: true };
  const error = await captcha.solve().catch((reason) => reason);
  expect(error).toBeInstanceOf(CaptchaError);
  expect(["load", "timeout"]).toContain(error.code);
});
