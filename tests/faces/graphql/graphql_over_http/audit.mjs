// Runs the audits of GraphQL over HTTP that are a MUST or a SHOULD, and prints what came of each.
// Usage: node audit.mjs URL, with the API key to present, if any, in API_KEY.
import { serverAudits } from 'graphql-http';

const [url] = process.argv.slice(2);
const key = process.env.API_KEY;
const fetchFn = (address, { headers, ...options }) =>
  fetch(address, { ...options, headers: key ? { ...headers, 'X-Api-Key': key } : headers });

const results = [];
for (const audit of serverAudits({ url, fetchFn })) {
  if (/^(MUST|SHOULD) /.test(audit.name)) {
    const { status, reason = '' } = await audit.fn();
    results.push({ id: audit.id, name: audit.name, status, reason });
  }
}
console.log(JSON.stringify(results));
