// A double of Tencent's script. It does what tencent.answers says, challenge by challenge, then
// what tencent.always says; else it shows two buttons. "nothing" shows nothing and never calls
// back, "loading" only says that it loads, "late" shows the buttons after tencent.late
// milliseconds. It notes how it was called.
(() => {
  const log = (window.tencent ??= {});
  log.loads = (log.loads ?? 0) + 1;
  log.made ??= [];
  log.answers ??= [];
  log.open ??= 0;
  log.most ??= 0;
  window.TencentCaptcha = class {
    constructor(...told) {
      this.place = told[0] instanceof Element ? told.shift() : null;
      const [appId, callback, options] = told;
      this.callback = callback;
      const place = this.place && `${this.place.localName}#${this.place.id}`;
      log.made.push({ appId, options, place, live: this.place?.isConnected ?? null });
      this.planned = log.answers.shift() ?? log.always;
      if (this.planned === "throw") throw new Error("broken");
    }

    show() {
      log.open += 1;
      log.most = Math.max(log.most, log.open);
      this.box = document.createElement("div");
      if (this.planned === "nothing") return;
      (this.place ?? document.body).append(this.box);
      if (/^(loading|late)$/.test(this.planned)) this.box.textContent = "Loading";
      if (this.planned === "late") setTimeout(() => this.draw(), log.late);
      else if (this.planned !== "loading") this.draw();
    }

    draw() {
      this.box.textContent = "";
      this.box.setAttribute("role", "dialog");
      for (const kind of ["solve", "close"]) {
        const button = Object.assign(document.createElement("button"), { textContent: kind });
        button.addEventListener("click", () => this.answer(kind));
        this.box.append(button);
      }
      this.box.firstChild.focus();
      if (this.planned && this.planned !== "late") setTimeout(() => this.answer(this.planned));
    }

    answer(kind) {
      const id = crypto.randomUUID();
      const disaster = { ret: 0, randstr: "@dr", errorCode: 1006, errorMessage: "config" };
      this.callback(
        {
          solve: { ret: 0, ticket: `tr03${id}`, randstr: `@${id.slice(0, 3)}`, errorCode: 0 },
          close: { ret: 2 },
          disaster: { ...disaster, ticket: "trerror_1006_190000000_1700000000" },
          unnumbered: { ...disaster, ticket: "terror_1006_1_1700000000", errorCode: undefined },
          empty: { ret: 0 },
        }[kind],
      );
    }

    destroy() {
      log.open -= this.box ? 1 : 0;
      this.box?.remove();
      this.box = null;
    }
  };
})();
