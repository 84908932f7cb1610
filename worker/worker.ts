import type { Logger } from 'pino'
import { applicationName } from '../src/db/application-name.ts'
import { detectCitus } from '../src/db/citus.ts'
import { type Database, type DatabaseOptions, openDatabase } from '../src/db/database.ts'
import { createErrorReporter } from '../src/db/error-reporter.ts'
import { controlPoolSize, workerPoolSize } from '../src/db/pool-sizes.ts'
import { assertPreparedStatements } from '../src/db/pooler.ts'
import { assertSessionSettings } from '../src/db/session-settings.ts'
import { retryOnContention } from '../src/db/transaction-retry.ts'
import type { Health, Monitored } from '../src/health-server.ts'
import { withBuiltIn } from '../src/jobs/built-in.ts'
import { bulkOperation } from '../src/jobs/bulk.ts'
import { createSeals } from '../src/jobs/seals.ts'
import { createShownResults } from '../src/jobs/shown-results.ts'
import { siteAt } from '../src/jobs/site.ts'
import { deliverWebhook } from '../src/jobs/webhook-delivery.ts'
import { assertGrants } from '../src/migrate/assert-grants.ts'
import { assertMigrated } from '../src/migrate/migrate.ts'
import { batchName, type Operation } from '../src/operation.ts'
import { createLog } from '../src/primitives/log.ts'
import type { MetricValues } from '../src/primitives/metrics-registry.ts'
import { parseNetworks } from '../src/primitives/networks.ts'
import { loadTracing } from '../src/primitives/tracing.ts'
import { uuid7 } from '../src/primitives/uuid.ts'
import { startBoss } from '../src/queue/boss.ts'
import { prepareQueues } from '../src/queue/define-operations.ts'
import { createBulkHandler } from './bulk.ts'
import { defaultBatchSize, defaultConcurrency } from './execution/claim-loop.ts'
import type { Handler, Handlers } from './handlers.ts'
import { isolateHandlers } from './isolation/child-pool.ts'
import { Registration } from './maintenance/registration.ts'
import { registerRescues } from './maintenance/rescuer.ts'
import type { SchedulerContext } from './maintenance/schedule-context.ts'
import { assertSchedulePayloads, deleteObsoleteSchedules, writeSchedules } from './maintenance/scheduler.ts'
import { WorkerRuntime } from './runtime.ts'
import { createDeliveryHandler } from './webhooks/deliver.ts'
import { warnOfWebhooks } from './webhooks/warnings.ts'

export interface WorkerOptions {
  /** The handlers, created with `defineHandlers`. */
  handlers: Handlers
  /** The URL of the Postgres database, or options. */
  database: string | DatabaseOptions
  /**
   * Names of the operations whose jobs the worker claims. Default: all operations, including the built-in
   * `webhook.deliver`.
   */
  operations?: readonly string[]
  /** The logger. Default: pino to stdout. */
  log?: Logger
  /**
   * The URL below which clients reach the routes of the API, for links in webhooks: with the prefix of the plugin.
   * Default: `http://127.0.0.1:3000`.
   */
  publicUrl?: string
  /** The plugin's option `routes.jobs`. Default: `/jobs`. */
  jobsPath?: string
  /**
   * The value of ENCRYPTION_KEYS: keys for the members that operations seal and for the signing secrets of webhooks, as
   * `<id>:<base64 of 32 bytes>`, separated by commas. The first key encrypts. Required if an operation seals members.
   */
  encryptionKeys?: string
  /** Private addresses, or networks in CIDR notation, that webhooks may call. Default: none. */
  webhookAllow?: readonly string[]
  /** How long running jobs may continue after `stop`, in seconds. After that, the worker releases them. Default: 15. */
  graceSeconds?: number
}

/** A running worker. */
export interface Worker extends Monitored {
  health(): Health
  /** Returns the metrics with their values, for a process that sums them over several workers. */
  metricValues(): Promise<MetricValues[]>
  /**
   * Stops claiming, and waits for running jobs until the grace period ends. Then releases the jobs that are still
   * running, without using up an attempt, and closes everything. Resolves at most about 4 seconds after the grace
   * period.
   */
  stop(): Promise<void>
}

/**
 * Starts a worker. It claims jobs with SKIP LOCKED, performs them and settles them. Run `accepted migrate` first.
 *
 * @throws TypeError in each of these cases: a handler is missing, has no operation, or has invalid isolation options; a
 *   schedule is invalid; `operations` is empty or names an unknown operation; `webhookAllow` contains something other
 *   than addresses and networks; an operation seals members and `encryptionKeys` is missing or invalid
 */
export function createWorker(options: WorkerOptions): Promise<Worker> {
  return startWorker(options)
}

/**
 * Starts a worker for {@link createWorker} or for the test kit.
 *
 * @param now the time by which schedules fire, see {@link SchedulerContext}
 */
export async function startWorker(options: WorkerOptions, now?: SchedulerContext['now']): Promise<WorkerRuntime> {
  const log = options.log ?? createLog()
  const report = createErrorReporter(log)
  const onIdleError = (error: Error) => report(error, 'An idle connection to Postgres failed; the pool replaces it')
  const onQueueError = (error: Error) => report(error, 'pg-boss could not maintain the queue; it tries again')
  const allOperations = withBuiltIn(options.handlers.operations)
  const operations = chooseOperations(allOperations, options.operations)
  const seals = createSeals(options.encryptionKeys, allOperations.values())
  const webhookAllow = parseNetworks(options.webhookAllow ?? [])
  log.info({ operations: [...operations.keys()] }, 'Worker is starting')
  const { database, controlDatabase } = openDatabases(options.database, onIdleError)
  const closing: (() => unknown)[] = [() => database.close(), () => controlDatabase.close()]
  const close = () => closeAll(closing.toReversed())
  try {
    const onShutdown = (step: () => unknown) => void closing.push(step)
    const handlers = await options.handlers.load({ db: database.kysely, log, onShutdown })
    const isolation = isolateHandlers(handlers, log)
    closing.push(() => isolation.close())
    await assertSessionSettings(database.pool)
    await assertGrants(database, 'worker')
    await assertMigrated(database)
    await detectCitus(database)
    await assertPreparedStatements(database)
    const boss = await startBoss(database, { supervise: true, onError: onQueueError })
    closing.push(() => boss.stop({ graceful: false }))
    // Prepares the queues of all operations, because a handler may enqueue jobs that another worker runs.
    await prepareQueues(database, boss, allOperations.values())
    await retryOnContention(() => registerRescues(database, [...operations.keys()]))
    const scheduling = { database, boss, seals, schedules: options.handlers.schedules, log, ...(now && { now }) }
    assertSchedulePayloads(scheduling.schedules)
    const finished = await retryOnContention(() => writeSchedules(scheduling))
    for (const schedule of finished) log.warn({ schedule }, 'Schedule has no occurrence left; it never fires again')
    await retryOnContention(() => deleteObsoleteSchedules(scheduling, options.handlers.operations))
    const results = createShownResults(allOperations, seals)
    const site = siteAt(options.publicUrl ?? 'http://127.0.0.1:3000', options.jobsPath)
    const keys = seals.keyRing
    if (operations.has(deliverWebhook.name)) await warnOfWebhooks(database, { site, keys, log })
    const bulk = createBulkHandler(database.kysely)
    const deliver = createDeliveryHandler({ db: database.kysely, site, results, allow: webhookAllow, keys })
    const allHandlers = new Map<string, Handler>([
      ...isolation.handlers,
      [deliverWebhook.name, deliver],
      [bulkOperation.name, bulk],
    ])
    const graceSeconds = options.graceSeconds ?? 15
    const registration = new Registration(controlDatabase, uuid7(), [...operations.keys()])
    await retryOnContention(() => registration.write('ready'))
    const runtime = new WorkerRuntime({
      ...{
        operations: [...operations.values()],
        allOperations,
        handlers: allHandlers,
        seals,
        scheduling,
        isolation,
        registration,
      },
      ...{ database, controlDatabase, boss, log, close, graceSeconds, tracing: await loadTracing() },
    })
    log.info({ operations: describeCapacity(operations.keys(), allHandlers) }, 'Worker is ready')
    return runtime
  } catch (error) {
    await close().catch((err) => log.error({ err }, 'Worker could not start, and closing its resources failed'))
    throw error
  }
}

/** Describes how many jobs of each operation this process runs at the same time, or settles in one transaction. */
function describeCapacity(names: Iterable<string>, handlers: ReadonlyMap<string, Handler>) {
  const capacityOf = (handler: Handler | undefined) =>
    handler?.perform === undefined
      ? { batchSize: handler?.batchSize ?? defaultBatchSize }
      : { concurrency: handler.concurrency ?? defaultConcurrency }
  return Object.fromEntries(Array.from(names, (name) => [name, capacityOf(handlers.get(name))]))
}

function chooseOperations(
  operations: ReadonlyMap<string, Operation>,
  names: readonly string[] | undefined,
): Map<string, Operation> {
  // No worker claims batches: they have no row in the queue.
  const claimable = new Map([...operations].filter(([name]) => name !== batchName))
  const unknown = names?.filter((name) => !claimable.has(name)) ?? []
  if (unknown.length > 0) {
    const list = unknown.map((name) => `'${name}'`).join(', ')
    throw new TypeError(`There is no operation ${list}. Choose among these: ${[...claimable.keys()].join(', ')}`)
  }
  if (names?.length === 0) throw new TypeError('operations is empty: leave it out to claim the jobs of every operation')
  return new Map([...claimable].filter(([name]) => names?.includes(name) ?? true))
}

/** Handlers may use all connections of the pool, so heartbeats and polls have a pool of their own. */
function openDatabases(given: WorkerOptions['database'], onIdleError: (error: Error) => void) {
  const options = typeof given === 'string' ? { url: given } : given
  const defaults = { applicationName: applicationName('worker'), poolSize: workerPoolSize, onIdleError }
  const database = openDatabase({ ...defaults, ...options })
  const controlDatabase: Database = openDatabase({
    ...database.options,
    applicationName: `${database.options.applicationName} control`,
    poolSize: controlPoolSize,
    onIdleError,
  })
  return { database, controlDatabase }
}

/** Runs every step, even when some fail. */
async function closeAll(steps: readonly (() => unknown)[]): Promise<void> {
  const errors: unknown[] = []
  for (const step of steps) {
    try {
      await step()
    } catch (error) {
      errors.push(error)
    }
  }
  if (errors.length === 1) throw errors[0]
  if (errors.length > 1) throw new AggregateError(errors, 'The worker could not be closed')
}
