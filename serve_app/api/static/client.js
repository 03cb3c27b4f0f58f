// The API client of the page. Every call has a deadline, and every failure has a title and says what to do.

export const TIMEOUT_MS = 15_000;
export const PAGE_HITS = 10;
const SESSION_ID = crypto.getRandomValues(new Uint32Array(4)).join("-"); // of this visit: one release answers all its searches

/** A failure to show to the user, with the title and detail of the problem+json response if there is one. */
export class ApiFailure extends Error {
  constructor(title, detail, status = 0) {
    super(detail);
    this.title = title;
    this.status = status;
  }
}

const searchPath = (collection) => `/v1/collections/${encodeURIComponent(collection)}/search`;

export const documentPath = (collection, id) =>
  `/v1/collections/${encodeURIComponent(collection)}/documents/${encodeURIComponent(id)}`;

/** The body of a search: query, mode, limit, and the other fields if they differ from the API's defaults. */
export function searchBody({ query, mode, page, filter }) {
  const body = { query, mode, limit: PAGE_HITS };
  if (page > 1) body.offset = (page - 1) * PAGE_HITS;
  if (filter) body.filter = filter;
  return body;
}

export const search = (state, signal) =>
  call(searchPath(state.collection), searchBody(state), signal, { "x-session-id": SESSION_ID });

/** Count the passages by value over all that match the filter. A sparse search with one hit is the cheapest. */
export const countFacets = ({ collection, query, filter }, fields, signal) =>
  call(searchPath(collection), { ...searchBody({ query, mode: "sparse", page: 1, filter }), limit: 1, facets: fields }, signal);

export const collections = async () => (await call("/v1/collections")).collections;

/** The search as a curl command. */
export function curlCommand(state) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const body = JSON.stringify(searchBody(state), null, 2);
  return (
    `curl -sS ${quoted(location.origin + searchPath(state.collection))} \\\n` +
    `  -H 'content-type: application/json' \\\n  -d ${quoted(body)}`
  );
}

/** The JSON of the response. Sends POST with a body, else GET. Throws ApiFailure, or the signal's reason on abort. */
async function call(path, body, signal, headers = {}) {
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), TIMEOUT_MS);
  try {
    const response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers: { ...headers, accept: "application/json", ...(body && { "content-type": "application/json" }) },
      body: body && JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, deadline.signal]) : deadline.signal,
    });
    if (!response.ok) throw await failureOf(response);
    return await response.json();
  } catch (error) {
    if (error instanceof ApiFailure) throw error;
    signal?.throwIfAborted();
    if (deadline.signal.aborted) {
      throw new ApiFailure("Timeout", `The server did not respond within ${TIMEOUT_MS / 1000} seconds.`);
    }
    if (error instanceof SyntaxError) {
      throw new ApiFailure("Invalid response", "The server's response is not JSON. A proxy may have sent it.");
    }
    throw new ApiFailure("No connection", "The server cannot be reached. Is it running, and are you online?");
  } finally {
    clearTimeout(timer);
  }
}

/** The failure described by RFC 9457 problem+json, or by the status alone if a proxy responded. */
async function failureOf(response) {
  const problem = await response.json().catch(() => ({}));
  const title = typeof problem.title === "string" ? problem.title : `HTTP ${response.status}`;
  const errors = Array.isArray(problem.errors) ? problem.errors : [];
  const details = [problem.detail, ...(errors.length > 1 ? errors.map(describe) : [])]; // `detail` already describes a single error
  const retryAfter = response.headers.get("retry-after");
  if (retryAfter) details.push(`Try again in ${retryAfter} s.`);
  const detail = [...new Set(details.filter((text) => typeof text === "string" && text))].join("\n");
  return new ApiFailure(title, detail || "The server gave no reason.", response.status);
}

const describe = (error) => [error?.pointer ?? error?.parameter, error?.detail].filter(Boolean).join(": ");
