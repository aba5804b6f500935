// Drives Firefox through a site: a form, a request of a script, and a protected page. Prints the
// text of each, then what went wrong in the pages.
import { setTimeout } from "node:timers/promises";
import puppeteer from "puppeteer-core";

/** Click as soon as there is such an element; a locator misses what changes in a shadow root. */
async function click(page, selector) {
  for (let element; ; await setTimeout(50)) {
    element = await page.$(selector).catch(() => null); // null too while the page is replaced
    if (element) return element.click();
  }
}

const [executablePath, origin] = process.argv.slice(2);
const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true });
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(60_000);
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (said) => said.type() === "error" && errors.push(said.text()));

  const texts = [];
  for (const name of ["Log in", "Comment", "Report"]) {
    await page.goto(origin);
    await click(page, `::-p-text(${name})`);
    await click(page, ">>> button.solve");
    const result = await page.locator("#result:not(:empty)").waitHandle();
    texts.push(await result.evaluate(({ textContent }) => textContent));
  }
  console.log(JSON.stringify({ texts, errors }));
} finally {
  await browser.close();
}
