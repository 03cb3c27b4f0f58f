// Pure functions on filters in Qdrant's filter JSON.

const CLAUSES = ["must", "should", "must_not", "min_should"];

/** Parse the filter that a user wrote; null for empty text. Throws an Error that says what to correct. */
export function parseFilter(text) {
  if (!text.trim()) return null;
  let filter;
  try {
    filter = JSON.parse(text);
  } catch (error) {
    throw new Error(`This is not JSON: ${error.message}.`);
  }
  if (filter === null || typeof filter !== "object" || Array.isArray(filter)) {
    throw new Error('A filter is an object, for example {"must": [{"key": "metadata.year", "match": {"value": 2024}}]}.');
  }
  const unknown = Object.keys(filter).find((name) => !CLAUSES.includes(name));
  if (unknown !== undefined) throw new Error(`"${unknown}" is not part of a filter; use must, should or must_not.`);
  for (const name of ["must", "should", "must_not"]) {
    const clause = filter[name];
    if (clause !== undefined && (clause === null || typeof clause !== "object")) {
      throw new Error(`"${name}" must be a list of conditions, for example [{"key": "title", "match": {"text": "guide"}}].`);
    }
  }
  return Object.keys(filter).length ? filter : null;
}

/** The API's path of a metadata field; null if its name cannot be part of a path. */
export function metadataKey(name) {
  if (!name || name.includes('"')) return null;
  return /^[\p{L}\p{N}_-]+$/u.test(name) ? `metadata.${name}` : `metadata."${name}"`;
}

/** A field's path for display: without `metadata.` and quotes. */
export const fieldLabel = (key) => key.replace(/^metadata\./, "").replace(/^"(.*)"$/, "$1");

/** Whether `match` can test for this value. Fractions need a range, objects a nested filter. */
export const isMatchable = (value) =>
  typeof value === "string" || typeof value === "boolean" || Number.isSafeInteger(value);

const mustOf = (filter) => [filter?.must ?? []].flat();
const isEquality = (condition, key, value) => condition?.key === key && condition.match?.value === value;

export const hasEquality = (filter, key, value) => mustOf(filter).some((c) => isEquality(c, key, value));

/** The filter with `key = value` added, or removed if it was present. */
export function toggleEquality(filter, key, value) {
  const must = mustOf(filter);
  const rest = must.filter((condition) => !isEquality(condition, key, value));
  return withMust(filter, rest.length < must.length ? rest : [...must, { key, match: { value } }]);
}

function withMust(filter, must) {
  const changed = { ...filter, must };
  if (!must.length) delete changed.must;
  return Object.keys(changed).length ? changed : null;
}

/** The active conditions, one for each chip: the label, and the filter without the condition. */
export function activeParts(filter) {
  if (!filter) return [];
  const must = mustOf(filter);
  const parts = must.map((condition, index) => ({
    label: conditionLabel(condition),
    without: withMust(filter, must.filter((_, other) => other !== index)),
  }));
  for (const clause of CLAUSES.slice(1).filter((name) => filter[name] !== undefined)) {
    const { [clause]: _, ...without } = filter;
    parts.push({ label: `${clause}: …`, without: Object.keys(without).length ? without : null });
  }
  return parts;
}

function conditionLabel(condition) {
  const value = condition?.match?.value;
  if (condition?.key && value !== undefined) return `${fieldLabel(condition.key)}: ${value}`;
  const json = JSON.stringify(condition);
  return json.length > 60 ? `${json.slice(0, 60)}…` : json;
}
