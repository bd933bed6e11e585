// SPDX-License-Identifier: GPL-2.0-or-later
// How the search orders what it finds: as Sphinx does, but a heading that says what was asked comes first,
// pages that touch on everything come behind those about one thing, and the examples' behind all.
const EXAMPLES = /^examples\//;
const EVERYTHING = [/^reference\//, /^changelog$/];
const MUCH = [/^index$/, /^tutorial$/, /^security$/, /^cookbook\/index$/];

var Scorer = {
  score: ([docname, title, anchor, descr, score, filename, kind]) => {
    if (kind === "object") return score;
    if (EXAMPLES.test(docname)) return score - 20;
    if (kind === "title") return score + 10;
    if (EVERYTHING.some((pattern) => pattern.test(docname))) return score - 12;
    return MUCH.some((pattern) => pattern.test(docname)) ? score - 1 : score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
