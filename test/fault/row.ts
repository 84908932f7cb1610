import { setTimeout as delay } from 'node:timers/promises'
import { until } from '../support/until.ts'
import type { CheckResult } from './checker.ts'
import type { Load, LoadOptions } from './client.ts'
import type { Journal } from './journal.ts'
import type { FaultProxy } from './proxy.ts'
import type { PostgresServer } from './server.ts'
import type { ProcessOptions, SupervisedProcess } from './supervised-process.ts'

/** A row of the fault matrix: processes under load, the faults that hit these processes, and what must hold. */
export interface Row {
  name: string
  /** The fault, and what must hold. */
  summary: string
  /** The number of API processes at the start. Default: 1. */
  apiCount?: number
  /** The number of worker processes at the start. Default: 2. */
  workerCount?: number
  processOptions?: Partial<ProcessOptions>
  /** Whether the row waits most of the time. Such a row runs in parallel with the other rows. */
  isMostlyWaiting?: boolean
  /** Starts a server for this row only. Default: the row uses the shared server. */
  startServer?: (directory: string) => Promise<PostgresServer>
  /** Whether processes may crash. If not, a crash is a finding. */
  mayCrash?: boolean
  /** Selects the intents whose jobs have to fail. Every other intent has to succeed. */
  isExpectedToFail?: (token: string) => boolean
  /** Whether any job may fail or be canceled. */
  mayEndUnsuccessfully?: boolean
  /** Starts and stops the load, and causes the faults. */
  run(context: RowContext): Promise<RowOutcome>
}

/** The environment of a row. */
export interface RowContext {
  server: PostgresServer
  /** The proxy between the processes and Postgres. */
  proxy: FaultProxy
  /** The URL of the database, without the proxy. */
  databaseUrl: string
  directory: string
  journal: Journal
  /** The load sends each request to a random API process. */
  apis: SupervisedProcess[]
  workers: SupervisedProcess[]
  /** Creates a process that ends with the row. */
  createProcess(command: 'api' | 'worker', options?: Partial<ProcessOptions>): Promise<SupervisedProcess>
  startLoad(options?: Partial<LoadOptions>): Load
  /** Whether to run the short version of the row. */
  isShort: boolean
  /** Runs a statement in the database, without the proxy. */
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape
  query(text: string, values?: unknown[]): Promise<any[]>
}

/** What a row did and observed. */
export interface RowOutcome {
  faultCount: number
  notes?: string[]
  /** One sentence per violation. */
  findings?: string[]
  /** Runs when every job has ended. Returns more findings. */
  checkAfterDrain?: () => Promise<string[]>
  /** The server that has the data after a failover. */
  server?: PostgresServer
}

/** The result of a row. */
export interface RowResult extends CheckResult {
  row: string
  faultCount: number
  /** The time from the end of the faults until every job had ended. */
  recoverySeconds: number
  notes: string[]
}

/** The finding that is reported when a load gets no more acknowledgements. */
export const nothingAccepted = 'No more requests were accepted'

/**
 * Waits until no job is pending in accepted.job or in the queue.
 *
 * @returns the number of pending jobs, which is 0 unless the wait timed out
 */
export async function waitUntilDrained({ query }: Pick<RowContext, 'query'>, timeoutSeconds: number): Promise<number> {
  const deadline = performance.now() + timeoutSeconds * 1000
  for (;;) {
    const [row] = await query(`
      select
        (select count(*) from accepted.job where ended_at is null)
        + (select count(*) from accepted_queue.job where state <= 'active' and name like 'intent.%') as pending`).catch(
      () => [],
    )
    const pending = Number(row?.pending ?? 1)
    if (pending === 0 || performance.now() > deadline) return pending
    await delay(100)
  }
}

/** Waits until `count` more intents have been acknowledged. Returns false after a timeout. */
export async function waitForAcknowledgements(load: Load, count: number, timeoutSeconds = 60): Promise<boolean> {
  const goal = load.acknowledgedCount() + count
  const deadline = performance.now() + timeoutSeconds * 1000
  while (load.acknowledgedCount() < goal) {
    if (performance.now() > deadline) return false
    await delay(10)
  }
  return true
}

/**
 * Waits until `count` more intents have been acknowledged, and the handlers have had `count` more effects.
 *
 * @returns one finding for each that does not happen in time
 */
export async function findStandstill(context: RowContext, load: Load, count: number): Promise<string[]> {
  const countEffects = async () => Number((await context.query('select count(*) from effect'))[0].count)
  const goal = (await countEffects()) + count
  if (!(await waitForAcknowledgements(load, count))) return [nothingAccepted]
  const areSettled = until(async () => (await countEffects()) >= goal)
  return areSettled.then(
    () => [],
    () => ['No more jobs were settled'],
  )
}

/** Reports attempts that a fault has used up. */
export async function findSpentAttempts({ query }: Pick<RowContext, 'query'>): Promise<string[]> {
  const [{ spent }] = await query(
    'select (select count(*) from accepted.attempt) + (select count(*) from accepted.job where attempt > 1) as spent',
  )
  return Number(spent) > 0 ? [`${spent} attempts were spent`] : []
}
