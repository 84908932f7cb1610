import { sql } from 'kysely'
import type { Logger } from 'pino'
import type { Database } from '../../src/db/database.ts'
import { runWithGenericPlan } from '../../src/db/plan-settings.ts'
import { pendingStatusesSql } from '../../src/jobs/status.ts'
import { settledWithin } from '../../src/primitives/timeout.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { releaseClaims } from '../execution/release.ts'
import {
  type Group,
  type PausableWorker,
  type QuarantinedJob,
  reserve,
  reserveGroup,
  turnMs,
} from './quarantine-groups.ts'

export interface QuarantineOptions {
  database: Database
  workers: readonly PausableWorker[]
  /** Aborts when the worker stops claiming jobs. */
  draining: AbortSignal
  log: Logger
}

/**
 * Creates the task that runs quarantined jobs: jobs that a worker held when it died. The process first waits until its
 * other jobs have ended. Then it runs one group of quarantined jobs after another. After that, other jobs get at least
 * as much time, so that neither kind of job blocks the other. If there are no other jobs, the next group follows at
 * once. Other processes skip jobs that this process has reserved.
 *
 * The jobs that were rescued together run in four groups. If a worker dies while it runs a group, the jobs of this group
 * run in four groups again, until each job runs alone (rescuer.ts). So a job that crashes workers is alone after
 * log4(n) deaths, rounded up, if n jobs were rescued together. Another job is held by at most as many workers that die.
 */
export function createQuarantine(options: QuarantineOptions): () => Promise<void> {
  const { database, workers, draining } = options
  let nextTurnAt = 0

  const runAll = async (first: Group) => {
    const turnEndsAt = performance.now() + turnMs
    for (let next: Group | undefined = first; next; next = await reserveGroup(database, workers)) {
      const haveEnded = await runGroup(options, next.jobs)
      if (!haveEnded || draining.aborted || performance.now() > turnEndsAt) return
    }
  }

  /** The poll that starts this task has just woken the loops that have due jobs. */
  const mustRest = () => performance.now() < nextTurnAt && !workers.every(({ loop }) => loop.isSettled())

  return async () => {
    if (mustRest() || draining.aborted) return
    const first = await reserveGroup(database, workers)
    if (!first) return
    const startedAt = performance.now()
    try {
      const emptied = Promise.all(workers.map(({ loop }) => loop.pause()))
      const isEmpty = await settledWithin(emptied, first.drainTimeoutSeconds * 1000)
      if (isEmpty && !draining.aborted) await runAll(first)
      else await reserve(database, first.jobs, 0)
    } finally {
      nextTurnAt = performance.now() + Math.max(turnMs, performance.now() - startedAt)
      for (const { loop } of workers) loop.resume()
    }
  }
}

/**
 * Runs quarantined jobs in a process that runs no other job. When an attempt ends, with any outcome, it has not crashed
 * the worker. Its job then leaves quarantine in the transaction that finishes the attempt.
 *
 * @returns false when no job can be claimed, when a job has not ended, or when this worker stops
 */
async function runGroup(
  { database, workers, draining, log }: QuarantineOptions,
  jobs: readonly QuarantinedJob[],
): Promise<boolean> {
  const byOperation = Map.groupBy(jobs, ({ operation }) => operation)
  const ours = workers.filter(({ worker }) => byOperation.has(worker.operation.name))
  const claimed = new Map<PausableWorker, Claim[]>(ours.map((one) => [one, []]))
  const releaseAll = () => Promise.all([...claimed].map(([{ worker }, claims]) => releaseClaims(worker, claims)))
  const refused: QuarantinedJob[] = []
  try {
    for (const [{ worker }, claims] of claimed) {
      for (const job of byOperation.get(worker.operation.name) ?? []) {
        const claim = await worker.claims.claimQuarantined(job.queue_id)
        if (claim) claims.push(claim)
        else refused.push(job)
      }
    }
  } catch (error) {
    await releaseAll()
    throw error
  }
  // The group or the limit of a refused job may be full. It may have room again soon, so the reservation is shortened.
  await reserve(database, refused, turnMs / 1000)
  const running = jobs.filter((job) => !refused.includes(job))
  if (running.length === 0) return false
  if (draining.aborted) {
    await releaseAll()
    await reserve(database, running, 0)
    return false
  }
  log.info(
    { jobs: running.map(({ job_id }) => job_id) },
    'Running quarantined jobs apart from other jobs, because a worker died while it held them',
  )
  const times = ours.map(({ worker: { operation } }) => operation.timeoutSeconds + operation.heartbeatSeconds)
  await reserve(database, running, Math.max(...times))
  const ended = await Promise.all([...claimed].map(([{ loop }, claims]) => claims.length === 0 || loop.run(claims)))
  // Ends the reservation. A job is still in quarantine if it was released, or was rescued from this process.
  await reserve(database, running, 0)
  return ended.every(Boolean)
}

/**
 * Removes jobs from quarantine if they have ended without a run, for example because they were canceled before their
 * turn.
 */
export async function pruneQuarantine({ kysely }: Database): Promise<void> {
  // With the offset, Postgres looks up each job. Otherwise it may read the whole status table.
  const statement = sql`
    delete from accepted.quarantine
    where not exists (select from accepted.job where id = job_id and status in ${pendingStatusesSql} offset 0)`
  await runWithGenericPlan(kysely, statement)
}
