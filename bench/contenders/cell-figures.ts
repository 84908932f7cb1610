import type { JobRecord } from '../core/job-records.ts'
import type { Point } from '../core/scenario.ts'
import { quantile } from '../core/stats.ts'
import type { CellRun } from './cell-run.ts'

/** Shares are jobs that completed in a phase, divided by the jobs that the producer was to enqueue in it. */
export interface CellFigures {
  before: number
  during: number
  after: number
  /** Milliseconds from the time at which a job was due until its first execution ended; by the phase of that time. */
  p99Before: number
  p99During: number
  p99After: number
  /** Seconds from the end of the fault until jobs complete at the usual rate. Undefined: not within the run. */
  rateBack?: number
  /** The same, until also no job waits longer than usual. */
  recovery?: number
  /** Jobs that the producer could not enqueue, in all phases. */
  refused: number
  /** Jobs that were executed more than once. */
  repeated: number
  deadRows: number
  lost: number
  pending: number
  failed: number
  exits: number
  /** Jobs that completed per second and per offered job, over the seconds since the fault began. */
  points: readonly Point[]
}

/** From this share of the offered jobs on, the rate counts as usual. */
export const usualShare = 0.95
/** The rate is averaged over so many seconds. */
export const usualSeconds = 3
/** A job that waits longer is overdue, unless the contender is slow before the fault too. */
export const overdueMs = 1_000

export function figuresOf(run: CellRun): CellFigures {
  const { deadRows, lost, pending, failed, exits } = run
  const share = ([from, to]: readonly [number, number]) => completedIn(run.jobs, from, to) / dueIn(run.jobs, from, to)
  const p99 = ([from, to]: readonly [number, number]) => quantile(latencies(run.jobs, from, to), 0.99)
  return {
    before: share(run.before),
    during: share(run.during),
    after: share(run.after),
    // A job that was due right before the fault may end after it.
    p99Before: p99([run.before[0], run.before[1] - overdueMs]),
    p99During: p99(run.during),
    p99After: p99(run.after),
    ...recoveryOf(run, Math.max(overdueMs, 2 * p99([run.before[0], run.before[1] - overdueMs]))),
    refused: count(run.jobs, ({ committed, executions }) => committed === undefined && executions === 0),
    repeated: count(run.jobs, ({ executions }) => executions > 1),
    deadRows,
    lost,
    pending,
    failed,
    exits,
    points: pointsOf(run),
  }
}

const count = (jobs: readonly JobRecord[], matches: (job: JobRecord) => boolean) =>
  jobs.reduce((sum, job) => sum + (matches(job) ? 1 : 0), 0)

const isIn = (time: number | undefined, from: number, to: number) => time !== undefined && time >= from && time < to

const completedIn = (jobs: readonly JobRecord[], from: number, to: number) =>
  count(jobs, ({ ended }) => isIn(ended, from, to))

const dueIn = (jobs: readonly JobRecord[], from: number, to: number) => count(jobs, ({ due }) => isIn(due, from, to))

const latencies = (jobs: readonly JobRecord[], from: number, to: number) =>
  jobs.flatMap(({ due, ended }) => (isIn(due, from, to) && ended !== undefined ? [ended - (due as number)] : []))

function recoveryOf(run: CellRun, allowedMs: number): Pick<CellFigures, 'rateBack' | 'recovery'> {
  const { jobs, faultEndedAt, after, drainedAt } = run
  const windowMs = usualSeconds * 1000
  let rateBack: number | undefined
  for (let from = faultEndedAt; from + windowMs <= after[1] && rateBack === undefined; from += 1000) {
    const [completed, due] = [completedIn(jobs, from, from + windowMs), dueIn(jobs, from, from + windowMs)]
    if (completed >= usualShare * due) rateBack = (from - faultEndedAt) / 1000
  }
  if (rateBack === undefined) return {}
  const isOverdue = (at: number) =>
    jobs.some(
      ({ due = Number.NaN, committed, ended = Number.POSITIVE_INFINITY }) =>
        committed !== undefined && due + allowedMs < at && ended > at,
    )
  for (let at = faultEndedAt + rateBack * 1000; at <= drainedAt; at += 1000) {
    if (!isOverdue(at)) return { rateBack, recovery: (at - faultEndedAt) / 1000 }
  }
  return isOverdue(drainedAt) ? { rateBack } : { rateBack, recovery: (drainedAt - faultEndedAt) / 1000 }
}

function pointsOf({ jobs, before, during, after }: CellRun): Point[] {
  const points: Point[] = []
  for (let from = before[0]; from + 1000 <= after[1]; from += 1000) {
    const value = (100 * completedIn(jobs, from, from + 1000)) / (dueIn(jobs, from, from + 1000) || 1)
    points.push({ time: (from + 500 - during[0]) / 1000, value })
  }
  return points
}
