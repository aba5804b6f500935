// The page's half of the sequence: get a ticket and a randstr, send them along with the form.

const find = (id) => document.getElementById(id);
const settings = await (await fetch("/settings")).json();
let pair = null;

find("mode").textContent = settings.script
  ? `Checked by Tencent (captcha ${settings.appId}).`
  : "Checked by an emulator on this machine: no account, no internet.";

// Tencent's script has to come from Tencent, loaded when it is needed: it changes.
function load(source) {
  return new Promise((done, failed) => {
    if (window.TencentCaptcha) return done();
    const script = Object.assign(document.createElement("script"), { src: source });
    script.onload = () => done();
    script.onerror = () => failed(new Error("Tencent's script could not be loaded"));
    document.head.append(script);
  });
}

async function askTencent() {
  await load(settings.script);
  const { ret, ticket, randstr } = await new Promise((done) => {
    const place = settings.site === "intl" ? [find("embed")] : [];
    new window.TencentCaptcha(...place, String(settings.appId), done, {}).show();
  });
  if (ret !== 0) throw new Error("The captcha was closed");
  return { ticket, randstr };
}

async function askEmulator() {
  return (await fetch("/solve", { method: "POST" })).json();
}

async function solve() {
  find("solve").disabled = true;
  try {
    pair = await (settings.script ? askTencent() : askEmulator());
    find("pair").textContent = `Ticket ${pair.ticket.slice(0, 12)}…, randstr ${pair.randstr}`;
  } catch (error) {
    find("pair").textContent = `${error.message}. Try again.`;
  } finally {
    find("solve").disabled = false;
  }
}

async function login(sent) {
  const body = new URLSearchParams({ ...Object.fromEntries(new FormData(find("login"))), ...sent });
  const answer = await fetch("/login", { method: "POST", body });
  const told = await answer.json();
  const good = answer.ok;
  note(
    good,
    `${answer.status} ${good ? "accepted" : told.code}`,
    good ? `Hello ${told.user}: CaptchaCode ${told.captchaCode}.` : told.detail,
  );
}

function note(good, title, text) {
  const entry = document.createElement("li");
  entry.className = good ? "good" : "bad";
  entry.append(
    Object.assign(document.createElement("strong"), { textContent: title }),
    Object.assign(document.createElement("span"), { textContent: text }),
  );
  find("log").prepend(entry);
}

find("solve").addEventListener("click", solve);
find("bare").addEventListener("click", () => login({}));
find("login").addEventListener("submit", (event) => {
  event.preventDefault();
  login(pair ?? {});
});
