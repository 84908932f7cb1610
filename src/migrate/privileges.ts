import { queueSchema } from '../queue/schema.ts'

/** The group roles. An app's login roles are members of them. A single role that owns everything works too. */
export const roles = {
  owner: 'accepted_owner',
  api: 'accepted_api',
  worker: 'accepted_worker',
  reader: 'accepted_reader',
  operator: 'accepted_operator',
} as const

/** A role with privileges. The owner needs none. */
export type GrantedRole = Exclude<keyof typeof roles, 'owner'>

interface RolePrivileges {
  schemas: readonly string[]
  /** By table: the privileges, each with the columns in parentheses unless it is for the whole table. */
  tables: Readonly<Record<string, string>>
  functions: readonly string[]
}

const queue = (name: string) => `${queueSchema}.${name}`

const inAccepted = (name: string) => `accepted.${name}`

const endpointColumns = [
  'id, url, principal, event_types, operations, secret_key_ids, created_at, secret_rotated_at',
  'disabled_at, disabled_reason, consecutive_failures, last_failed_delivery, opened_at, probe_at',
].join(', ')

const updatableKeyColumns = 'expires_at, last_used_at, revoked_at'

/** The API and the workers end jobs whose operation has `abandon`. */
const endingFunctions = ['accepted.lock_endings', 'accepted.complete_ends', 'accepted.postpone_ending']

const readableJobColumns = [
  'id, operation, status, principal, idempotency_key, resource, group_id, retry_of, parent, children',
  'waiting_for, after, batch, webhook_endpoint_id, worker_id, traceparent, tracestate, sequence, attempt, max_attempts, coalesced, cancel_requested, cancel_requested_at, percent, message',
  'error, created_at, run_at, started_at, attempt_started_at, progress_at, progress_base, updated_at, ended_at, expires_at',
].join(', ')

const metricsFunctions = ['operation_metrics', 'database_metrics']

/** The privileges of each role. `accepted migrate` grants them. */
export const privileges: Readonly<Record<GrantedRole, RolePrivileges>> = {
  api: {
    schemas: ['accepted', queueSchema],
    tables: {
      'accepted.migration': 'select',
      'accepted.job': 'select, insert',
      'accepted.change': 'select',
      'accepted.change_expiry': 'select',
      'accepted.ending': 'select',
      'accepted.idempotency_key': 'select, insert, update (fingerprint, job_id, created_at)',
      'accepted.run_time': 'select',
      'accepted.webhook_endpoint': `select (${endpointColumns}), insert (id, url, principal, event_types, operations, secrets), delete`,
      'accepted.api_key': `select, insert, update (${updatableKeyColumns})`,
      'accepted.job_link': 'select, insert, delete',
      'accepted.console_session': 'select, insert, delete',
      [queue('version')]: 'select',
      [queue('queue')]: 'select',
      [queue('job')]: 'select',
      [queue('job_common')]: 'select, insert',
    },
    functions: [
      'accepted.define_operations',
      'accepted.has_had_keys',
      'accepted.jobs_changed_since',
      'accepted.may_be_deleted',
      ...['is_backlog_full', 'count_backlog', ...metricsFunctions].map(inAccepted),
      'accepted.next_attempt_at',
      'accepted.last_error',
      ...['lock_own_job', 'take_coalescing_keys', 'coalesce_requests'].map(inAccepted),
      'accepted.cancel',
      ...endingFunctions,
      'accepted.create_retry',
      ...['add_dependencies', 'insert_batch', 'enqueue', 'enqueue_batch'].map(inAccepted),
      // Computes a column of new endpoints.
      'accepted.secret_key_ids',
      'accepted.rotate_webhook_secret',
      'accepted.deliver_webhook',
      queue('job_now'),
    ],
  },
  worker: {
    schemas: ['accepted', queueSchema],
    tables: {
      'accepted.migration': 'select',
      'accepted.job': 'select, insert, update',
      'accepted.operation': 'select',
      'accepted.worker': 'select, insert, update, delete',
      'accepted.ended_worker': 'select, insert, update, delete',
      'accepted.attempt': 'select, insert',
      'accepted.ending': 'select',
      'accepted.parent': 'select',
      'accepted.dependency': 'select',
      'accepted.processed_key': 'select, insert, delete',
      'accepted.rescue': 'select, insert, update',
      'accepted.quarantine': 'select, insert, update, delete',
      'accepted.limit_key': 'select, insert, update',
      'accepted.limit_arrival': 'select, update, delete',
      'accepted.reconciliation': 'select, update',
      'accepted.schedule': 'select, insert, update, delete',
      'accepted.schedule_request': 'select, delete',
      'accepted.run_time': 'select, insert, update',
      'accepted.webhook_endpoint':
        'select, update (disabled_at, disabled_reason, consecutive_failures, last_failed_delivery, opened_at, probe_at)',
      [queue('version')]: 'select, update',
      [queue('queue')]: 'select, update',
      [queue('job')]: 'select, insert, update, delete',
      [queue('job_common')]: 'select, insert, update, delete',
      [queue('job_dependency')]: 'select, delete',
    },
    functions: [
      'accepted.define_operations',
      'accepted.is_paused',
      'accepted.is_overdue',
      'accepted.live_workers',
      'accepted.uuid_floor',
      'accepted.secret_key_ids',
      'accepted.claim',
      'accepted.claim_in_turn',
      'accepted.begin_claimed',
      'accepted.find_due_work',
      ...['waiting_endpoints', 'claim_deliveries', 'claim_excess_deliveries'].map(inAccepted),
      ...['is_limited', 'claim_limited', 'admit_limited', 'limit_pace', 'count_slots', 'next_slot'].map(inAccepted),
      ...['count_places', 'maintain_limits'].map(inAccepted),
      // Handlers and abandon may call them.
      ...['enqueue', 'enqueue_batch', 'cancel'].map(inAccepted),
      ...['find_jobs', 'change_jobs', 'record_throughput'].map(inAccepted),
      ...['decide_ends', 'await_children', 'report_children', 'resolve_ends', 'resolve_missed', 'is_ancestor'].map(
        inAccepted,
      ),
      ...['add_dependencies', 'insert_batch', ...metricsFunctions].map(inAccepted),
      ...endingFunctions,
      'accepted.delete_old_changes',
      'accepted.create_job_partitions',
      'accepted.replace_default_partition',
      'accepted.begin_expiry',
      'accepted.delete_keys_of_day',
      'accepted.delete_jobs_of_day',
      queue('job_now'),
    ],
  },
  reader: {
    schemas: ['accepted'],
    tables: {
      'accepted.job': `select (${readableJobColumns})`,
      'accepted.idempotency_key': 'select (principal, key, job_id, created_at)',
      'accepted.webhook_endpoint': `select (${endpointColumns})`,
      ...Object.fromEntries(
        [
          ...[
            'migration',
            'app_migration',
            'operation',
            'worker',
            'ended_worker',
            'ending',
            'parent',
            'dependency',
            'ended_job',
          ],
          ...['processed_key', 'attempt', 'coalesced_key', 'limit_key', 'limit_arrival'],
          ...['rescue', 'quarantine', 'reconciliation', 'audit', 'schedule', 'schedule_request', 'run_time', 'expiry'],
          ...['job_overview', 'timeline', 'backlog', 'stuck', 'failure', 'throughput', 'throughput_hour', 'storage'],
          ...['worker_overview', 'held_key', 'key_overview', 'delivery_log', 'schedule_overview'],
        ].map((name) => [`accepted.${name}`, 'select']),
      ),
    },
    // The views call these functions.
    functions: [
      'accepted.uuid_floor',
      'accepted.uuid_time',
      'accepted.is_paused',
      'accepted.is_overdue',
      'accepted.live_workers',
      'accepted.count_workers',
      'accepted.worker_name',
      'accepted.job_partitions',
      ...['due_jobs', 'count_waiting', 'claimed_jobs', 'failed_jobs', 'ended_jobs', 'find_jobs'].map(inAccepted),
      'accepted.newest_deliveries',
      ...metricsFunctions.map(inAccepted),
    ],
  },
  operator: {
    schemas: ['accepted', queueSchema],
    tables: {
      'accepted.schedule': 'update (paused, next_at)',
      // With these, a trigger answers a direct change, and names the function to use.
      'accepted.job': `insert (${readableJobColumns}, payload, result), update (${readableJobColumns}, payload, result), delete`,
      [queue('job')]: 'insert (id, name, data, state, priority, group_id, start_after, created_on, keep_until, policy)',
    },
    functions: [
      ...[
        'enqueue',
        'enqueue_batch',
        'cancel',
        'retry',
        'redrive',
        'pause',
        'resume',
        'reschedule',
        'prioritize',
        'bulk',
        'forget',
        'expire',
        'deliver_webhook',
        ...['pause_schedule', 'resume_schedule', 'run_schedule', 'backfill_schedule'],
      ],
      // accepted jobs redrive
      'redrive_batch',
    ].map((name) => `accepted.${name}`),
  },
}
