/** The programs of the tests: gateways, servers of the form, and a connection that can fail. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

/** The command that serves a gateway, for the shell. */
const { GATEWAY_COMMAND = resolve("../../scripts/serve") } = process.env;

interface Program {
  /** The first group of each pattern, in the order of the patterns. */
  announced: string[];
  stop(): Promise<void>;
}

/** Start a program and wait until lines of its output match all patterns. */
async function start(
  command: string,
  environment: Record<string, string>,
  patterns: RegExp[],
  cwd = ".",
): Promise<Program> {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^CONTACT_GATEWAY_|^(HOST|PORT)$/.test(name),
  );
  const child = spawn("sh", ["-c", `exec ${command}`], {
    cwd,
    env: { ...Object.fromEntries(inherited), ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = once(child, "exit");
  const errors: string[] = [];
  createInterface(child.stderr).on("line", (line) => errors.push(line));
  const announced = new Map<RegExp, string>();
  for await (const line of createInterface(child.stdout)) {
    for (const pattern of patterns) {
      const found = pattern.exec(line)?.[1];
      if (found) {
        announced.set(pattern, found);
      }
    }
    if (announced.size === patterns.length) {
      child.stdout.resume();
      return {
        announced: patterns.map((pattern) => announced.get(pattern)!),
        async stop() {
          child.kill();
          await ended;
        },
      };
    }
  }
  throw new Error(`${command} ended:\n${errors.join("\n")}`);
}

export interface Gateway {
  url: string;
  adminKey: string;
  memberKey: string;
  /** The number of its contacts with an address. */
  count(email: string): Promise<number>;
  stop(): Promise<void>;
}

/** Start a gateway with the demo's catalogue, or in front of another one that stands for HiEnergy. */
export async function startGateway(
  settings: Record<string, string> = {},
  hienergy?: { url: string; gateway: Gateway },
): Promise<Gateway> {
  const folder = await mkdtemp(join(tmpdir(), "gateway-"));
  const environment: Record<string, string> = {
    CONTACT_GATEWAY_DATABASE_URL: `sqlite+aiosqlite:///${folder}/gateway.sqlite3`,
    ...(hienergy && { CONTACT_GATEWAY_UPSTREAM_URL: `${hienergy.url}/api/v1` }),
    ...settings,
  };
  const keys = hienergy ? [] : [/^Admin key +(\S+)/, /^Member key +(\S+)/];
  const program = await start(
    `${GATEWAY_COMMAND} --port 0 ${hienergy ? "" : "--demo"}`,
    environment,
    [/^GraphQL +(\S+)\/graphql/, ...keys],
    folder,
  );
  const [url = "", adminKey = hienergy!.gateway.adminKey, memberKey = hienergy!.gateway.memberKey] =
    program.announced;
  return {
    url,
    adminKey,
    memberKey,
    async count(email) {
      const response = await fetch(`${url}/api/v1/contacts?email=${encodeURIComponent(email)}`, {
        headers: { "X-Api-Key": adminKey },
      });
      return ((await response.json()) as { data: unknown[] }).data.length;
    },
    async stop() {
      await program.stop();
      await rm(folder, { recursive: true });
    },
  };
}

/** Start a server of the form. */
export const startForm = (gatewayUrl: string, apiKey: string, port: number, settings = {}) =>
  start(
    "node dist/server/main.js",
    { CONTACT_GATEWAY: gatewayUrl, API_KEY: apiKey, PORT: `${port}`, ...settings },
    [/^Contact form: (\S+)/],
  );

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** A proxy that a test can take down, or that loses the next answer to a creation. */
export class Connection {
  losesNextCreation = false;
  readonly #target: string;
  readonly #port: number;
  #server: Server | null = null;

  private constructor(target: string, port: number) {
    this.#target = target;
    this.#port = port;
  }

  static async to(target: string): Promise<Connection> {
    const connection = new Connection(target, await freePort());
    await connection.open();
    return connection;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async open(): Promise<void> {
    this.#server = createServer(async (incoming, outgoing) => {
      const body = Buffer.concat(await incoming.toArray());
      const { method, headers, url } = incoming;
      const isLost = this.losesNextCreation && /createContact|"contact"/.test(`${body}`);
      const forwarded = request(`${this.#target}${url}`, { method, headers, agent: false }, (answer) => {
        if (isLost) {
          this.losesNextCreation = false;
          answer.resume().on("end", () => outgoing.destroy());
          return;
        }
        outgoing.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(outgoing);
      });
      forwarded.end(body);
    }).listen(this.#port, "127.0.0.1");
    await once(this.#server, "listening");
  }

  async close(): Promise<void> {
    this.#server?.close();
    this.#server?.closeAllConnections();
    this.#server = null;
  }
}
