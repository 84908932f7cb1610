import type { Generated, GeneratedAlways } from 'kysely'
import type {
  BatchOutcome,
  ChildCounts,
  JobErrorColumn,
  OptionalTimestamp,
  RequiredTimestamp,
  Timestamp,
} from './column-types.ts'
import type { UpkeepTables } from './upkeep-tables.ts'

export type { BatchOutcome, ChildCounts, FailedChild, JobErrorColumn } from './column-types.ts'

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
  coalesced: Generated<number>
  /** A bigint, which the driver returns as a string. */
  sequence: Generated<string>
  result: unknown
  error: JobErrorColumn | null
  payload: unknown
  cancel_requested: Generated<boolean>
  cancel_requested_at: OptionalTimestamp
  group_id: string | null
  retry_of: string | null
  parent: string | null
  children: ChildCounts | null
  waiting_for: string[] | null
  after: string[] | null
  batch: BatchOutcome | null
  worker_id: string | null
  traceparent: string | null
  tracestate: string | null
  created_at: Timestamp
  run_at: OptionalTimestamp
  started_at: OptionalTimestamp
  updated_at: Timestamp
  ended_at: OptionalTimestamp
  expires_at: RequiredTimestamp
  attempt_started_at: OptionalTimestamp
  progress_at: OptionalTimestamp
  progress_base: number | null
  webhook_endpoint_id: string | null
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

export interface CoalescedKeyTable {
  operation: string
  principal: string
  key: string
  job_id: string
  ends_at: RequiredTimestamp
}

export interface AttemptTable {
  job_id: string
  attempt: number
  error: JobErrorColumn
  worker_id: string | null
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
  scopes: string[]
  operations: string[] | null
  prefix: string
  expires_at: OptionalTimestamp
  last_used_at: OptionalTimestamp
  rotated_from: string | null
}

export interface JobLinkTable {
  hash: Buffer
  job_id: string
  principal: string
  key_id: string | null
  expires_at: RequiredTimestamp
}

export interface WebhookEndpointTable {
  id: string
  url: string
  /** The only principal whose jobs are delivered; null for all. */
  principal: string | null
  event_types: Generated<string[]>
  operations: string[] | null
  /** The signing secrets, newest first. Each is encrypted, or `whsec_` and base64. */
  secrets: string[]
  /** For each secret, the id of the key that has encrypted it; null for a secret in clear. */
  secret_key_ids: GeneratedAlways<(string | null)[]>
  created_at: Timestamp
  disabled_at: OptionalTimestamp
  disabled_reason: string | null
  secret_rotated_at: OptionalTimestamp
  /** How many deliveries in a row have failed. */
  consecutive_failures: Generated<number>
  last_failed_delivery: string | null
  /** When the breaker opened; null while it is closed. */
  opened_at: OptionalTimestamp
  /** While the breaker is open: when the next delivery may be tried. */
  probe_at: OptionalTimestamp
}

export interface OperationTable {
  name: string
  summary: string
  retry_limit: number
  retry_delay_seconds: number
  retry_backoff: boolean
  retry_max_delay_seconds: number
  timeout_seconds: number
  heartbeat_seconds: number
  priority: number
  group_concurrency: number | null
  limit_starts: number | null
  limit_period_seconds: number | null
  limit_concurrency: number | null
  limit_has_key: boolean | null
  max_backlog: number | null
  max_backlog_per_principal: number | null
  keep_seconds: number
  has_abandon: Generated<boolean>
  is_fair: Generated<boolean>
  payload_schema: unknown
  paused_at: OptionalTimestamp
  paused_reason: string | null
  defined_at: Timestamp
}

export interface WorkerTable {
  id: string
  host: string
  pid: number
  version: string
  operations: string[]
  status: Generated<string>
  started_at: Timestamp
  heartbeat_at: Timestamp
}

export interface EndedJobTable {
  ended_at: RequiredTimestamp
  job_id: string
  status: JobStatus
}

export interface AuditTable {
  /** A bigint, which the driver returns as a string. */
  id: string
  at: Timestamp
  role: string
  key_id: string | null
  principal: string | null
  action: string
  object: string | null
}

export interface ConsoleSessionTable {
  hash: Buffer
  key_id: string
  expires_at: RequiredTimestamp
}

export interface Tables extends UpkeepTables {
  'accepted.job': JobTable
  'accepted.operation': OperationTable
  'accepted.worker': WorkerTable
  'accepted.ended_job': EndedJobTable
  'accepted.audit': AuditTable
  'accepted.idempotency_key': IdempotencyKeyTable
  'accepted.processed_key': ProcessedKeyTable
  'accepted.coalesced_key': CoalescedKeyTable
  'accepted.attempt': AttemptTable
  'accepted.api_key': ApiKeyTable
  'accepted.job_link': JobLinkTable
  'accepted.webhook_endpoint': WebhookEndpointTable
  'accepted.console_session': ConsoleSessionTable
}
