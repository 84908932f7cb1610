import pg from 'pg'
import type { PipelinedClient } from './client.ts'

export interface DeadConnectionOptions {
  clientsInUse(): Iterable<PipelinedClient>
  idleClients(): Iterable<PipelinedClient>
  /** Opens a connection outside the pool. */
  connect(): Promise<pg.Client>
}

/** A statement that takes longer than this is checked. */
const suspiciousAfterMs = 10_000
const checkIntervalMs = 5_000

/**
 * Breaks connections on which no answer can arrive. When the network silently drops packets, TCP notices it only after
 * 15 minutes to 2 hours. Until then, the statement only seems slow.
 *
 * When a statement takes long, the check opens a new connection and asks Postgres whether the backend is working on the
 * statement. If the backend is not working on it, or if Postgres cannot be reached, the connection of the statement is
 * dead. The idle connections are then broken too, because they use the same network path.
 *
 * @returns a function that stops the checks
 */
export function breakDeadConnections(options: DeadConnectionOptions): () => void {
  let checking: Promise<void> | undefined
  const timer = setInterval(() => {
    const waiting = [...options.clientsInUse()].filter(isSuspicious)
    if (waiting.length === 0 || checking) return
    checking = check(options, waiting).finally(() => {
      checking = undefined
    })
  }, checkIntervalMs)
  timer.unref()
  return () => clearInterval(timer)
}

const isSuspicious = ({ busySince = Number.POSITIVE_INFINITY }: PipelinedClient) =>
  performance.now() - busySince > suspiciousAfterMs

async function check(
  { connect, idleClients }: DeadConnectionOptions,
  waiting: readonly PipelinedClient[],
): Promise<void> {
  const busySince = new Map(waiting.map((client) => [client, client.busySince]))
  const isServed = await findServed(connect)
  // If `busySince` has changed, the client got an answer during the check.
  const dead = waiting.filter((client) => client.busySince === busySince.get(client) && !isServed(client))
  if (dead.length === 0) return
  for (const client of [...dead, ...idleClients()]) {
    client.breakConnection(
      new Error('Connection terminated: no answer arrived, and Postgres is not working on the statement'),
    )
  }
}

/** @returns a function that tells whether Postgres is working on the statement of a client */
async function findServed(connect: () => Promise<pg.Client>): Promise<(client: PipelinedClient) => boolean> {
  let client: pg.Client | undefined
  try {
    client = await connect()
    const { rows } = await client.query<{ own: number; active: number[] }>(`
      select pg_backend_pid() as own, array(select pid from pg_stat_activity where state in ('active', 'disabled')) as active`)
    const { own, active } = rows[0] as { own: number; active: number[] }
    // Behind a pooler, the process ids are invented and cannot be compared. The pooler itself watches its connections
    // to Postgres.
    const isPooled = (client as unknown as PipelinedClient).processID !== own
    return ({ processID }) => isPooled || (processID !== null && active.includes(processID))
  } catch (error) {
    // An error that Postgres sent, such as "too many connections", proves that the network works.
    return () => error instanceof pg.DatabaseError
  } finally {
    await client?.end().catch(() => {})
  }
}
