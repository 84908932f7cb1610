import { sql } from 'kysely'
import { formatCount, formatNumber } from '../primitives/format-count.ts'
import type { Check, CheckContext, Finding } from './check.ts'
import { formatSeconds, literal } from './format.ts'

/** Operations that no worker runs, silent workers, stuck jobs, paused operations. */
export const operations: readonly Check[] = [
  { name: 'backlog', run: backlog },
  { name: 'workers', run: silentWorkers },
  { name: 'stuck jobs', run: stuckJobs },
]

interface Backlog {
  operation: string
  ready: number
  oldest: number | null
  workers: number
  paused_at: Date | null
  paused_reason: string | null
}

/** Above this number, `accepted.backlog` has the number that pg-boss counted in the last 30 seconds. */
const maxCounted = 10_000

async function backlog({ query, note }: CheckContext): Promise<Finding[]> {
  const rows = await query(sql<Backlog>`
    select operation, ready::float8 as ready, extract(epoch from oldest)::float8 as oldest, workers::int as workers,
      paused_at, paused_reason
    from accepted.backlog order by operation`)
  note(
    `${formatCount(rows.length, 'operation')} with ${formatCount(
      rows.reduce((sum, { ready }) => sum + ready, 0),
      'due job',
    )}`,
  )
  return rows.flatMap(({ operation, ready, oldest, workers, paused_at, paused_reason }): Finding[] => {
    const count = ready > maxCounted ? `more than ${formatCount(maxCounted, 'job')}` : formatCount(ready, 'job')
    const due = `${count} ${ready === 1 ? 'is' : 'are'} due`
    if (paused_at) {
      return [
        {
          code: 'operation-paused',
          severity: 'warning',
          message: `${operation} has been paused since ${paused_at.toISOString()} (${paused_reason ?? 'no reason given'}); ${due}.`,
          action: `When the reason is gone: select accepted.resume(${literal(operation)})`,
          details: { operation, pausedAt: paused_at, reason: paused_reason, ready },
        },
      ]
    }
    if (ready === 0 || workers > 0) return []
    return [
      {
        code: 'no-worker',
        severity: 'error',
        message: `No live worker takes ${operation}: ${due}, the oldest for ${formatSeconds(oldest ?? 0)}.`,
        action: `accepted worker --operations ${operation}`,
        details: { operation, ready, oldestSeconds: oldest },
      },
    ]
  })
}

async function silentWorkers({ query, limits }: CheckContext): Promise<Finding[]> {
  const rows = await query(sql<{ worker: string; running: number; seconds: number }>`
    select worker, coalesce(running, 0)::int as running,
      extract(epoch from now() - heartbeat_at)::float8 as seconds
    from accepted.worker_overview where silent order by heartbeat_at limit ${limits.findings}`)
  return rows.map(({ worker, running, seconds }) => ({
    code: 'worker-silent',
    severity: 'warning',
    message: `The worker ${worker} has sent no heartbeat for ${formatSeconds(seconds)}, and holds ${formatCount(running, 'job')}.`,
    action: 'Look whether its process runs, and read its log. If it is gone: other workers rescue its jobs.',
    details: { worker, running, seconds },
  }))
}

interface Stuck {
  operation: string
  why: string
  what_to_do: string
  jobs: number
  job_id: string
  since: Date | null
}

/** Jobs of paused operations, and those that no worker takes, are reported with the backlog. */
async function stuckJobs({ query, limits }: CheckContext): Promise<Finding[]> {
  const rows = await query(sql<Stuck>`
    select operation, why, (array_agg(what_to_do order by since))[1] as what_to_do, count(*)::int as jobs,
      (array_agg(job_id::text order by since))[1] as job_id, min(since) as since
    from accepted.stuck
    where code not in ('paused', 'no-worker')
    group by operation, why order by min(since) limit ${limits.findings}`)
  return rows.map(({ operation, why, what_to_do, jobs, job_id, since }) => ({
    code: 'job-stuck',
    severity: 'error',
    message:
      `The job ${job_id} of ${operation} is stuck since ${since?.toISOString()}: ${why}` +
      `${jobs > 1 ? ` (and ${formatNumber(jobs - 1)} more)` : ''}.`,
    action: what_to_do,
    details: { operation, jobId: job_id, why, jobs, since },
  }))
}
