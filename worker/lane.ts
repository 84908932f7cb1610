import type { Logger } from 'pino'
import type { PgBoss } from '../src/db/boss.ts'
import type { Database } from '../src/db/database.ts'
import type { Notifier } from '../src/db/notifier.ts'
import type { Operation } from '../src/operation.ts'
import type { Claim, Claims } from './claim.ts'
import type { Handler, RunningJob } from './handlers.ts'
import type { Metrics } from './metrics.ts'

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

/** A pending job, as it is locked. */
export interface PendingJob {
  id: string
  principal: string
  idempotency_key: string | null
  attempt: number
  max_attempts: number
  attempt_started_at: Date | null
  /** How long its record is kept yet, in seconds. */
  kept_seconds: number
  cancel_requested: boolean
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
    log: lane.log.child({ job: row.id, attempt: claim.attempt }),
  }
}
