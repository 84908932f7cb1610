import pg from 'pg'
import type { TracedClient } from './client.ts'

export interface DeadConnectionOptions {
  /** Connections in use. */
  busy(): Iterable<TracedClient>
  /** The others. */
  idle(): Iterable<TracedClient>
  /** Makes a connection beside the pool. */
  connect(): Promise<pg.Client>
}

/** How long a statement may take before anybody asks, in milliseconds. */
const patience = 10_000
const lookEvery = 5_000

/**
 * Breaks connections on which an answer can no longer come. When the network drops packets without a word, TCP takes a
 * quarter of an hour to notice, or two; a statement that takes long looks just the same. So whoever has waited for some
 * time is asked after, on a new connection: when Postgres cannot be reached, or is not at work for it, the connection is
 * dead, and those that nobody uses are not to be handed out any more: they went the same way.
 *
 * @returns stops looking
 */
export function breakDeadConnections(options: DeadConnectionOptions): () => void {
  let looking: Promise<void> | undefined
  const timer = setInterval(() => {
    const waiting = [...options.busy()].filter(({ busySince = Number.POSITIVE_INFINITY }) => isOld(busySince))
    if (waiting.length === 0 || looking) return
    looking = look(options, waiting).finally(() => {
      looking = undefined
    })
  }, lookEvery)
  timer.unref()
  return () => clearInterval(timer)
}

const isOld = (since: number) => performance.now() - since > patience

async function look({ connect, idle }: DeadConnectionOptions, waiting: readonly TracedClient[]): Promise<void> {
  const since = new Map(waiting.map((client) => [client, client.busySince]))
  const isServed = await findServed(connect)
  // Another statement since: its answer has come.
  const dead = waiting.filter((client) => client.busySince === since.get(client) && !isServed(client))
  if (dead.length === 0) return
  for (const client of [...dead, ...idle()]) {
    client.abandon(new Error('Connection terminated: nothing was heard from Postgres, which is not at work for it'))
  }
}

async function findServed(connect: () => Promise<pg.Client>) {
  let client: pg.Client | undefined
  try {
    client = await connect()
    const { rows } = await client.query<{ own: number; active: number[] }>(`
      select pg_backend_pid() as own, array(select pid from pg_stat_activity where state in ('active', 'disabled')) as active`)
    const { own, active } = rows[0] as { own: number; active: number[] }
    // A pooler makes ids up; whom it serves, and whether its own connections are dead, is for it to know.
    const isPooled = (client as unknown as TracedClient).processID !== own
    return ({ processID }: TracedClient) => isPooled || (processID !== null && active.includes(processID))
  } catch (error) {
    // An answer of Postgres, such as that it has no connection left, came over a network that works.
    return () => error instanceof pg.DatabaseError
  } finally {
    await client?.end().catch(() => {})
  }
}
