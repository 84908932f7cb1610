import pg from 'pg'

export const weekOperations = 30
const principals = 10_000
const workers = 20
const daysOfWeek = 7

/** The operations of even numbers up to 8 have no worker, and the operation 1 is paused. */
const claimedOperations = `select array_agg('week.op' || n) from generate_series(1, ${weekOperations}) n where n % 2 = 1 or n > 8`

/** An id (UUIDv7) whose time is `at` and that depends on `n`. PostgreSQL 15 has no function for it. */
const idAt = `(left(accepted.uuid_floor(at)::text, 15) || substr(md5(n::text), 1, 3) || '-8' || substr(md5(n::text), 4, 3)
  || '-' || substr(md5(n::text), 7, 12))::uuid`

const defineOperations = `
  select accepted.define_operations(jsonb_agg(jsonb_build_object(
    'name', 'week.op' || n, 'summary', 'Operation ' || n, 'retry_limit', 3, 'retry_delay_seconds', 1,
    'retry_backoff', true, 'retry_max_delay_seconds', 60, 'timeout_seconds', 60, 'heartbeat_seconds', 15, 'priority', 0,
    'keep_seconds', 604800, 'has_abandon', false, 'is_fair', true
  ))) from generate_series(1, ${weekOperations}) n;
  update accepted.operation set paused_at = now() - interval '1 day', paused_reason = 'the bank is down'
  where name = 'week.op1'`

/** Does the same as accepted.create_job_partitions, which creates no partitions for past days. */
const createPartitions = `
  do $$ declare
    day date;
    name text;
  begin
    set local timezone = 'UTC';
    for day in select current_date - n from generate_series(1, ${daysOfWeek}) n loop
      name := 'job_' || to_char(day, 'YYYYMMDD');
      continue when to_regclass('accepted.' || name) is not null;
      execute format('create table accepted.%I (like accepted.job including all) with (fillfactor = 45)', name);
      execute format('alter table accepted.job attach partition accepted.%I for values from (%L) to (%L)', name,
        accepted.uuid_floor(day::timestamptz), accepted.uuid_floor((day + 1)::timestamptz));
    end loop;
  end $$`

const addWorkers = `
  insert into accepted.worker (id, host, pid, version, operations, heartbeat_at)
  select accepted.uuid7(), 'host' || n, n, '1.0.0', (${claimedOperations}), now() + interval '1 hour'
  from generate_series(1, ${workers}) n`

/**
 * The jobs. Of a hundred, 90 have succeeded (a few of them days after they were accepted, within the last hour), 4 have
 * failed, 2 were canceled, 2 are due, one is deferred, and of the last ones every other runs or waits for its retry.
 */
const createWeek = `
  create temporary table week on commit drop as
  select n, id, at, 'week.op' || 1 + n % ${weekOperations} as operation,
    'principal-' || (hashint4(n)::bigint & 2147483647) % ${principals} as principal,
    case when n % 3 = 0 then 'key-' || n end as key, kind,
    -- Ends after up to a minute; one job of a thousand that were accepted before today ends in the last hour.
    case when kind in ('succeeded', 'failed', 'canceled') then
      case when n % 1000 = 7 and at < now() - interval '1 day' then now() - (n % 3600) * interval '1 second'
      else least(at + (n % 60 + 0.5) * interval '1 second', now()) end
    end as ended_at,
    (select array_agg(worker.id) from accepted.worker)[1 + n % ${workers}] as worker_id
  from (
    select n::integer, at, ${idAt} as id, case
      when n % 100 < 90 then 'succeeded' when n % 100 < 94 then 'failed' when n % 100 < 96 then 'canceled'
      when n % 100 < 98 then 'due' when n % 100 < 99 then 'deferred' when n % 200 < 100 then 'running' else 'retrying'
    end as kind
    from generate_series(0, $1::integer - 1) n,
      lateral (select now() - interval '${daysOfWeek} days' + interval '${daysOfWeek} days' * (n::float8 / $1) as at) times
  ) numbered`

const insertJobs = `
  insert into accepted.job (
    id, operation, status, principal, idempotency_key, max_attempts, worker_id, attempt, sequence, cancel_requested,
    cancel_requested_at, percent, message, payload, result, error, retry_of, parent, created_at, run_at, started_at,
    attempt_started_at, progress_at, updated_at, ended_at, expires_at
  )
  select id, operation,
    case when kind in ('due', 'deferred', 'retrying') then 'queued' else kind end::accepted.job_status,
    principal, key, 4, case when kind not in ('due', 'deferred') then worker_id end,
    case kind when 'failed' then 4 when 'due' then 0 when 'deferred' then 0 else 1 end, 3,
    kind = 'running' and n % 2000 = 99, case when kind = 'running' and n % 2000 = 99 then now() - interval '1 minute' end,
    case kind when 'succeeded' then 100 when 'running' then 50 end,
    case when kind = 'running' then 'half way' end,
    case when kind in ('failed', 'canceled') then jsonb_build_object('text', repeat(md5(n::text), 6)) end,
    case when kind = 'succeeded' and n % 3 = 0 then jsonb_build_object('url', '/things/' || n) end,
    case when kind = 'failed' then
      jsonb_build_object('code', 'error-' || n % 4, 'message', 'The service answered ' || 500 + n % 4) end,
    case when n % 100 = 0 then lag(id, 7) over (order by n) end,
    case when n % 1000 between 1 and 5 then first_value(id) over (partition by n / 1000 order by n) end,
    at, case when kind = 'deferred' then now() + (n % 86400) * interval '1 second' end,
    case when kind in ('due', 'deferred') then null
      else coalesce(least(at + (n % 10) * interval '1 second', ended_at), at) end,
    case kind when 'running' then now() - interval '10 seconds' when 'due' then null when 'deferred' then null
      else coalesce(least(at + (n % 10) * interval '1 second', ended_at), at) end,
    case when kind = 'running' then now() end, coalesce(ended_at, at), ended_at,
    coalesce(ended_at, now()) + interval '7 days'
  from week order by n`

const insertQueueRows = `
  insert into accepted_queue.job (
    id, name, data, state, retry_limit, retry_count, retry_delay, retry_backoff, start_after, created_on, started_on,
    heartbeat_on, keep_until, policy, expire_seconds
  )
  select id, operation, jsonb_build_object('job', id, 'payload', jsonb_build_object('text', repeat(md5(n::text), 6))),
    case kind when 'running' then 'active' when 'retrying' then 'retry' else 'created' end::accepted_queue.job_state, 3,
    0, 1, true,
    case when kind = 'deferred' then now() + (n % 86400) * interval '1 second'
      when kind = 'retrying' then now() + interval '1 minute' else at end,
    at,
    case kind when 'running' then now() + case when n % 3000 = 99 then interval '-1 hour' else interval '1 hour' end
      when 'retrying' then now() - interval '1 minute' end,
    case when kind = 'running' then now() + case when n % 5000 = 99 then interval '-1 minute' else interval '1 hour' end end,
    now() + interval '10 years', 'standard', 3660
  from week where kind in ('due', 'deferred', 'running', 'retrying') order by n`

const insertRest = [
  `insert into accepted.ended_job (ended_at, job_id, status)
  select ended_at, id, kind::accepted.job_status from week
  where kind = 'failed' or ended_at - at > interval '3 hours' order by ended_at`,
  `insert into accepted.attempt (job_id, attempt, error, worker_id, started_at, failed_at)
  select id, attempt, '{"code": "handler-error", "message": "The service is slow"}', worker_id, at, coalesce(ended_at, now())
  from week, generate_series(1, case kind when 'failed' then 4 else 1 end) attempt
  where kind in ('failed', 'retrying') order by n`,
  `insert into accepted.idempotency_key (principal, key, fingerprint, job_id, created_at)
  select principal, key, sha256(uuid_send(id)), id, at from week where key is not null order by n`,
  `insert into accepted.processed_key (operation, principal, key, job_id, processed_at)
  select operation, principal, key, id, ended_at from week where key is not null and kind = 'succeeded' order by n`,
  `insert into accepted.quarantine (job_id, operation, queue_id, crashes, crashed_at)
  select id, operation, id, 1, now() from week where kind = 'due' order by n desc limit 10`,
  `update accepted_queue.job set blocked = true where id in (select job_id from accepted.quarantine)`,
]

/** Runs statements in one transaction, and skips triggers: the rows are consistent, and checking each row is slow. */
async function runAll(
  url: string,
  statements: readonly (readonly [text: string, values?: unknown[]])[],
): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query('begin')
    for (const [text, values] of statements) await client.query(text, values)
    await client.query('commit')
  } finally {
    await client.end()
  }
}

/** Fills a database with jobs of seven days: thirty operations, of all statuses, with keys, attempts and queue rows. */
export const seedWeek = (url: string, jobs: number): Promise<void> =>
  runAll(url, [
    [defineOperations],
    [createPartitions],
    [addWorkers],
    ['set local session_replication_role = replica'],
    [createWeek, [jobs]],
    [insertJobs],
    [insertQueueRows],
    ...insertRest.map((text) => [text] as const),
  ])

/** Adds queued jobs to one operation. The deferred jobs were accepted before the jobs that are due. */
export const addWaiting = (url: string, { due, deferred }: { due: number; deferred: number }): Promise<void> =>
  runAll(url, [
    ['set local session_replication_role = replica'],
    [
      `create temporary table waiting on commit drop as
      select n, at, ${idAt} as id, case when n <= $2 then now() + n * interval '1 second' end as run_at
      from generate_series(1, $1::integer + $2) n,
        lateral (select now() - interval '40 minutes' + n * interval '1 millisecond' as at) times`,
      [due, deferred],
    ],
    [
      `insert into accepted.job (id, operation, principal, max_attempts, created_at, run_at, expires_at)
      select id, 'week.op3', 'waiting', 4, at, run_at, now() + interval '90 days' from waiting order by id`,
    ],
    [
      `insert into accepted_queue.job (id, name, data, start_after, created_on, keep_until, policy)
      select id, 'week.op3', jsonb_build_object('job', id, 'payload', '{}'::jsonb), coalesce(run_at, at), at,
        now() + interval '10 years', 'standard'
      from waiting order by id`,
    ],
  ])
