import type { Logger } from 'pino'
import { addressesIn } from '../src/config.ts'
import { type PgBoss, prepareQueues, startBoss } from '../src/db/boss.ts'
import { type Database, type DatabaseOptions, openDatabase } from '../src/db/database.ts'
import { listen } from '../src/db/listener.ts'
import { assertMigrated } from '../src/db/migrate.ts'
import { channels, createNotifier, unpack } from '../src/db/notifier.ts'
import { assertPreparedStatements } from '../src/db/pooler.ts'
import { isOutage } from '../src/db/sqlstate.ts'
import { untilWon } from '../src/db/transaction.ts'
import { deliverWebhook } from '../src/jobs/webhook-delivery.ts'
import { createLog } from '../src/log.ts'
import type { Operation } from '../src/operation.ts'
import { createCancellations } from './cancellations.ts'
import { onDemand, repeat } from './chore.ts'
import { createClaims } from './claim.ts'
import { createConnectionWatch } from './connection-watch.ts'
import { deliveryHandler } from './deliver.ts'
import { handBack } from './hand-back.ts'
import type { Handler, Handlers } from './handlers.ts'
import type { Health, Monitored } from './health.ts'
import { type Isolation, isolateHandlers } from './isolate.ts'
import type { Lane } from './lane.ts'
import { look } from './look.ts'
import { startLoop } from './loop.ts'
import { createMetrics } from './metrics.ts'
import { createProgress } from './progress.ts'
import { createReconciler } from './reconcile.ts'
import { maintainPartitions } from './retention.ts'
import { createRunTimes } from './run-times.ts'
import { assertPayloads, createFiring, deleteOtherSchedules, type Scheduling, writeSchedules } from './schedules.ts'
import { enterSweeps, takeBackSilent } from './silent.ts'
import { createSuspects, forgetEndedSuspects, type RunningLane } from './suspects.ts'
import { touch, touchEvery } from './vital-signs.ts'
import { within } from './within.ts'

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
export interface Worker extends Monitored {
  /**
   * Ends what runs, hands back what does not end in time without spending its attempt, and closes everything. Resolves
   * some seconds after the grace at the latest, whatever still hangs.
   */
  stop(): Promise<void>
}

/** The floor under the hints: how often is looked whether there is anything to do, in milliseconds. */
const lookEvery = 1_000
/** So much of the time looking may take: while an old snapshot is held, it reads all that was claimed since. */
const lookPart = 0.1
const cancellationsEvery = 2_000
const runTimesEvery = 1_000
const schedulesEvery = 60_000
const partitionsEvery = 60 * 60 * 1_000
const forgetEvery = 10 * 60 * 1_000
/** One for the heartbeats, one for everything else. */
const vitalPoolSize = 2
/** With a look Postgres is asked; without an answer for so long it is held to be away. In milliseconds. */
const answersWithin = 5_000
/** How long handing back, and then closing, may take after the grace, in milliseconds. */
const handBackWithin = 2_000
const closeWithin = 2_000

/**
 * Starts a worker: it claims jobs with SKIP LOCKED, performs and settles them. Run `accepted migrate` first.
 *
 * @throws TypeError when a handler is missing or surplus or cannot be isolated, a schedule cannot be used, `only` names
 *   an unknown operation, or `webhookAllow` no address
 */
export async function createWorker(options: WorkerOptions): Promise<Worker> {
  const log = options.log ?? createLog()
  const onError = (err: Error) => log.warn({ err }, 'Postgres')
  const all = new Map([...options.handlers.operations, [deliverWebhook.name, deliverWebhook]])
  const operations = choose(all, options.only)
  const webhookAllow = addressesIn(options.webhookAllow ?? [])
  const given = typeof options.database === 'string' ? { url: options.database } : options.database
  const database = openDatabase({ applicationName: 'accepted worker', poolSize: 20, onIdleError: onError, ...given })
  // Handlers may use up the other pool; whether we live is not theirs to say.
  const vital = openDatabase({
    ...database.options,
    applicationName: `${database.options.applicationName} vital`,
    poolSize: vitalPoolSize,
    onIdleError: onError,
  })
  const closing: (() => unknown)[] = [() => database.close(), () => vital.close()]
  const close = async () => {
    const errors: unknown[] = []
    for (const step of closing.toReversed()) {
      try {
        await step()
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length > 0)
      throw errors.length > 1 ? new AggregateError(errors, 'The worker could not be closed') : errors[0]
  }
  try {
    const handlers = await options.handlers.load({
      db: database.kysely,
      log,
      onShutdown: (step) => void closing.push(step),
    })
    const isolation = isolateHandlers(handlers, log)
    closing.push(() => isolation.close())
    await assertMigrated(database)
    await assertPreparedStatements(database.options)
    const boss = await startBoss(database, { supervise: true, onError })
    closing.push(() => boss.stop({ graceful: false }))
    // All of them: a handler may enqueue what another worker runs.
    await prepareQueues(boss, all.values())
    const scheduling = { database, boss, schedules: options.handlers.schedules, log }
    const names = operations.map(({ name }) => name)
    await untilWon(() => enterSweeps(database, names))
    assertPayloads(scheduling.schedules)
    const spent = await untilWon(() => writeSchedules(scheduling))
    for (const schedule of spent) log.warn({ schedule }, 'A schedule has no occurrence left')
    await untilWon(() => deleteOtherSchedules(scheduling, options.handlers.operations))
    const origin = options.publicUrl ?? 'http://127.0.0.1:3000'
    const deliver = deliveryHandler({ db: database.kysely, origin, allow: webhookAllow })
    const withBuiltIn = new Map<string, Handler>([...isolation.handlers, [deliverWebhook.name, deliver]])
    return run({ options, operations, handlers: withBuiltIn, scheduling, database, vital, boss, isolation, log, close })
  } catch (error) {
    await close().catch((err) => log.error({ err }, 'What was open could not be closed'))
    throw error
  }
}

function choose(operations: ReadonlyMap<string, Operation>, only: readonly string[] | undefined): Operation[] {
  const unknown = only?.filter((name) => !operations.has(name)) ?? []
  if (unknown.length > 0) throw new TypeError(`There is no operation ${unknown.join(', ')}`)
  if (only?.length === 0) throw new TypeError('only names no operation: leave it out to claim all of them')
  return [...operations.values()].filter(({ name }) => only?.includes(name) ?? true)
}

interface Parts {
  options: WorkerOptions
  operations: readonly Operation[]
  handlers: ReadonlyMap<string, Handler>
  scheduling: Scheduling
  database: Database
  /** Connections for what must not wait. */
  vital: Database
  boss: PgBoss
  isolation: Isolation
  log: Logger
  close(): Promise<void>
}

function run(parts: Parts): Worker {
  const { options, operations, handlers, scheduling, database, vital, boss, isolation, log, close } = parts
  const draining = new AbortController()
  const stopping = new AbortController()
  const hints = createNotifier(database)
  const progress = createProgress(database, hints, log)
  const cancellations = createCancellations(database)
  const runTimes = createRunTimes(database)
  const context = { progress, cancellations, runTimes, stopping: stopping.signal }
  const names = operations.map(({ name }) => name)
  const metrics = createMetrics(database, {
    operations: names,
    running: (name) => lanes.find(({ lane }) => lane.operation.name === name)?.loop.held().length ?? 0,
    isListening: () => listener.isListening(),
  })
  const lanes = operations.map((operation): RunningLane => {
    const handler = handlers.get(operation.name) as Handler
    const claims = createClaims(database, boss, operation)
    const ofOperation = log.child({ operation: operation.name })
    const lane: Lane = { operation, handler, claims, database, boss, hints, metrics, log: ofOperation }
    return { lane, loop: startLoop(lane, context) }
  })
  const wake = (some: readonly string[]) => {
    for (const { lane, loop } of lanes) if (some.includes(lane.operation.name)) loop.wake()
  }
  const listener = listen(database, {
    channels: {
      [channels.work]: (payload) => wake(unpack(payload)),
      [channels.cancel]: (payload) => cancellations.hint(unpack(payload)),
    },
    onListening: () => wake(names),
    onError: (err) => log.warn({ err }, 'Hints are not heard; polling goes on'),
  })
  const connection = createConnectionWatch()
  const onFailure = (err: Error) => {
    if (isOutage(err)) connection.disturbed()
    log.warn({ err }, 'A chore failed; it is done again')
  }
  const swept = lanes.map(({ lane }) => lane)
  const suspects = onDemand(createSuspects({ database, lanes, draining: draining.signal, log }), onFailure)
  const sweep = onDemand(() => takeBackSilent(vital, swept), onFailure)
  const reconcile = onDemand(createReconciler({ database, boss, hints, log }), onFailure)
  const fire = onDemand(createFiring(scheduling, hints), onFailure)
  let unansweredSince: number | undefined = performance.now()
  const lookAround = async () => {
    unansweredSince ??= performance.now()
    const found = await look(vital, names, [...scheduling.schedules.keys()])
    unansweredSince = undefined
    wake(found.operations)
    if (found.hasSchedules) fire.run()
    if (found.hasSuspects) suspects.run()
    if (found.hasSweeps && connection.isSteady()) sweep.run()
    if (found.unseenSince) reconcile.run(found.unseenSince)
  }
  const every = (milliseconds: number, work: () => Promise<void>) => repeat(milliseconds, work, onFailure)
  const chores = [
    repeat(lookEvery, lookAround, onFailure, lookPart),
    ...[suspects, sweep, reconcile, fire],
    every(touchEvery, async () => {
      await touch(
        vital,
        lanes.map(({ lane, loop }) => ({ name: lane.operation.name, claims: loop.held() })),
      )
      connection.touched()
    }),
    every(cancellationsEvery, cancellations.look),
    every(runTimesEvery, runTimes.write),
    every(schedulesEvery, async () => void (await writeSchedules(scheduling))),
    every(partitionsEvery, () => maintainPartitions(database, log, draining.signal)),
    every(forgetEvery, () => forgetEndedSuspects(database)),
  ]

  const stop = async () => {
    draining.abort()
    // One that has just been claimed to run alone is held by no loop yet.
    const drained = Promise.all([suspects.stop(), ...lanes.map(({ loop }) => loop.drain())])
    if (!(await within(drained, (options.graceSeconds ?? 15) * 1000))) {
      const held = lanes.map(({ lane, loop }) => ({ lane, claims: loop.held() }))
      stopping.abort(new Error('The worker stops'))
      // A settle that hangs holds the row of its job, and its claim could not be given back.
      database.cutOff()
      // Whoever gets a job next must not meet the one that still performs it.
      await isolation.close()
      await within(Promise.all(held.map(({ lane, claims }) => handBack(lane, claims))), handBackWithin)
    }
    if (!(await within(closeAll(), closeWithin))) log.warn('Something hangs while the worker closes; it is left behind')
  }
  const closeAll = async () => {
    try {
      await Promise.all(chores.map((chore) => chore.stop()))
      await listener.close()
      await progress.close()
      await hints.flush()
    } finally {
      await close()
    }
  }
  let stopped: Promise<void> | undefined
  const health = (): Health => {
    if (stopped) return 'draining'
    const waits = unansweredSince !== undefined && performance.now() - unansweredSince > answersWithin
    return waits ? 'database-unreachable' : 'ready'
  }
  return {
    health,
    metrics: metrics.text,
    stop() {
      stopped ??= stop()
      return stopped
    },
  }
}
