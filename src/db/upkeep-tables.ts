import type { Generated } from 'kysely'
import type { JobErrorColumn, OptionalTimestamp, RequiredTimestamp, Timestamp } from './column-types.ts'

export interface EndedWorkerTable {
  id: string
  host: string
  pid: number
  ended_at: Timestamp
}

/** A day whose expired jobs are being deleted. */
export interface ExpiryTable {
  day: Date
  /** A bigint, which the driver returns as a string. */
  next_page: string
}

export interface DeletedDayTable {
  day: Date
  deleted_at: Timestamp
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
  group_size: Generated<number>
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
  children_due_at: Timestamp
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

export interface EndingTable {
  job_id: string
  operation: string
  status: 'failed' | 'canceled'
  error: JobErrorColumn | null
  decided_at: Timestamp
  failures: Generated<number>
  last_error: string | null
  due_at: Timestamp
}

export interface ParentTable {
  job_id: string
  allow_failures: Generated<boolean>
  on_end: unknown
  first_pending: Generated<string>
}

export interface DependencyTable {
  job_id: string
  awaited_id: string
  on_failure: Generated<string>
}

export interface LimitKeyTable {
  operation: string
  key: string
  next_at: RequiredTimestamp
  slot_at: RequiredTimestamp
}

export interface LimitArrivalTable {
  /** A bigint, which the driver returns as a string. */
  id: string
  operation: string
  key: string | null
  job_id: string
  due_at: RequiredTimestamp
}

/** The tables with which the workers look after the jobs. Only they read and write them. */
export interface ScheduleTable {
  name: string
  operation: string
  expression: string
  timezone: string
  next_at: OptionalTimestamp
  last_at: OptionalTimestamp
  last_job_id: string | null
  paused: Generated<boolean>
  paused_at: OptionalTimestamp
  paused_reason: string | null
  later_at: Generated<Date[]>
  /** A tstzmultirange, which the driver returns as a string. */
  done: Generated<string>
  updated_at: Timestamp
}

export interface ScheduleRequestTable {
  /** The id of the job, or of the batch of a backfill. */
  id: string
  schedule: string
  since: OptionalTimestamp
  until: OptionalTimestamp
  max_jobs: number | null
  requested_at: Timestamp
}

export interface ThroughputHourTable {
  hour: RequiredTimestamp
  operation: string
  /** The counts are bigints, which the driver returns as strings. */
  succeeded: string
  failed: string
  canceled: string
  /** The times are in seconds. */
  wait_p50: number | null
  wait_p99: number | null
  run_p50: number | null
  run_p99: number | null
}

export interface UpkeepTables {
  'accepted.ended_worker': EndedWorkerTable
  'accepted.schedule': ScheduleTable
  'accepted.schedule_request': ScheduleRequestTable
  'accepted.ending': EndingTable
  'accepted.parent': ParentTable
  'accepted.dependency': DependencyTable
  'accepted.run_time': RunTimeTable
  'accepted.quarantine': QuarantineTable
  'accepted.rescue': RescueTable
  'accepted.reconciliation': ReconciliationTable
  'accepted.expiry': ExpiryTable
  'accepted.deleted_day': DeletedDayTable
  'accepted.change': ChangeTable
  'accepted.change_expiry': ChangeExpiryTable
  'accepted.limit_key': LimitKeyTable
  'accepted.limit_arrival': LimitArrivalTable
  'accepted.throughput_hour': ThroughputHourTable
}
