import { setMaxListeners } from 'node:events'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Kysely } from 'kysely'
import type pg from 'pg'
import { type Committer, createCommitter } from '../accept/committer.ts'
import { createTurns, type Turns } from '../accept/turns.ts'
import type { Authenticate, Scope } from '../config.ts'
import { type PgBoss, prepareQueues, startBoss } from '../db/boss.ts'
import { type Database, type DatabaseOptions, openDatabase, transactionOn } from '../db/database.ts'
import { assertMigrated } from '../db/migrate.ts'
import { createNotifier, type Notifier } from '../db/notifier.ts'
import { assertPreparedStatements } from '../db/pooler.ts'
import { ProblemError } from '../errors.ts'
import { type EnqueueOptions, enqueue } from '../jobs/enqueue.ts'
import { createEstimates, type Estimates } from '../jobs/estimate.ts'
import type { Job } from '../jobs/job.ts'
import { deliverWebhook } from '../jobs/webhook-delivery.ts'
import type { AnyTransaction, Operation, PayloadFor } from '../operation.ts'
import { uuid7 } from '../uuid.ts'
import { assertPayload } from '../validation.ts'
import { createWatcher, type Watcher } from '../watch/watcher.ts'
import { authenticateByApiKey } from './api-key.ts'
import { createEventStreams, type EventStreams } from './event-stream.ts'
import { createNews, type News } from './news.ts'
import { originFrom } from './origin.ts'
import type { RateLimit } from './rate-limit.ts'
import { createSnapshots, type Snapshot } from './snapshot.ts'

export interface AcceptedOptions {
  /** A module namespace or any record; exports that are no operations are ignored. */
  operations: object
  /** Where Postgres is. */
  database: string | DatabaseOptions
  /** Default: API keys when there are any, else everybody is `anonymous`. */
  authenticate?: Authenticate
  /** The origin of links, without a slash at the end; default: as the client called us. */
  publicUrl?: string
  /** Per principal and process; above it 429. Default: no limit. */
  rateLimit?: RateLimit
}

/** What the plugin adds to the Fastify instance, as `app.accepted`. */
export interface Accepted {
  /** Kysely on the plugin's pool, for the app's own reads and transactions; give it the app's tables. */
  // biome-ignore lint/suspicious/noExplicitAny: the app's tables are unknown here
  db: Kysely<any>
  /**
   * Enqueues a job within a transaction: a Kysely one, or a `pg` client that has sent BEGIN. Never runs the
   * operation's `accept`. Without a principal in the options it is `anonymous`'s. The job exists once the transaction has committed; answer with `reply.accepted(job)` then.
   *
   * @throws TypeError when there is no transaction, the operation is not among the registered ones, or the payload does
   *   not fit its schema
   */
  enqueue<O extends Operation>(
    trx: AnyTransaction | pg.ClientBase,
    operation: O,
    payload: PayloadFor<O>,
    options?: EnqueueOptions,
  ): Promise<Job>
  /** An `onRequest` hook for the app's own routes: sets `request.principal`, or answers 401. */
  authenticate(request: FastifyRequest): Promise<void>
}

/** What the routes work with. */
export interface Service {
  database: Database
  boss: PgBoss
  operations: ReadonlyMap<string, Operation>
  committer: Committer
  /** Who wants the same key, or the same job, takes turns. */
  turns: Turns
  /** Tells workers and watchers, after the commit. */
  hints: Notifier
  watcher: Watcher
  estimates: Estimates
  news: News
  /** The newest jobs of a principal, as they are when it is asked for or later. */
  snapshotOf(principal: string): Promise<Snapshot>
  streams: EventStreams
  /** Aborts when the process is to stop: who waits is answered, and streams end. */
  draining: AbortSignal
  /** Scheme and host of the links in an answer. */
  originOf(request: FastifyRequest): string
}

declare module 'fastify' {
  interface FastifyInstance {
    accepted: Accepted
  }
  interface FastifyRequest {
    /** Who asks, as `authenticate` said. */
    principal: string
    /** What it may do besides its own jobs. */
    scopes: readonly string[]
  }
  interface FastifyReply {
    /** Answers 202 with the job's links and monitor. Call it after the commit. */
    accepted(job: Job): FastifyReply
  }
}

/** Opens what the process needs, and closes it in reverse order with the app. */
export async function open(
  app: FastifyInstance,
  operations: ReadonlyMap<string, Operation>,
  options: AcceptedOptions,
): Promise<{ service: Service; accepted: Accepted }> {
  const onError = (error: Error) => app.log.warn({ err: error }, 'Postgres')
  const given = typeof options.database === 'string' ? { url: options.database } : options.database
  const database = openDatabase({ applicationName: 'accepted api', onIdleError: onError, ...given })
  app.addHook('onClose', () => database.close())
  await assertMigrated(database)
  await assertPreparedStatements(database.options)
  const boss = await startBoss(database, { supervise: false, onError })
  app.addHook('onClose', () => boss.stop({ graceful: false }))
  await prepareQueues(boss, [...operations.values(), deliverWebhook])
  const hints = createNotifier(database)
  app.addHook('onClose', () => hints.flush())
  const draining = drainingOf(app)
  const estimates = createEstimates(database)
  const turns = createTurns()
  const watcher = createWatcher(database, { onError })
  app.addHook('onClose', () => watcher.close())
  return {
    service: {
      database,
      boss,
      operations,
      hints,
      watcher,
      committer: createCommitter({ database, boss, turns }),
      turns,
      estimates,
      news: createNews(estimates),
      snapshotOf: createSnapshots(database),
      streams: createEventStreams(draining),
      draining,
      originOf: originFrom(options.publicUrl),
    },
    accepted: {
      db: database.kysely,
      authenticate: authenticateBy(options.authenticate ?? authenticateByApiKey(database)),
      enqueue: enqueueWith(boss, operations),
    },
  }
}

function drainingOf(app: FastifyInstance): AbortSignal {
  const draining = new AbortController()
  // Everybody who waits listens.
  setMaxListeners(0, draining.signal)
  app.addHook('preClose', async () => draining.abort())
  return draining.signal
}

function authenticateBy(identify: Authenticate): Accepted['authenticate'] {
  return async (request) => {
    const answer = await identify(request)
    if (answer === null) throw new ProblemError('unauthenticated')
    const { principal, scopes } = typeof answer === 'string' ? { principal: answer, scopes: [] } : answer
    request.principal = principal
    request.scopes = scopes
  }
}

/** Makes an `onRequest` hook, to come after `authenticate`, that lets pass who has a scope. */
export function requireScope(scope: Scope): (request: FastifyRequest) => Promise<void> {
  return async ({ scopes }) => {
    if (!scopes.includes(scope)) throw new ProblemError('forbidden', `This needs the scope ${scope}`)
  }
}

function enqueueWith(boss: PgBoss, operations: ReadonlyMap<string, Operation>): Accepted['enqueue'] {
  return async (trx, operation, payload, { key, principal = 'anonymous', ...rest } = {}) => {
    if (operations.get(operation.name) !== operation) {
      throw new TypeError(`Operation '${operation.name}' is not among the registered operations`)
    }
    assertPayload(operation, payload)
    const job = { ...rest, id: uuid7(), operation, payload, principal, idempotencyKey: key }
    return (await enqueue(boss, asTransaction(trx), [job]))[0] as Job
  }
}

function asTransaction(trx: AnyTransaction | pg.ClientBase): AnyTransaction {
  if ('getTransactionStatus' in trx) return transactionOn(trx)
  if (trx.isTransaction) return trx
  throw new TypeError('enqueue needs a transaction: db.transaction().execute(async (trx) => …)')
}
