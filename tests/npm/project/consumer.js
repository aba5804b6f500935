// @ts-check
import captcha, { CaptchaError } from "tcaptcha-middleware";

/** @param {HTMLFormElement} form */
export async function send(form) {
  try {
    const { ticket } = await captcha.solve({ for: "POST /login" });
    return ticket.slice(0, 4) + new FormData(form).get("user");
  } catch (error) {
    return error instanceof CaptchaError ? error.code : undefined;
  }
}

document.addEventListener("tcaptcha-error", ({ detail }) => console.error(detail.code));

// @ts-expect-error  the method and path are a text
captcha.solve({ for: 1 });
