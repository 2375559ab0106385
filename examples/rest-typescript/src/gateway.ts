import createClient, { type Client } from 'openapi-fetch';

import type { paths } from './generated.js';

export type Gateway = Client<paths>;

export function connect(address: string, apiKey: string): Gateway {
  return createClient<paths>({
    baseUrl: `${address}/api/v1`,
    headers: { 'X-Api-Key': apiKey },
  });
}
