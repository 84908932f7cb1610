import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'kysely'
import { type Logger, pino } from 'pino'
import { addressesIn } from '../src/config.ts'
import { type PgBoss, prepareQueues, startBoss } from '../src/db/boss.ts'
import { type Database, type DatabaseOptions, openDatabase } from '../src/db/database.ts'
import { listen } from '../src/db/listener.ts'
import { assertMigrated } from '../src/db/migrate.ts'
import { channels, createNotifier, unpack } from '../src/db/notifier.ts'
import { isOutage } from '../src/db/sqlstate.ts'
import { deliverWebhook } from '../src/jobs/webhook-delivery.ts'
import type { AnyTransaction, Operation } from '../src/operation.ts'
import { serializeError } from '../src/redact.ts'
import { createCancellations } from './cancellations.ts'
import { createClaims } from './claim.ts'
import { deliveryHandler } from './deliver.ts'
import { LostClaim } from './failure.ts'
import type { Handler, Handlers } from './handlers.ts'
import type { Lane } from './lane.ts'
import { type Loop, startLoop } from './loop.ts'
import { createProgress } from './progress.ts'
import { reconcile } from './reconcile.ts'
import { maintainPartitions } from './retention.ts'
import { createRunTimes } from './run-times.ts'
import { assertPayloads, createFiring, deleteOtherSchedules, type Scheduling, writeSchedules } from './schedules.ts'

export interface WorkerOptions {
  /** Made by `defineHandlers`. */
  handlers: Handlers
  /** Where Postgres is. */
  database: string | DatabaseOptions
  /** The operations to claim; default: all. */
  only?: readonly string[]
  /** Default: pino to stdout. */
  log?: Logger
  /** The origin of links in webhooks, without a slash at the end; default `http://127.0.0.1:3000`. */
  publicUrl?: string
  /** Private addresses that webhooks may call, or networks in CIDR notation; default: none. */
  webhookAllow?: readonly string[]
  /** How long running jobs may go on after `stop`, in seconds; default 15. What has not ended then is handed back. */
  graceSeconds?: number
}

/** A running worker. */
export interface Worker {
  /** Ends what runs, hands back what does not end in time without spending its attempt, and closes everything. */
  stop(): Promise<void>
}

/** The floor under the hints: how often all queues are looked over, in milliseconds. */
const lookEvery = 1_000
/** Below a third of the shortest heartbeat there is, which is 10 s. */
const touchEvery = 3_000
const reconcileEvery = 5_000
const cancellationsEvery = 2_000
const runTimesEvery = 1_000
const schedulesEvery = 60_000
const partitionsEvery = 60 * 60 * 1_000

/**
 * Starts a worker: it claims jobs with SKIP LOCKED, performs and settles them. Run `accepted migrate` first.
 *
 * @throws TypeError when a handler is missing or surplus, a schedule cannot be used, `only` names an unknown operation,
 *   or `webhookAllow` no address
 */
export async function createWorker(options: WorkerOptions): Promise<Worker> {
  const log = options.log ?? pino({ serializers: { err: serializeError } })
  const onError = (err: Error) => log.warn({ err }, 'Postgres')
  const all = new Map([...options.handlers.operations, [deliverWebhook.name, deliverWebhook]])
  const operations = choose(all, options.only)
  const webhookAllow = addressesIn(options.webhookAllow ?? [])
  const given = typeof options.database === 'string' ? { url: options.database } : options.database
  const database = openDatabase({ applicationName: 'accepted worker', poolSize: 20, onIdleError: onError, ...given })
  const closing: (() => unknown)[] = [() => database.close()]
  const close = async () => {
    for (const step of closing.toReversed()) await step()
  }
  try {
    const handlers = await options.handlers.load({
      db: database.kysely,
      log,
      onShutdown: (step) => void closing.push(step),
    })
    await assertMigrated(database)
    const boss = await startBoss(database, { supervise: true, onError })
    closing.push(() => boss.stop({ graceful: false }))
    // All of them: a handler may enqueue what another worker runs.
    await prepareQueues(boss, all.values())
    const scheduling = { database, boss, schedules: options.handlers.schedules, log }
    assertPayloads(scheduling.schedules)
    for (const schedule of await writeSchedules(scheduling)) log.warn({ schedule }, 'A schedule has no occurrence left')
    await deleteOtherSchedules(scheduling, options.handlers.operations)
    const origin = options.publicUrl ?? 'http://127.0.0.1:3000'
    const deliver = deliveryHandler({ db: database.kysely, origin, allow: webhookAllow })
    const withBuiltIn = new Map<string, Handler>([...handlers, [deliverWebhook.name, deliver]])
    return run({ options, operations, handlers: withBuiltIn, scheduling, database, boss, log, close })
  } catch (error) {
    await close()
    throw error
  }
}

function choose(operations: ReadonlyMap<string, Operation>, only: readonly string[] | undefined): Operation[] {
  const unknown = only?.filter((name) => !operations.has(name)) ?? []
  if (unknown.length > 0) throw new TypeError(`There is no operation ${unknown.join(', ')}`)
  return [...operations.values()].filter(({ name }) => only?.includes(name) ?? true)
}

interface Parts {
  options: WorkerOptions
  operations: readonly Operation[]
  handlers: ReadonlyMap<string, Handler>
  scheduling: Scheduling
  database: Database
  boss: PgBoss
  log: Logger
  close(): Promise<void>
}

function run({ options, operations, handlers, scheduling, database, boss, log, close }: Parts): Worker {
  const stopping = new AbortController()
  const hints = createNotifier(database)
  const progress = createProgress(database, hints, log)
  const cancellations = createCancellations(database)
  const runTimes = createRunTimes(database)
  const lanes = operations.map((operation): Lane => {
    const handler = handlers.get(operation.name) as Handler
    const claims = createClaims(database, boss, operation)
    return { operation, handler, claims, database, boss, hints, log: log.child({ operation: operation.name }) }
  })
  const context = { progress, cancellations, runTimes, stopping: stopping.signal }
  const loops = new Map(lanes.map((lane) => [lane.operation.name, startLoop(lane, context)]))
  const wake = (names: readonly string[]) => {
    for (const name of names) loops.get(name)?.wake()
  }
  const names = [...loops.keys()]
  const listener = listen(database, {
    channels: {
      [channels.work]: (payload) => wake(unpack(payload)),
      [channels.cancel]: (payload) => cancellations.hint(unpack(payload)),
    },
    onListening: () => wake(names),
    onError: (err) => log.warn({ err }, 'Hints are not heard; polling goes on'),
  })
  const chores = [
    every(lookEvery, log, async () => wake(await dueOperations(database, names))),
    every(touchEvery, log, () => touchAll(lanes, loops)),
    every(reconcileEvery, log, async () => hints.notify('status', await reconcile(database, boss, names, log))),
    every(cancellationsEvery, log, cancellations.look),
    every(runTimesEvery, log, runTimes.write),
    every(lookEvery, log, createFiring(scheduling, hints)),
    every(schedulesEvery, log, async () => void (await writeSchedules(scheduling))),
    every(partitionsEvery, log, () => maintainPartitions(database, log)),
  ]

  const stop = async () => {
    const drained = Promise.all([...loops.values()].map((loop) => loop.drain()))
    if (!(await within(drained, (options.graceSeconds ?? 15) * 1000))) {
      const held = lanes.map((lane) => ({ lane, claims: loops.get(lane.operation.name)?.held() ?? [] }))
      stopping.abort(new Error('The worker stops'))
      for (const { lane, claims } of held) await handBack(lane, claims)
    }
    await Promise.all(chores.map((chore) => chore.stop()))
    await listener.close()
    await progress.close()
    await hints.flush()
    await close()
  }
  let stopped: Promise<void> | undefined
  return {
    stop() {
      stopped ??= stop()
      return stopped
    },
  }
}

/** Operations with a job that is due: one cheap look over all queues. */
async function dueOperations({ kysely }: Database, names: readonly string[]): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    select queue.name from unnest(${names}::text[]) as queue (name)
    where exists (
      select from pgboss.job
      where job.name = queue.name and job.state < 'active' and not job.blocked and job.start_after <= now()
    )`.execute(kysely)
  return rows.map(({ name }) => name)
}

async function touchAll(lanes: readonly Lane[], loops: ReadonlyMap<string, Loop>): Promise<void> {
  for (const { operation, claims } of lanes) await claims.touch(loops.get(operation.name)?.held() ?? [])
}

/** Each by itself: one that ended or was lost at the last moment must not keep the others. */
async function handBack(lane: Lane, claims: ReturnType<Loop['held']>): Promise<void> {
  for (const claim of claims) {
    try {
      await lane.database.kysely.transaction().execute(async (trx) => {
        // A settle that hangs still holds the row; its claim is not ours to give back then.
        await sql`select set_config('lock_timeout', '1000', true)`.execute(trx)
        await showQueued(trx as unknown as AnyTransaction, claim.jobId)
        await lane.claims.release(trx as unknown as AnyTransaction, [claim], 0)
      })
      lane.hints.notify('status', [claim.jobId])
      lane.hints.notify('work', [lane.operation.name])
      lane.log.info({ job: claim.jobId }, 'Handed back')
    } catch (err) {
      if (err instanceof LostClaim) continue
      lane.log.error({ err, job: claim.jobId }, 'Could not be handed back; it runs again when its heartbeat is overdue')
      // Whoever stops us does not wait until each has tried in vain.
      if (isOutage(err)) return
    }
  }
}

const showQueued = (trx: AnyTransaction, id: string) =>
  sql`
    update accepted.job set state = 'queued', sequence = sequence + 1, updated_at = statement_timestamp()
    where id = ${id} and state = 'running'`.execute(trx)

interface Chore {
  stop(): Promise<void>
}

/** Does something again and again, at once and then with pauses, never twice at the same time. */
function every(milliseconds: number, log: Logger, work: () => Promise<void>): Chore {
  const stopping = new AbortController()
  const loop = async () => {
    while (!stopping.signal.aborted) {
      await work().catch((err) => log.warn({ err }, 'A chore failed; it is done again'))
      await delay(milliseconds, undefined, { signal: stopping.signal }).catch(() => {})
    }
  }
  const looping = loop()
  return {
    stop() {
      stopping.abort()
      return looping
    },
  }
}

/** Whether something ends within a time. */
async function within(something: Promise<unknown>, milliseconds: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds)
  })
  try {
    return await Promise.race([something.then(() => true), timeout])
  } finally {
    clearTimeout(timer)
  }
}
