// Finds the words of a text that match a query, and the best excerpt. Pure, except for marked().

const WORDS = new Intl.Segmenter(undefined, { granularity: "word" });
const STOP_WORDS = new Set(
  ("a an and are as at be but by can did do does for from had has have how i if in into is it its my of on or our " +
    "should so that the their them then there these they this to was we were what when where which who why will " +
    "with would you your").split(" "),
);
// Longest first. At least four letters must remain; three if only a plural's s is removed.
const SUFFIXES = ["ations", "ation", "ating", "ings", "ated", "ing", "ers", "ies", "ied", "er", "ed", "es", "ly", "e", "y"];

const fold = (word) => word.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/** Words with their positions: [folded word, start, end]. `map_batches` and `serve.run` are two words each. */
export function* words(text) {
  for (const { segment, index, isWordLike } of WORDS.segment(text)) {
    if (!isWordLike) continue;
    for (const part of segment.matchAll(/[^_.:]+/g)) {
      yield [fold(part[0]), index + part.index, index + part.index + part[0].length];
    }
  }
}

function stem(word) {
  const suffix = SUFFIXES.find((ending) => word.endsWith(ending) && word.length - ending.length >= 4);
  if (suffix) return word.slice(0, -suffix.length);
  return word.endsWith("s") && !word.endsWith("ss") && word.length >= 4 ? word.slice(0, -1) : word;
}

/** The stems of the query's words, without stop words unless there are no others. */
export function queryStems(query) {
  const all = [...words(query)].map(([word]) => word);
  const telling = all.filter((word) => !STOP_WORDS.has(word));
  return [...new Set((telling.length ? telling : all).map(stem))];
}

/** Whether the word is the stem plus at most an ending: `cat` does not match `catalogue`. */
function matches(word, stem_) {
  if (!word.startsWith(stem_)) return false;
  const longest = stem_.length < 3 ? 0 : stem_.length < 4 ? 1 : stem_.length < 5 ? 3 : 5;
  return word.length - stem_.length <= longest;
}

/** The matches to mark: [start, end, stem], in order. */
export function findMatches(text, stems) {
  const found = [];
  for (const [word, start, end] of words(text)) {
    const stem_ = stems.find((candidate) => matches(word, candidate));
    if (stem_ !== undefined) found.push([start, end, stem_]);
  }
  return found;
}

/**
 * The range of at most `maxChars` with the most different stems, cut between words: [start, end].
 * A text up to 20 % longer is shown whole.
 */
export function excerpt(text, found, maxChars) {
  if (text.length <= maxChars * 1.2) return [0, text.length];
  const lead = 60; // characters of context before the first match
  let [bestAt, bestScore] = [0, 0];
  for (const [from] of found) {
    const at = Math.max(0, from - lead);
    const inside = found.filter(([start, end]) => start >= at && end <= at + maxChars);
    const score = new Set(inside.map(([, , stem_]) => stem_)).size * 100 + inside.length;
    if (score > bestScore) [bestAt, bestScore] = [at, score];
  }
  bestAt = Math.min(bestAt, text.length - maxChars);
  const start = bestAt <= lead ? 0 : text.indexOf(" ", bestAt) + 1 || bestAt;
  const end = start + maxChars >= text.length ? text.length : text.lastIndexOf(" ", start + maxChars);
  return [start, end > start ? end : Math.min(text.length, start + maxChars)];
}

/** The range [start, end] of the text as DOM nodes, with matches in <mark>. Text never becomes markup. */
export function marked(text, found, [start, end]) {
  const fragment = document.createDocumentFragment();
  if (start > 0) fragment.append("… ");
  let at = start;
  for (const [from, to] of found) {
    if (from < start || to > end) continue;
    const mark = document.createElement("mark");
    mark.textContent = text.slice(from, to);
    fragment.append(text.slice(at, from), mark);
    at = to;
  }
  fragment.append(text.slice(at, end));
  if (end < text.length) fragment.append(" …");
  return fragment;
}
