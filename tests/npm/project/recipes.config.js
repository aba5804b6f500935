// As documented, for each page that the tests write into this folder.
import { readdirSync } from "node:fs";
import documented from "./documented.js";

const input = readdirSync(import.meta.dirname).filter((name) => name.endsWith(".html"));

export default {
  build: { ...documented.build, rolldownOptions: { ...documented.build.rolldownOptions, input } },
};
