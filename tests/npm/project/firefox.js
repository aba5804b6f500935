// Drives Firefox through a site: a form, a request of a script, and a protected page. Prints the
// text of each, then what went wrong in the pages.
import puppeteer from "puppeteer-core";

const [executablePath, origin] = process.argv.slice(2);
const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true });
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(15_000);
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (said) => said.type() === "error" && errors.push(said.text()));

  const texts = [];
  for (const name of ["Log in", "Comment", "Report"]) {
    await page.goto(origin);
    await page.locator(`::-p-text(${name})`).click();
    await page.locator(">>> button.solve").click();
    const result = await page.locator("#result:not(:empty)").waitHandle();
    texts.push(await result.evaluate(({ textContent }) => textContent));
  }
  console.log(JSON.stringify({ texts, errors }));
} finally {
  await browser.close();
}
