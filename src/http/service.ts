import { setMaxListeners } from 'node:events'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Kysely } from 'kysely'
import type pg from 'pg'
import { type BatchCommitter, createBatchCommitter } from '../accept/accept-batch.ts'
import { type Committer, createCommitter } from '../accept/committer.ts'
import { forceTwoPhase } from '../db/citus.ts'
import type { Database } from '../db/database.ts'
import { createErrorReporter } from '../db/error-reporter.ts'
import { createNotifier, type Notifier } from '../db/notifier.ts'
import { asTransaction } from '../db/transaction-on.ts'
import { type EnqueueOptions, enqueue } from '../jobs/enqueue.ts'
import { createEstimates, type Estimates } from '../jobs/estimate.ts'
import type { Job } from '../jobs/job.ts'
import { createSeals, type Seals } from '../jobs/seals.ts'
import { createShownResults, type ShownResults } from '../jobs/shown-results.ts'
import { traceSend } from '../jobs/spans.ts'
import { clearSecretsWarning, hasEndpoints } from '../jobs/webhook-secret.ts'
import type { AnyTransaction, Operation, PayloadFor } from '../operation.ts'
import { createKeyedMutex, type KeyedMutex } from '../primitives/keyed-mutex.ts'
import { assertPrincipal } from '../primitives/principal.ts'
import { loadTracing, type Tracing } from '../primitives/tracing.ts'
import { uuid7 } from '../primitives/uuid.ts'
import type { PgBoss } from '../queue/boss.ts'
import { assertPayload } from '../validation.ts'
import { Watcher } from '../watch/watcher.ts'
import { authenticateByApiKey } from './api-key.ts'
import { createAuthenticationHook } from './authenticate.ts'
import { assertRegistered, createEnqueueBatch, type EnqueueBatch } from './batches/enqueue.ts'
import { type ApiEndings, openEndings } from './complete-ends.ts'
import { connectDatabase, connectQueue } from './connect.ts'
import { CredentialWatch } from './credential-watch.ts'
import { LargeAnswers } from './large-answers.ts'
import type { AcceptedOptions } from './options.ts'
import { type Cors, createCors } from './protocol/cors.ts'
import { limitFailures } from './protocol/failed-authentication.ts'
import { OpenRequests } from './protocol/open-requests.ts'
import { defaultRateLimit, suspiciousLimit } from './protocol/rate-limit.ts'
import { type Mount, mountOf } from './route-paths.ts'
import { createEventEncoder, type EventEncoder } from './streams/encoder.ts'
import { EventStreams } from './streams/event-streams.ts'
import { createSnapshotReader, type Snapshot } from './streams/snapshot.ts'

/** The object that the plugin adds to the Fastify instance as `app.accepted`. */
export interface Accepted {
  /** Kysely on the plugin's connection pool, for the app's own reads and transactions. Cast it to the app's tables. */
  // biome-ignore lint/suspicious/noExplicitAny: the plugin does not know the app's tables
  db: Kysely<any>
  /**
   * Enqueues a job in the caller's transaction. Does not call the operation's `accept`. The job exists only after the
   * transaction has committed. Answer with `reply.accepted(job)` then.
   *
   * @param trx a Kysely transaction, or a `pg` client after BEGIN
   * @param options.principal default: `anonymous`
   * @throws TypeError if `trx` is no transaction, the operation is not registered, or principal or payload is invalid
   */
  enqueue<O extends Operation>(
    trx: AnyTransaction | pg.ClientBase,
    operation: O,
    payload: PayloadFor<O>,
    options?: EnqueueOptions,
  ): Promise<Job>
  /**
   * Enqueues jobs that belong together, and the job `batch` that ends with the last of them. Otherwise like `enqueue`.
   *
   * @throws TypeError like `enqueue`, or if there are no items or more than 10,000
   */
  enqueueBatch: EnqueueBatch
  /** An `onRequest` hook for the app's own routes. It sets `request.principal`, or answers 401. */
  authenticate(request: FastifyRequest): Promise<void>
}

declare module 'fastify' {
  interface FastifyInstance {
    accepted: Accepted
  }
  interface FastifyReply {
    /** Answers 202 with links to the job and with its monitor document. Call it after the commit. */
    accepted(job: Job): FastifyReply
  }
}

/** Objects that all routes share. */
export interface Service extends Mount {
  database: Database
  boss: PgBoss
  operations: ReadonlyMap<string, Operation>
  seals: Seals
  results: ShownResults
  committer: Committer
  batches: BatchCommitter
  /** Ends canceled jobs whose operation has `abandon`. */
  endings: ApiEndings
  /** Serialises requests with the same idempotency key, and requests that lock the same job. */
  mutex: KeyedMutex
  /** Notifies workers and watchers of changes. Call it after the commit. */
  notifier: Notifier
  watcher: Watcher
  /** Ends streams whose credential is no longer valid. */
  credentials: CredentialWatch
  /** Whether requests are authenticated by API keys. */
  usesKeys: boolean
  estimates: Estimates
  encoder: EventEncoder
  /** Reads the newest jobs of a principal. The snapshot contains all changes that were committed before the call. */
  readSnapshot(principal: string): Promise<Snapshot>
  streams: EventStreams
  largeAnswers: LargeAnswers
  cors: Cors
  /** Limits the streams, WebSockets and waits of each principal. */
  openRequests: OpenRequests
  /** Undefined if the app does not trace. */
  tracing: Tracing | undefined
  /** Aborts when the server starts to close. Long polls are then answered, and streams end. */
  draining: AbortSignal
}

/** Creates the objects that all routes share. When the app closes, they are closed in reverse order. */
export async function openService(
  app: FastifyInstance,
  operations: ReadonlyMap<string, Operation>,
  options: AcceptedOptions,
): Promise<Service> {
  const mount = mountOf(app.prefix, options)
  const seals = createSeals(options.encryptionKeys, operations.values())
  const draining = createDrainingSignal(app)
  const report = createErrorReporter(app.log)
  const database = await connectDatabase(app, options.database, report)
  if (!seals.keyRing && mount.paths.webhooks && (await hasEndpoints(database.kysely))) app.log.warn(clearSecretsWarning)
  const boss = await connectQueue(app, database, operations, report)
  const notifier = createNotifier(database)
  app.addHook('onClose', () => notifier.flush())
  const watcher = new Watcher(database, {
    onError: (error) => report(error, 'Watching for job changes failed; continuing with the next poll'),
  })
  app.addHook('onClose', () => watcher.close())
  const usesKeys = options.authenticate === undefined
  const credentials = new CredentialWatch(database, {
    usesKeys,
    onError: (error) => report(error, 'Checking the credentials of streams failed; checking again in a second'),
  })
  const estimates = createEstimates(database)
  const results = createShownResults(operations, seals, (error, { operation }) =>
    report(error, 'A result could not be decrypted; it is shown sealed', { operation }),
  )
  const mutex = createKeyedMutex()
  const tracing = await loadTracing()
  return {
    database,
    boss,
    operations,
    ...{ seals, results },
    committer: createCommitter({ database, boss, seals, mutex, tracing }),
    batches: createBatchCommitter({ database, seals, mutex, tracing }),
    endings: openEndings(app, report, { database, operations, seals, notifier, log: app.log }),
    mutex,
    notifier,
    watcher,
    credentials,
    usesKeys,
    estimates,
    encoder: createEventEncoder(estimates, results),
    readSnapshot: createSnapshotReader(database),
    streams: new EventStreams(draining, credentials),
    largeAnswers: new LargeAnswers(),
    cors: createCors(options.corsOrigins ?? []),
    openRequests: new OpenRequests(options.openLimit),
    tracing,
    draining,
    ...mount,
  }
}

/** Creates `app.accepted`. */
export function createAccepted(
  service: Service,
  { authenticate, allowAnonymous = false, rateLimit = defaultRateLimit }: AcceptedOptions,
): Accepted {
  const { database, boss, operations, seals, tracing } = service
  const identify = authenticate ?? authenticateByApiKey(database, { allowAnonymous })
  const hook = createAuthenticationHook(database, identify, service)
  const enqueueBatch = createEnqueueBatch(operations, seals, tracing)
  return {
    db: database.kysely,
    authenticate: rateLimit ? limitFailures(hook, suspiciousLimit(rateLimit)) : hook,
    async enqueue(trx, operation, payload, { key, principal = 'anonymous', ...rest } = {}) {
      assertRegistered(operations, operation)
      assertPayload(operation, payload)
      assertPrincipal(principal)
      const job = { ...rest, id: uuid7(), operation, payload, principal, idempotencyKey: key }
      const ownTrx = asTransaction(trx)
      await forceTwoPhase(database, ownTrx)
      return traceSend(tracing, { id: job.id, operation: operation.name }, async (context) => {
        return (await enqueue(boss, ownTrx, [{ ...job, ...context }], seals))[0] as Job
      })
    },
    async enqueueBatch(trx, batch) {
      await forceTwoPhase(database, asTransaction(trx))
      return enqueueBatch(trx, batch)
    },
  }
}

function createDrainingSignal(app: FastifyInstance): AbortSignal {
  const draining = new AbortController()
  // Disables the warning about many listeners. Every long poll and every WebSocket adds a listener.
  setMaxListeners(0, draining.signal)
  app.addHook('preClose', async () => draining.abort())
  return draining.signal
}
