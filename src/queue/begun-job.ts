import type { BatchOutcome } from '../db/tables.ts'

/** The columns of a job that an attempt needs. */
export interface AttemptedJob {
  id: string
  principal: string
  idempotency_key: string | null
  traceparent: string | null
  tracestate: string | null
  attempt: number
  max_attempts: number
  batch: BatchOutcome | null
}

/** A job whose attempt has begun. */
export interface BegunJob extends AttemptedJob {
  /** The progress of earlier attempts. */
  percent: number | null
  /**
   * Whether another job holds the idempotency key in the dedup table. The record of that other job may have expired.
   */
  is_key_taken: boolean
}
