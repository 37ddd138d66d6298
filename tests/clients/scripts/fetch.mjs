// node fetch.mjs REQUEST-FILE URL…: posts the request to each URL in the two ways that fetch is called.
import { readFileSync } from "node:fs";

const [file, url] = process.argv.slice(2);
const body = JSON.stringify(JSON.parse(readFileSync(file, "utf8")));
const answers = {};
for (const [name, headers] of [["plain", {}], ["typed", { "Content-Type": "application/json" }]]) {
  const response = await fetch(url, { method: "POST", headers, body });
  const answer = await response.json();
  answers[name] = { outputs: Object.fromEntries(answer.outputs.map(({ name, data }) => [name, data])) };
}
console.log(JSON.stringify(answers));
