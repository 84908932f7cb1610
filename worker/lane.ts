import type { Logger } from 'pino'
import type { PgBoss } from '../src/db/boss.ts'
import type { Database } from '../src/db/database.ts'
import type { Notifier } from '../src/db/notifier.ts'
import type { Operation } from '../src/operation.ts'
import type { Claim, Claims } from './claim.ts'
import type { Handler, RunningJob } from './handlers.ts'
import type { Metrics } from './metrics.ts'
import type { PendingJob } from './status.ts'

/** What the worker of one operation works with. */
export interface Lane {
  operation: Operation
  handler: Handler
  claims: Claims
  database: Database
  boss: PgBoss
  /** Tells workers and watchers, after the commit. */
  hints: Notifier
  metrics: Metrics
  log: Logger
}

/** What a handler sees of its job, whether it performs or settles. */
export function describeJob(lane: Lane, claim: Claim, row: PendingJob): Omit<RunningJob, 'setResource'> {
  return {
    id: row.id,
    operation: lane.operation.name,
    payload: claim.payload,
    principal: row.principal,
    attempt: claim.attempt,
    maxAttempts: row.max_attempts,
    idempotencyKey: row.idempotency_key ?? row.id,
    traceparent: row.trace ?? undefined,
    log: lane.log.child({ job: row.id, attempt: claim.attempt, ...(row.trace && { traceparent: row.trace }) }),
  }
}
