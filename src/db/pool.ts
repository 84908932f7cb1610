import pg from 'pg'
import type { PipelinedClient } from './client.ts'
import { PinnedClient } from './pinned-client.ts'
import { markPostgresError } from './postgres-error.ts'

/**
 * How long a connection to a read-only server is used at least. While no other server can be reached, this keeps the
 * pool from opening a new connection for each statement.
 */
const minReadOnlyUseMs = 1_000

/**
 * A `pg.Pool` of {@link PipelinedClient}s that knows which clients are in use. It marks its own errors as errors from
 * Postgres, for example a timeout while a caller waits for a connection. When the server becomes read-only, it
 * replaces its connections: after a failover, the same name leads to another server.
 */
export class PipelinedPool extends pg.Pool {
  /** The open clients, and when each was opened, by `performance.now()`. */
  readonly #open = new Map<PipelinedClient, number>()
  readonly #inUse = new Set<PipelinedClient>()
  #newest: PipelinedClient | undefined

  constructor(config: pg.PoolConfig & { Client: typeof PipelinedClient }) {
    super(config)
    this.on('connect', (client) => this.#add(pipelined(client)))
    this.on('remove', (client) => this.#open.delete(pipelined(client)))
    this.on('acquire', (client) => this.#inUse.add(pipelined(client)))
    this.on('release', (_error, client) => {
      this.#inUse.delete(pipelined(client))
      if (this.#mustReplace(pipelined(client))) endQuietly(pipelined(client))
      if (pipelined(client).hasStaleFunction) this.#breakIdle(this.idleClients, 'a function is stale')
    })
  }

  // biome-ignore lint/suspicious/noExplicitAny: pg's connect returns a promise, or nothing when it gets a callback
  override connect(callback?: any): any {
    if (!callback) {
      return super.connect().catch((error: unknown) => {
        throw markPostgresError(error)
      })
    }
    return super.connect((error, client, release) => callback(markPostgresError(error), client, release))
  }

  get clientsInUse(): Iterable<PipelinedClient> {
    return this.#inUse
  }

  get idleClients(): PipelinedClient[] {
    return [...this.#open.keys()].filter((client) => !this.#inUse.has(client))
  }

  /** Whether the server of the newest connection is read-only. */
  get isReadOnly(): boolean {
    return this.#newest?.isReadOnly() ?? false
  }

  #add(client: PipelinedClient): void {
    this.#open.set(client, performance.now())
    this.#newest = client
    client.onReadOnly = () => {
      this.#breakIdle(
        this.idleClients.filter((idle) => this.#isOld(idle)),
        'the server has become read-only',
      )
    }
  }

  /** Makes the pool open new connections in their place. */
  #breakIdle(clients: readonly PipelinedClient[], reason: string): void {
    for (const client of clients) client.breakConnection(new Error(`Connection terminated: ${reason}`))
  }

  /** Returns whether a released connection must not be used again. */
  #mustReplace(client: PipelinedClient): boolean {
    // The statements of the next caller would become part of a transaction that was left open.
    if (client.isInTransaction() || client.hasStaleFunction) return true
    return client.isReadOnly() && this.#isOld(client)
  }

  #isOld(client: PipelinedClient): boolean {
    return performance.now() - (this.#open.get(client) ?? 0) > minReadOnlyUseMs
  }

  /**
   * Closes all connections that are in use, even in the middle of a statement. Later statements on these connections
   * reject.
   */
  terminateActive(): void {
    for (const client of this.#inUse) endQuietly(client)
  }
}

/** The pool creates its clients from the class in its configuration, but pg's types do not reflect this. */
const pipelined = (client: pg.PoolClient) => client as pg.ClientBase as PipelinedClient

const endQuietly = (client: pg.Client): void => void client.end().catch(() => {})

/** Opens a connection outside the pool. */
export async function connectOutsidePool(config: pg.ClientConfig): Promise<pg.Client> {
  const client = new PinnedClient(config)
  // Without a listener, the process would end when the connection breaks. The caller gets the error anyway, because the
  // statement in progress rejects.
  client.on('error', () => {})
  await client.connect()
  return client
}
