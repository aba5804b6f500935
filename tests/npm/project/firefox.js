// Drives Firefox through a site: a form, a request of a script, and a protected page. Prints the
// text of each, then what went wrong in the pages.
import puppeteer from "puppeteer-core";

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
    // Without the wait for animation frames, of which a busy machine makes few.
    await page.locator(`::-p-text(${name})`).setWaitForStableBoundingBox(false).click();
    await page.locator(">>> button.solve").setWaitForStableBoundingBox(false).click();
    const result = await page.locator("#result:not(:empty)").waitHandle();
    texts.push(await result.evaluate(({ textContent }) => textContent));
  }
  console.log(JSON.stringify({ texts, errors }));
} finally {
  await browser.close();
}
