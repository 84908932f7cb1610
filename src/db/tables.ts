import type { ColumnType, Generated } from 'kysely'

type Timestamp = ColumnType<Date, Date | string | undefined, Date | string>
type RequiredTimestamp = ColumnType<Date, Date | string, Date | string>
type OptionalTimestamp = ColumnType<Date | null, Date | string | null | undefined, Date | string | null>

/** `accepted.job_status`. */
export type JobStatus = 'queued' | 'running' | 'succeeded' | 'failed' | 'canceled'

/** `accepted.job`: the status table. The columns are described in migrations/schema.sql. */
export interface JobTable {
  id: string
  operation: string
  status: Generated<JobStatus>
  principal: string
  idempotency_key: string | null
  resource: string | null
  percent: number | null
  message: string | null
  attempt: Generated<number>
  max_attempts: number
  /** A bigint, which the driver returns as a string. */
  sequence: Generated<string>
  result: unknown
  error: JobErrorColumn | null
  payload: unknown
  cancel_requested: Generated<boolean>
  retry_of: string | null
  traceparent: string | null
  created_at: Timestamp
  started_at: OptionalTimestamp
  updated_at: Timestamp
  ended_at: OptionalTimestamp
  expires_at: RequiredTimestamp
  attempt_started_at: OptionalTimestamp
  progress_at: OptionalTimestamp
  webhook_endpoint_id: string | null
}

/** The value of `accepted.job.error`. The text is for operators and contains no credentials. */
export interface JobErrorColumn {
  code: string
  message: string
  /** The handler has thrown `JobFailed`: clients see the code, the message and the details. */
  public?: true
  /** The HTTP status (4xx) that the result URL answers with, if the handler has set a status. */
  status?: number
  details?: readonly unknown[]
}

export interface IdempotencyKeyTable {
  principal: string
  key: string
  fingerprint: Buffer
  job_id: string
  created_at: Timestamp
}

export interface ProcessedKeyTable {
  operation: string
  principal: string
  key: string
  job_id: string
  processed_at: Timestamp
}

export interface AttemptTable {
  job_id: string
  attempt: number
  error: JobErrorColumn
  started_at: OptionalTimestamp
  failed_at: Timestamp
}

export interface ApiKeyTable {
  id: string
  name: string
  principal: string
  hash: Buffer
  created_at: Timestamp
  revoked_at: OptionalTimestamp
  scopes: Generated<string[]>
}

export interface WebhookEndpointTable {
  id: string
  url: string
  event_types: Generated<string[]>
  operations: string[] | null
  /** The signing secrets, newest first. Each secret is `whsec_` and base64. */
  secrets: string[]
  created_at: Timestamp
  disabled_at: OptionalTimestamp
  disabled_reason: string | null
  secret_rotated_at: OptionalTimestamp
}

/** A day whose expired jobs are being deleted. */
export interface ExpiryTable {
  day: Date
  /** A bigint, which the driver returns as a string. */
  next_page: string
}

export interface RunTimeTable {
  operation: string
  seconds: number
  updated_at: Timestamp
}

export interface QuarantineTable {
  job_id: string
  operation: string
  queue_id: string
  crashes: number
  rescues: Generated<number>
  crashed_at: Timestamp
  reserved_until: Timestamp
}

export interface RescueTable {
  operation: string
  checked_at: Timestamp
}

export interface ReconciliationTable {
  only_row: Generated<boolean>
  ended_up_to: Generated<string>
  position: Generated<string>
  compared_at: Timestamp
  ended_before: Timestamp
  observed_at: Timestamp
  /** An xid8, which the driver returns as a string. */
  observed_xmax: Generated<string>
}

export interface ScheduleTable {
  name: string
  operation: string
  expression: string
  timezone: string
  next_at: OptionalTimestamp
  last_at: OptionalTimestamp
  last_job_id: string | null
  paused: Generated<boolean>
  updated_at: Timestamp
}

export interface ChangeTable {
  /** An xid8, which the driver returns as a string. */
  xid: string
  id: string
  job_ids: string[]
  principal_hashes: number[]
}

export interface ChangeExpiryTable {
  only_row: Generated<boolean>
  /** The text of a pg_snapshot, like `next`. */
  deleted: Generated<string>
  next: Generated<string>
  next_at: Timestamp
}

export interface Tables {
  'accepted.job': JobTable
  'accepted.idempotency_key': IdempotencyKeyTable
  'accepted.processed_key': ProcessedKeyTable
  'accepted.attempt': AttemptTable
  'accepted.api_key': ApiKeyTable
  'accepted.webhook_endpoint': WebhookEndpointTable
  'accepted.run_time': RunTimeTable
  'accepted.schedule': ScheduleTable
  'accepted.quarantine': QuarantineTable
  'accepted.rescue': RescueTable
  'accepted.reconciliation': ReconciliationTable
  'accepted.expiry': ExpiryTable
  'accepted.change': ChangeTable
  'accepted.change_expiry': ChangeExpiryTable
}
