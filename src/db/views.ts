import type { ChildCounts, JobStatus } from './tables.ts'

// The rows of the views, as the driver returns them. A count is a bigint, which the driver returns as a string.

export interface JobOverviewRow {
  id: string
  operation: string
  status: JobStatus
  principal: string
  percent: number | null
  message: string | null
  attempt: number
  max_attempts: number
  worker: string | null
  due_at: Date | null
  error_code: string | null
  error_message: string | null
  resource: string | null
  parent: string | null
  created_at: Date
  started_at: Date | null
  ended_at: Date | null
  cancel_requested: boolean
  paused: boolean
  paused_reason: string | null
  priority: number | null
  group_id: string | null
  limit_key: string | null
  idempotency_key: string | null
  retry_of: string | null
  children: ChildCounts | null
  waiting_for: string[] | null
  coalesced: number
  expires_at: Date
}

export interface TimelineRow {
  at: Date
  event: string
  attempt: number | null
  worker: string | null
  detail: string | null
}

export interface StuckRow {
  job_id: string
  operation: string
  why: string
  what_to_do: string
  since: Date
}

export interface BacklogRow {
  operation: string
  ready: string
  deferred: string
  running: string
  workers: string
  quarantined: string
  held_keys: string
  paused: boolean
  paused_at: Date | null
  paused_reason: string | null
}

export interface WorkerOverviewRow {
  id: string
  worker: string
  status: 'ready' | 'draining'
  silent: boolean
  running: string
  oldest_since: Date | null
  job_ids: string[] | null
  operations: string[]
  version: string
  started_at: Date
  heartbeat_at: Date
}

export interface ScheduleOverviewRow {
  name: string
  operation: string
  expression: string
  timezone: string
  next_at: Date | null
  next_fires: Date[]
  paused_at: Date | null
  paused_reason: string | null
  last_at: Date | null
  last_job_id: string | null
  last_status: JobStatus | null
  /** Number of requests to run or backfill it that no worker has taken yet. */
  requests: string
}

export interface DeliveryLogRow {
  endpoint_id: string
  delivery_id: string
  job_id: string | null
  attempt: number
  at: Date
  http_status: number | null
  error_code: string | null
  error_message: string | null
  duration_ms: number | null
  answer: string | null
}
