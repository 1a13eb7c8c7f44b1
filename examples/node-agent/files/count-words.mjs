// Counts words. Plain JavaScript: of FuseML it knows three environment variables.
import fs from "node:fs";
import path from "node:path";

const { FUSEML_INPUT_TEXTS: texts, FUSEML_OUTPUT_WORDS: words, FUSEML_METRICS: metrics } = process.env;

const counts = new Map();
for (const name of fs.readdirSync(texts, { recursive: true })) {
  const file = path.join(texts, name);
  if (!fs.statSync(file).isFile()) continue;
  for (const word of fs.readFileSync(file, "utf8").toLowerCase().match(/\p{L}+/gu) ?? []) {
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
}
const rows = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
fs.writeFileSync(path.join(words, "words.csv"), ["word,count", ...rows.map((row) => row.join(",")), ""].join("\n"));
fs.appendFileSync(metrics, `${JSON.stringify({ key: "words", value: counts.size })}\n`);
console.log(`${counts.size} different words`);
