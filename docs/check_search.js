// Search the built documentation as a browser does: node docs/check_search.js docs/_build/html
// Every query must find its page first; the exit status is the number of those that do not.
const { readFileSync } = require("fs");
const vm = require("vm");
const html = process.argv[2] || "docs/_build/html";
const wanted = {
  comet: /^tutorials\/comet/,
  RGB: /^howto\/color/,
  color: /^howto\/color/,
  mosaic: /^howto\/mosaics/,
  troubleshooting: /^troubleshooting\/index/,
  FAQ: /^troubleshooting\/faq/,
  "slow first run": /^troubleshooting\/not_compiled/,
  "multi-extension": /^howto\/observatories/,
  folder: /^howto\/sequences/,
  "bad pixels": /^howto\/masks/,
  "difference imaging": /difference/,
  satellite: /^howto\/masks/,
  astroalign: /^howto\/from_astroalign/,
  SWarp: /^howto\/ccdproc_and_swarp/,
  "no transform matches": /^troubleshooting\/no_match/,
  "too few stars": /^troubleshooting\/too_few_stars/,
  JWST: /^howto\/observatories/,
  stack: /^tutorials\/night_and_stack/,
  "what's new": /^changes/,
  DQ: /^howto\/masks/,
  "multi-chip": /^howto\/chips/,
  WCS: /^howto\/wcs_and_files/,
  transient: /^howto\/difference_pipeline/,
  "plate solve": /^tutorials\/sky_catalog/,
  drizzle: /^howto\/kernels/,
  ccdproc: /^howto\/ccdproc_and_swarp/,
  Roman: /^howto\/observatories/,
  glossary: /^troubleshooting\/glossary/,
  plot_residuals: /visualization\.plot_residuals/,
  find_alignment: /find_alignment/,
};
const element = { appendChild: () => element, remove: () => {}, classList: { add: () => {} } };
const page = {
  getElementById: () => ({ lastChild: null, appendChild: () => element }),
  createElement: () => element,
  addEventListener: () => {},
  body: element,
  documentElement: { dataset: {} },
  readyState: "loading",
};
const scope = vm.createContext({
  document: page,
  localStorage: { setItem: () => {}, getItem: () => null },
  DOCUMENTATION_OPTIONS: {},
  SPHINX_HIGHLIGHT_ENABLED: false,
  _ready: () => {},
  _: (text) => text,
  console,
});
scope.window = scope;
scope.location = { search: "" };
const scripts = ["base-stemmer.js", "english-stemmer.js", "language_data.js", "searchtools.js"];
for (const name of [...scripts.map((name) => `_static/${name}`), "searchindex.js"])
  vm.runInContext(readFileSync(`${html}/${name}`, "utf8"), scope);
let failures = 0;
for (const [query, page] of Object.entries(wanted)) {
  const results = vm.runInContext(
    `Search._performSearch(...Search._parseQuery(${JSON.stringify(query)}))`,
    scope,
  );
  const first = results.reverse().map((found) => found[0]);
  const right = first.length > 0 && page.test(first[0]);
  failures += !right;
  console.log(`${right ? "ok  " : "FAIL"} ${query}: ${[...new Set(first)].slice(0, 3).join(", ")}`);
}
process.exit(failures);
