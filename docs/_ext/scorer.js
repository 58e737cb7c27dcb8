// Which pages come first in the search: those that say how to do a thing, before the reference.
// The build puts this in front of Sphinx's own script. Keywords are the index entries of a page.
var Scorer = {
  score: ([docname, title, anchor, descr, score, filename, kind]) => {
    const shown = docname.startsWith("gallery/"); // an example; the how-to says more
    if (kind === "index" && docname !== "troubleshooting/glossary") return score + (shown ? 90 : 100);
    if (docname === "troubleshooting/glossary" && anchor) return score - 15; // a term; other pages say more
    // an object whose name was typed is what is looked for
    if (kind === "object") return score;
    if (shown) return score + 6;
    if (/^(howto|tutorials|troubleshooting)\//.test(docname)) return score + 12;
    if (/^(explanation\/|getting_started|install)/.test(docname)) return score + 8;
    if (/^(api\/|changes)/.test(docname)) return score - 12;
    return score;
  },
  objNameMatch: 25,
  objPartialMatch: 6,
  objPrio: { 0: 5, 1: 3, 2: -5 },
  objPrioDefault: 0,
  title: 25,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
