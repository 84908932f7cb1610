comment on schema accepted is 'Accepted: the status of every job of the HTTP API, the idempotency keys and the dedup table. The queue itself is pg-boss''s, in schema accepted_queue.';

-- Status table

create type accepted.job_status as enum ('queued', 'running', 'succeeded', 'failed', 'canceled');

comment on type accepted.job_status is 'queued and running are pending; succeeded, failed and canceled are final.';

create table accepted.job (
  id uuid not null,
  operation text not null,
  status accepted.job_status not null default 'queued',
  principal text not null,
  idempotency_key text,
  resource text,
  retry_of uuid,
  webhook_endpoint_id uuid,
  traceparent text,
  sequence bigint not null default 1,
  attempt integer not null default 0,
  max_attempts integer not null,
  cancel_requested boolean not null default false,
  percent smallint,
  message text,
  payload jsonb,
  result jsonb,
  error jsonb,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  attempt_started_at timestamptz,
  progress_at timestamptz,
  updated_at timestamptz not null default now(),
  ended_at timestamptz,
  expires_at timestamptz not null,
  constraint job_pkey primary key (id),
  constraint job_attempt_range check (attempt >= 0),
  constraint job_percent_range check (percent between 0 and 100),
  constraint job_ended_at_when_final check ((status in ('succeeded', 'failed', 'canceled')) = (ended_at is not null)),
  constraint job_error_when_failed check ((status = 'failed') = (error is not null))
) partition by range (id);

comment on table accepted.job is 'The status table, with one row per job. The row commits together with the domain rows and the queue row of the job. The status URL (monitor) reads this table.';
comment on column accepted.job.id is 'UUIDv7, so ids sort by creation time. The job''s row in accepted_queue.job has the same id. Each partition holds the ids of one day (UTC).';
comment on column accepted.job.operation is 'The kind of work, for example todo.create. This is also the name of the queue in accepted_queue.queue.';
comment on column accepted.job.status is 'queued, running, succeeded, failed or canceled. A job that waits for its retry is queued.';
comment on column accepted.job.principal is 'The principal that submitted the job. No other principal sees the job over HTTP.';
comment on column accepted.job.idempotency_key is 'The key by which the worker deduplicates jobs. Handlers also send the key to outside services. If the key is null, handlers send the id of the job instead.';
comment on column accepted.job.resource is 'Path of the resource that the job creates, for example /todos/1. Once the job has succeeded, the client is redirected to this path.';
comment on column accepted.job.retry_of is 'The job that this job retries.';
comment on column accepted.job.webhook_endpoint_id is 'The only webhook endpoint to notify of the outcome, when the request named one. Null: all matching endpoints.';
comment on column accepted.job.traceparent is 'W3C traceparent of the request.';
comment on column accepted.job.sequence is 'Increases with every visible change. The ETag of the status URL contains it.';
comment on column accepted.job.attempt is 'Number of the current or last attempt, from 1. 0 until the job is first claimed.';
comment on column accepted.job.max_attempts is 'The job fails after this many failed attempts.';
comment on column accepted.job.cancel_requested is 'Whether cancellation has been requested. If the job is running, its worker then cancels the job.';
comment on column accepted.job.percent is 'Progress from 0 to 100, as reported by the handler. Never decreases.';
comment on column accepted.job.message is 'The latest progress message of the handler, for people.';
comment on column accepted.job.payload is 'The input of the worker. Set only for failed and canceled jobs, so that they can be retried.';
comment on column accepted.job.result is 'The value that the handler returned, when the operation declares a result.';
comment on column accepted.job.error is 'Why the job failed: {code, message, public?, status?, details?}, without credentials. Clients see the message only if it is public. Set only for failed jobs.';
comment on column accepted.job.created_at is 'When the request was accepted.';
comment on column accepted.job.started_at is 'When the first attempt started.';
comment on column accepted.job.attempt_started_at is 'When the current or last attempt started.';
comment on column accepted.job.progress_at is 'When the current or last attempt last reported the value of percent. Null if this attempt has not reported it. Then percent is from an earlier attempt.';
comment on column accepted.job.updated_at is 'When sequence last increased.';
comment on column accepted.job.ended_at is 'When the job reached its final status.';
comment on column accepted.job.expires_at is 'From this time on, the record counts as gone (HTTP 410), and its partition may be dropped. Set again when the job ends.';

-- With a fillfactor of 50, every row has room in its page for the update that ends the job, even when all rows of a
-- page end in one transaction. With a fillfactor of 70, half of these updates moved rows to other pages and had to
-- update every index.
create table accepted.job_default partition of accepted.job default with (fillfactor = 50);

comment on table accepted.job_default is 'Holds the jobs of days that have no partition yet. Empty while a worker runs, because workers create partitions ahead of time.';

-- The columns principal and id never change, so updates stay HOT. The condition is always true. It keeps Postgres from
-- using this index for a lookup by id alone: while a partition is empty, this index seems as good as the primary key.
create index job_principal_id_idx on accepted.job (principal, id) where principal is not null;

comment on index accepted.job_principal_id_idx is 'GET /jobs: lists the jobs of a principal, newest first.';

-- Redriving looks up the retries of every failed job. Most jobs are not retries, and such jobs have no entry in this
-- index.
create index job_retry_of_idx on accepted.job (retry_of) where retry_of is not null;

comment on index accepted.job_retry_of_idx is 'accepted jobs redrive: finds out whether a failed job has been retried.';

create function accepted.uuid_floor(at timestamptz) returns uuid
language sql immutable strict parallel safe
return (lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid;

comment on function accepted.uuid_floor is 'The lower bound of all UUIDv7 ids of a millisecond (RFC 9562, section 5.7). Used in conditions on accepted.job.id.';

create function accepted.uuid_time(id uuid) returns timestamptz
language sql immutable strict parallel safe
return to_timestamp(('x' || lpad(left(replace(id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint / 1000.0);

comment on function accepted.uuid_time is 'The creation time of a UUIDv7, to the millisecond.';

-- Changes

-- One row per statement that changes jobs, not one per job: a batch of 100 jobs costs one row. No index on accepted.job
-- can find changed jobs as cheaply. It would have to contain a column that changes, and then every update would have to
-- write to every index (before PostgreSQL 16, even for a BRIN index).
create table accepted.change (
  xid xid8 not null,
  id bigint generated always as identity,
  job_ids uuid[] not null,
  principal_hashes integer[] not null,
  constraint change_pkey primary key (xid, id)
-- A row with the ids of 100 jobs has 2 kB. With the default target, Postgres would compress it.
) with (toast_tuple_target = 8160);

comment on table accepted.change is 'Which jobs have changed in the last minutes. One row per statement that inserted or updated jobs. Event streams and waiting requests read it to find changes whose notification was lost. The worker deletes rows after 10 to 20 minutes.';
comment on column accepted.change.xid is 'The transaction that made the change. A reader that has read the changes at one snapshot finds the later changes by their transactions: those that were in progress then, and those that have begun since.';
comment on column accepted.change.id is 'Makes the rows of a transaction unique.';
comment on column accepted.change.job_ids is 'The changed jobs.';
comment on column accepted.change.principal_hashes is 'The hash of each job''s principal, so that a reader can skip the jobs of other principals.';

create function accepted.record_change() returns trigger
language plpgsql
-- A role that may write to accepted.job needs no privileges on accepted.change.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into accepted.change (xid, job_ids, principal_hashes)
  select pg_current_xact_id(), array_agg(changed.id), array_agg(hashtext(changed.principal)) from changed
  having count(*) > 0;
  return null;
end
$$;

comment on function accepted.record_change is 'Trigger function: records which jobs a statement has inserted or updated.';

create trigger job_inserted after insert on accepted.job
  referencing new table as changed for each statement execute function accepted.record_change();

comment on trigger job_inserted on accepted.job is 'Records the new jobs in accepted.change.';

create trigger job_updated after update on accepted.job
  referencing new table as changed for each statement execute function accepted.record_change();

comment on trigger job_updated on accepted.job is 'Records the changed jobs in accepted.change.';

create function accepted.jobs_changed_since(seen pg_snapshot, principals text[]) returns uuid[]
language plpgsql
-- The function uses the snapshot of the calling statement.
stable
-- These settings force the lookup by transaction, even if the plan was made while the table was empty.
set enable_seqscan = off
set enable_bitmapscan = off
-- Before Postgres 18, a disabled scan seems so expensive that Postgres would compile the plan.
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  hashes integer[] := array(select hashtext(principal) from unnest(principals) principal);
begin
  return array(
    select distinct changed.job_id
    from (
      select change.job_ids, change.principal_hashes from accepted.change
      -- A table that was restored from a dump may have rows of later transactions, of the old server.
      where change.xid >= pg_snapshot_xmax(seen) and change.xid < pg_snapshot_xmax(pg_current_snapshot())
      union all
      select change.job_ids, change.principal_hashes from accepted.change
      where change.xid = any(array(select pg_snapshot_xip(seen)))
    ) recent
    cross join lateral unnest(recent.job_ids, recent.principal_hashes) as changed (job_id, principal_hash)
    where changed.principal_hash = any(hashes)
    order by changed.job_id
  );
end
$$;

comment on function accepted.jobs_changed_since is 'The ids of the jobs, in order, that were inserted or updated by transactions that the snapshot does not contain. Leaves out most jobs of other principals, but not all, because it compares only hashes of principals. The snapshot must contain accepted.change_expiry.deleted.';

create table accepted.change_expiry (
  only_row boolean not null default true,
  deleted pg_snapshot not null default pg_current_snapshot(),
  next pg_snapshot not null default pg_current_snapshot(),
  next_at timestamptz not null default now(),
  constraint change_expiry_pkey primary key (only_row),
  constraint change_expiry_only_row check (only_row)
);

comment on table accepted.change_expiry is 'One row: which rows of accepted.change are being deleted.';
comment on column accepted.change_expiry.only_row is 'Always true, so that there is only one row.';
comment on column accepted.change_expiry.deleted is 'The changes of all transactions that this snapshot contains are deleted.';
comment on column accepted.change_expiry.next is 'Replaces the column deleted when it is 10 minutes old.';
comment on column accepted.change_expiry.next_at is 'When the snapshot in the column next was taken.';

insert into accepted.change_expiry default values;

create function accepted.delete_old_changes(max_rows integer) returns boolean
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
-- Before Postgres 18, a disabled scan seems so expensive that Postgres would compile the plan.
set jit = off
as $$
declare
  expiry accepted.change_expiry;
  affected bigint;
begin
  select * into expiry from accepted.change_expiry for update skip locked;
  if not found then
    return false;
  end if;
  -- The snapshots come from another server, which had assigned more transaction ids: this database was restored from a
  -- dump. They would contain every new change.
  if pg_snapshot_xmax(expiry.next) > pg_snapshot_xmax(pg_current_snapshot()) then
    update accepted.change_expiry
      set deleted = pg_current_snapshot(), next = pg_current_snapshot(), next_at = now()
      returning * into expiry;
  elsif expiry.next_at < now() - interval '10 minutes' then
    update accepted.change_expiry set deleted = expiry.next, next = pg_current_snapshot(), next_at = now()
      returning * into expiry;
  end if;
  delete from accepted.change where ctid = any(array(
    select ctid from accepted.change
    where xid < pg_snapshot_xmax(expiry.deleted) and pg_visible_in_snapshot(xid, expiry.deleted)
    order by xid limit max_rows
  ));
  get diagnostics affected = row_count;
  -- Rows that were restored from a dump of another server.
  delete from accepted.change where xid >= pg_snapshot_xmax(pg_current_snapshot());
  return affected = max_rows;
end
$$;

comment on function accepted.delete_old_changes is 'Deletes at most max_rows rows of accepted.change that are more than 10 minutes old. Returns whether such rows may be left. The worker calls this function.';

-- Idempotency keys

create table accepted.idempotency_key (
  principal text not null,
  key text not null,
  fingerprint bytea not null,
  job_id uuid not null,
  created_at timestamptz not null default now(),
  constraint idempotency_key_pkey primary key (principal, key),
  constraint idempotency_key_length check (length(key) between 1 and 255),
  constraint idempotency_key_fingerprint_sha256 check (octet_length(fingerprint) = 32)
);

comment on table accepted.idempotency_key is 'One row per Idempotency-Key that a client sent. The row commits in the same transaction as the job that the request created. The row is deleted together with the record of this job.';
comment on column accepted.idempotency_key.principal is 'The principal that sent the key. Other principals may use the same key.';
comment on column accepted.idempotency_key.key is 'The value of the Idempotency-Key header, without quotes.';
comment on column accepted.idempotency_key.fingerprint is 'SHA-256 of the request. A different request with the same key is rejected with 422.';
comment on column accepted.idempotency_key.job_id is 'The job that the first request with this key created. Later requests with the same key get this job.';
comment on column accepted.idempotency_key.created_at is 'When the job took the key.';

create table accepted.processed_key (
  operation text not null,
  principal text not null,
  key text not null,
  job_id uuid not null,
  processed_at timestamptz not null default now(),
  constraint processed_key_pkey primary key (operation, principal, key)
);

comment on table accepted.processed_key is 'The dedup table of the workers. The transaction that settles a job with a key inserts a row here. A later job with the same operation, principal and key has no effect, and succeeds with the result of the first job.';
comment on column accepted.processed_key.operation is 'The operation that was processed under the key.';
comment on column accepted.processed_key.principal is 'The principal that sent the key.';
comment on column accepted.processed_key.key is 'The idempotency key of the job.';
comment on column accepted.processed_key.job_id is 'The job that had the effect.';
comment on column accepted.processed_key.processed_at is 'When the job that had the effect was settled.';

-- Attempts

create table accepted.attempt (
  job_id uuid not null,
  attempt integer not null,
  error jsonb not null,
  started_at timestamptz,
  failed_at timestamptz not null default now(),
  constraint attempt_pkey primary key (job_id, attempt)
);

comment on table accepted.attempt is 'One row per failed attempt of a job.';
comment on column accepted.attempt.job_id is 'The job.';
comment on column accepted.attempt.attempt is 'Number of the failed attempt, from 1.';
comment on column accepted.attempt.error is 'Why the attempt failed: {code, message, public?, status?, details?}, without credentials.';
comment on column accepted.attempt.started_at is 'When the attempt started.';
comment on column accepted.attempt.failed_at is 'When the attempt failed.';

-- Claiming

create function accepted.claim(queue text, max_jobs integer, created_from timestamptz)
  returns table (id uuid, retry_count integer, data jsonb, waited_seconds double precision, floor text)
  language plpgsql
  -- These settings force a scan of the index in which the jobs are in claim order, even if the plan was made while the
  -- queue was empty.
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_sort = off
  set plan_cache_mode = force_generic_plan
  -- Before Postgres 18, a disabled scan seems so expensive that Postgres would compile the plan.
  set jit = off
as $$
#variable_conflict use_column
begin
  return query
  with next as materialized (
    select job.id from accepted_queue.job
    where job.name = queue and job.state < 'active' and not job.blocked and job.start_after <= now()
      and job.created_on >= created_from
    order by job.priority desc, job.created_on
    limit max_jobs
    for update skip locked
  ), claimed as (
    update accepted_queue.job_common job set
      state = 'active', started_on = now(), heartbeat_on = now(),
      retry_count = job.retry_count + case when job.started_on is null then 0 else 1 end
    from next
    -- A row comparison can only run as one index lookup per id. With equations, a plan that was made while the queue was
    -- empty may read the whole queue. Postgres 18 does not do so for a partitioned table, but for its only partition.
    where (job.name, job.id) >= (queue, next.id) and (job.name, job.id) <= (queue, next.id)
    returning job.id, job.retry_count, job.data, job.created_on, job.start_after
  )
  select
    claimed.id, claimed.retry_count, claimed.data, extract(epoch from now() - claimed.start_after)::float8,
    -- This format does not depend on the DateStyle of the session.
    to_char((min(claimed.created_on) over ()) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  from claimed;
end
$$;

comment on function accepted.claim is 'Claims at most max_jobs due jobs of a queue. Claims only jobs that were created at created_from or later. Jobs with a higher priority come first, then older jobs. waited_seconds is how long the job was due before it was claimed. floor is the creation time of the oldest claimed job (UTC, ISO 8601). The next claim can start at floor, so that it does not read the index entries of jobs that were claimed earlier. Postgres cannot remove these entries while a transaction holds an old snapshot.';

-- The condition on started_on keeps pg-boss from using this index, because the statements with which pg-boss completes
-- jobs have no such condition. These statements must find the jobs by the primary key. While a transaction holds an old
-- snapshot, this index is full of entries of jobs that are no longer active.
create index accepted_active_idx on accepted_queue.job (name) where state = 'active' and started_on is not null;

comment on index accepted_queue.accepted_active_idx is 'Rescue: finds the jobs of dead workers.';

create index accepted_unsuccessful_idx on accepted_queue.job (completed_on) where state in ('cancelled', 'failed');

comment on index accepted_queue.accepted_unsuccessful_idx is 'Reconciliation: finds the jobs that were canceled or failed in the queue.';

-- Each job leaves two dead rows in the queue. Claims must skip the dead rows, and the table grows until the next
-- vacuum. At 5,500 jobs a second, a vacuum takes less than 20 s without delays. With the default delays of autovacuum,
-- it takes up to a minute, because the tables share one cost limit.
alter table accepted_queue.job_common set (autovacuum_vacuum_cost_delay = 0);

-- Dead workers

create table accepted.rescue (
  operation text not null,
  checked_at timestamptz not null default '-infinity',
  constraint rescue_pkey primary key (operation)
);

comment on table accepted.rescue is 'One row per operation: when a worker last checked the queue of the operation for jobs of dead workers. The workers take turns.';
comment on column accepted.rescue.operation is 'The operation, which is also the name of its queue.';
comment on column accepted.rescue.checked_at is 'When a worker last started a check of this queue.';

create table accepted.quarantine (
  job_id uuid not null,
  operation text not null,
  queue_id uuid not null,
  crashes integer not null,
  rescues integer not null default 1,
  crashed_at timestamptz not null default now(),
  reserved_until timestamptz not null default now(),
  constraint quarantine_pkey primary key (job_id),
  constraint quarantine_crashes_range check (crashes >= 1)
);

comment on table accepted.quarantine is 'Jobs that a worker held when it died. Any of these jobs may have crashed the worker. Each job runs again alone, in a process that holds no other job. When this run has ended, with any outcome, the job is removed from this table. The table has a handful of rows, or none.';
comment on column accepted.quarantine.job_id is 'The job. Until the job runs alone, its row in accepted_queue.job is blocked, so that no worker claims the job together with other jobs.';
comment on column accepted.quarantine.operation is 'The operation of the job, which is also the name of its queue.';
comment on column accepted.quarantine.queue_id is 'Id of the job''s row in accepted_queue.job. The two ids differ only if pg-boss has re-created the row.';
comment on column accepted.quarantine.crashes is 'How many worker deaths count as crashes of this job. The first is the death of a worker that held the job together with other jobs. Each later crash is the death of a worker that ran only this job. The job fails after two such later crashes.';
comment on column accepted.quarantine.rescues is 'How many workers died while they held the job. This also counts the deaths that do not count as crashes: when several workers die at the same time, the job is assumed not to be the cause.';
comment on column accepted.quarantine.crashed_at is 'When the last of these worker deaths was detected.';
comment on column accepted.quarantine.reserved_until is 'Until this time, the job is reserved by one process. That process claims no other jobs, so that it can run this job alone.';

create index quarantine_operation_crashed_at_idx on accepted.quarantine (operation, crashed_at);

comment on index accepted.quarantine_operation_crashed_at_idx is 'Workers: finds the next job in quarantine to run.';

create table accepted.reconciliation (
  only_row boolean not null default true,
  ended_up_to uuid not null default '00000000-0000-0000-0000-000000000000',
  position uuid not null default '00000000-0000-0000-0000-000000000000',
  compared_at timestamptz not null default '-infinity',
  ended_before timestamptz not null default now(),
  observed_at timestamptz not null default now(),
  observed_xmax xid8 not null default pg_snapshot_xmax(pg_current_snapshot()),
  constraint reconciliation_pkey primary key (only_row),
  constraint reconciliation_only_row check (only_row)
);

comment on table accepted.reconciliation is 'One row: how far the workers have compared accepted.job with accepted_queue.job. The workers take turns. Every five seconds, one worker compares the next range of ids. After the last range, a new round starts.';
comment on column accepted.reconciliation.only_row is 'Always true, so that there is only one row.';
comment on column accepted.reconciliation.ended_up_to is 'All jobs up to this id have ended. A final status never changes, so each round starts after this id.';
comment on column accepted.reconciliation.position is 'The current round has compared the jobs up to this id.';
comment on column accepted.reconciliation.compared_at is 'When the last range was compared.';
comment on column accepted.reconciliation.ended_before is 'Jobs that ended in the queue before this time have been compared.';
comment on column accepted.reconciliation.observed_at is 'A later value of ended_before. It becomes valid when all transactions before observed_xmax have ended.';
comment on column accepted.reconciliation.observed_xmax is 'At observed_at, no transaction had this id or a higher id.';

insert into accepted.reconciliation default values;

-- Schedules

create table accepted.schedule (
  name text not null,
  operation text not null,
  expression text not null,
  timezone text not null,
  paused boolean not null default false,
  next_at timestamptz,
  last_at timestamptz,
  last_job_id uuid,
  updated_at timestamptz not null default now(),
  constraint schedule_pkey primary key (name)
);

comment on table accepted.schedule is 'One row per schedule that the app defines, with its next and its last occurrence. The worker updates the rows when the definitions change. To pause a schedule: update accepted.schedule set paused = true where name = ''…''.';
comment on column accepted.schedule.name is 'The name of the schedule in its definition.';
comment on column accepted.schedule.operation is 'The operation of the jobs that the schedule enqueues.';
comment on column accepted.schedule.expression is 'A cron expression, or a recurrence rule (RFC 5545, section 3.3.10).';
comment on column accepted.schedule.timezone is 'The time zone of the expression, for example Europe/Berlin.';
comment on column accepted.schedule.paused is 'While true, occurrences pass without a job. Only an operator sets this column.';
comment on column accepted.schedule.next_at is 'The time of the next occurrence. Null if the rule has no more occurrences. One transaction enqueues the job of this occurrence and sets the time of the following occurrence, so each occurrence becomes exactly one job. To enqueue a job immediately, set this column to now().';
comment on column accepted.schedule.last_at is 'The time of the last occurrence that became a job.';
comment on column accepted.schedule.last_job_id is 'The job of that occurrence.';
comment on column accepted.schedule.updated_at is 'When the definition last changed.';

-- Run times

create table accepted.run_time (
  operation text not null,
  seconds double precision not null,
  updated_at timestamptz not null default now(),
  constraint run_time_pkey primary key (operation),
  constraint run_time_seconds_range check (seconds >= 0)
);

comment on table accepted.run_time is 'How long recent jobs of an operation have run, from the start of the last attempt to the end of the job. The workers write this table. Estimates are computed from it.';
comment on column accepted.run_time.operation is 'The operation.';
comment on column accepted.run_time.seconds is 'Moving average over the jobs that succeeded recently, in seconds.';
comment on column accepted.run_time.updated_at is 'When the average was last written.';

-- Webhooks

create table accepted.webhook_endpoint (
  id uuid not null,
  url text not null,
  event_types text[] not null default '{job.succeeded,job.failed,job.canceled}',
  operations text[],
  secrets text[] not null,
  created_at timestamptz not null default now(),
  secret_rotated_at timestamptz,
  disabled_at timestamptz,
  disabled_reason text,
  constraint webhook_endpoint_pkey primary key (id),
  constraint webhook_endpoint_url_http check (url ~ '^https?://'),
  constraint webhook_endpoint_event_types_known check (event_types <@ '{job.succeeded,job.failed,job.canceled}'),
  constraint webhook_endpoint_secrets_present check (cardinality(secrets) between 1 and 2)
);

comment on table accepted.webhook_endpoint is 'URLs to which the outcome of jobs is posted, signed per Standard Webhooks.';
comment on column accepted.webhook_endpoint.id is 'UUIDv7.';
comment on column accepted.webhook_endpoint.url is 'The URL to which deliveries are posted.';
comment on column accepted.webhook_endpoint.event_types is 'The outcomes to deliver: job.succeeded, job.failed, job.canceled.';
comment on column accepted.webhook_endpoint.operations is 'The operations whose outcomes are delivered. Null: all.';
comment on column accepted.webhook_endpoint.secrets is 'Signing secrets (whsec_ and base64), newest first. After a rotation, the second secret is the previous secret.';
comment on column accepted.webhook_endpoint.created_at is 'When the endpoint was registered.';
comment on column accepted.webhook_endpoint.secret_rotated_at is 'When the newest secret replaced the previous secret. For one day after this time, deliveries are also signed with the previous secret.';
comment on column accepted.webhook_endpoint.disabled_at is 'From this time on, nothing is delivered to the endpoint.';
comment on column accepted.webhook_endpoint.disabled_reason is 'Why the endpoint was disabled, for example because it answered 410.';

-- API keys

create table accepted.api_key (
  id uuid not null,
  name text not null,
  principal text not null,
  scopes text[] not null default '{}',
  hash bytea not null,
  created_at timestamptz not null default now(),
  revoked_at timestamptz,
  constraint api_key_pkey primary key (id),
  constraint api_key_hash_key unique (hash),
  constraint api_key_hash_sha256 check (octet_length(hash) = 32),
  constraint api_key_scopes_known check (scopes <@ '{admin}')
);

comment on table accepted.api_key is 'Keys that clients send as Authorization: Bearer. If there are no keys and the app has no authentication of its own, all requests are anonymous.';
comment on column accepted.api_key.id is 'UUIDv7.';
comment on column accepted.api_key.name is 'What the key is for, for people.';
comment on column accepted.api_key.principal is 'The principal of requests with this key.';
comment on column accepted.api_key.scopes is 'What the key permits in addition to the principal''s own jobs. admin: manage webhook endpoints.';
comment on column accepted.api_key.hash is 'SHA-256 of the key. The key itself is shown once and stored nowhere.';
comment on column accepted.api_key.created_at is 'When the key was created.';
comment on column accepted.api_key.revoked_at is 'From this time on, the key is rejected.';

-- Partitions

-- Finds only attached partitions. An operator can detach a partition in order to keep it. Such a partition still has
-- the name, but must not be dropped.
create function accepted.job_partitions(out partition regclass, out name text, out first_id uuid, out end_id uuid)
returns setof record
language sql
stable
begin atomic
  select c.oid::regclass, c.relname::text, bounds[1]::uuid, bounds[2]::uuid
  from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
  cross join lateral regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)') as bounds
  where i.inhparent = 'accepted.job'::regclass and bounds is not null;
end;

comment on function accepted.job_partitions is 'The partitions of accepted.job except for the default partition, with the first id that belongs to each and the first id after it.';

create function accepted.partition_of_day(day date, out partition regclass, out first_id uuid, out end_id uuid)
language sql
stable
set timezone = 'UTC'
begin atomic
  select
    p.partition,
    coalesce(p.first_id, accepted.uuid_floor(day::timestamptz)),
    coalesce(p.end_id, accepted.uuid_floor((day + 1)::timestamptz))
  from (values ('job_' || to_char(day, 'YYYYMMDD'))) as wanted (name)
  left join accepted.job_partitions() p using (name);
end;

comment on function accepted.partition_of_day is 'The partition of accepted.job that is named after a day (UTC), the first id that belongs to it and the first id after it. The partition is null if the jobs of the day are in another partition, or if the partition has been detached. A partition that was the default partition can also hold the jobs of earlier days.';

create function accepted.has_partition(day date) returns boolean
language sql
stable
set timezone = 'UTC'
return to_regclass('accepted.job_' || to_char(day, 'YYYYMMDD')) is not null or exists (
  select from accepted.job_partitions()
  where first_id < accepted.uuid_floor((day + 1)::timestamptz) and end_id > accepted.uuid_floor(day::timestamptz)
);

comment on function accepted.has_partition is 'Whether a partition of accepted.job holds jobs of a day (UTC), or a detached table has the name of that partition.';

-- Attaching a partition reads the default partition while all other statements wait. So the default partition must be
-- small. This is about two thousand jobs.
create function accepted.is_default_partition_small() returns boolean
language sql
volatile
return pg_relation_size(to_regclass('accepted.job_default')) <= 1048576;

comment on function accepted.is_default_partition_small is 'Whether the default partition of accepted.job takes up at most 1 MB.';

-- A lock that other statements wait for must be requested for at most 100 ms, but autovacuum gives way only after a
-- second (deadlock_timeout). This lock stops autovacuum, and no statement on jobs waits for it.
create function accepted.lock_default_partition() returns void
language plpgsql
as $$
begin
  perform set_config('lock_timeout', '5s', true);
  lock table only accepted.job_default in share update exclusive mode;
  perform set_config('lock_timeout', '100ms', true);
end
$$;

comment on function accepted.lock_default_partition is 'Keeps autovacuum away from the default partition of accepted.job until the transaction ends. Every later lock of the transaction must be granted within 100 ms.';

create function accepted.create_job_partitions(days_ahead integer default 3) returns setof text
language plpgsql
-- While another transaction has locked accepted.job, attaching a partition must wait. All other statements on
-- accepted.job then wait too. 100 ms is shorter than the timeout of any of these statements.
set lock_timeout = '100ms'
set timezone = 'UTC'
as $$
declare
  day date;
  lower_bound uuid;
  upper_bound uuid;
  partition text;
begin
  for day in select current_date + n from generate_series(0, days_ahead) n loop
    continue when accepted.has_partition(day);
    -- Only one transaction at a time creates partitions. A transaction that has waited here finds that the partition
    -- exists.
    perform pg_advisory_xact_lock(hashtext('accepted.create_job_partitions'));
    continue when accepted.has_partition(day);
    exit when not accepted.is_default_partition_small();
    partition := 'job_' || to_char(day, 'YYYYMMDD');
    lower_bound := accepted.uuid_floor(day::timestamptz);
    upper_bound := accepted.uuid_floor((day + 1)::timestamptz);
    perform accepted.lock_default_partition();
    -- Statements must wait before Postgres plans them. If they waited for the default partition, they would not know the
    -- new one: a select would not find the jobs that were moved there, and an insert of such a job would fail.
    if exists (select from accepted.job_default where id >= lower_bound and id < upper_bound) then
      lock table only accepted.job in access exclusive mode;
    end if;
    -- Rows that were inserted while no worker ran are in the default partition. They must be moved first. Otherwise
    -- attaching the partition fails.
    lock table accepted.job_default in access exclusive mode;
    execute format('create table accepted.%I (like accepted.job including all) with (fillfactor = 50)', partition);
    execute format(
      'with moved as (delete from accepted.job_default where id >= %L and id < %L returning *) insert into accepted.%I select * from moved',
      lower_bound, upper_bound, partition);
    execute format('alter table accepted.job attach partition accepted.%I for values from (%L) to (%L)',
      partition, lower_bound, upper_bound);
    return next partition;
  end loop;
end
$$;

comment on function accepted.create_job_partitions is 'Creates the partitions of accepted.job for today and the days ahead (UTC). Returns the names of the new partitions. Creates none while the default partition is large. The worker calls this function after accepted.replace_default_partition.';

-- The range ends an hour after now at the earliest, because other clocks may be ahead, and because inserts of later days
-- are rejected until the default partition is replaced.
create function accepted.restrict_default_partition() returns void
language plpgsql
set lock_timeout = '100ms'
set timezone = 'UTC'
as $$
declare
  first_job uuid;
  last_job uuid;
  lower_bound uuid;
  upper_bound uuid;
begin
  perform accepted.lock_default_partition();
  lock table accepted.job_default in access exclusive mode;
  first_job := (select id from accepted.job_default order by id limit 1);
  last_job := (select id from accepted.job_default order by id desc limit 1);
  if first_job is null then
    truncate accepted.job_default;
    return;
  end if;
  lower_bound := greatest(
    accepted.uuid_floor(least(accepted.uuid_time(first_job), now() - interval '1 hour')::date::timestamptz),
    (select end_id from accepted.job_partitions() where end_id <= first_job order by end_id desc limit 1)
  );
  upper_bound := least(
    accepted.uuid_floor((greatest(accepted.uuid_time(last_job), now() + interval '1 hour')::date + 1)::timestamptz),
    (select first_id from accepted.job_partitions() where first_id > last_job order by first_id limit 1)
  );
  if first_job < lower_bound or last_job >= upper_bound
    or exists (select from accepted.job_partitions() where first_id < upper_bound and end_id > lower_bound)
  then
    raise exception 'accepted.job_default holds jobs of days before and after a partition, so it cannot become a partition itself'
      using errcode = 'object_not_in_prerequisite_state',
        hint = 'New partitions are created again when the older jobs have expired and are deleted.';
  end if;
  execute format(
    'alter table accepted.job_default add constraint job_default_range check (id >= %L and id < %L) not valid',
    lower_bound, upper_bound);
end
$$;

comment on function accepted.restrict_default_partition is 'Restricts the default partition of accepted.job to the days whose jobs it holds, as far as they have no partition. If it holds no jobs, frees its space instead. accepted.replace_default_partition calls this function.';

-- Moving the rows would lock them for as long as it takes, or hide them in the meantime. Instead, the table becomes a
-- partition as it is. Each step is a transaction of its own, because a lock lasts until the end of its transaction.
create function accepted.replace_default_partition() returns text
language plpgsql
set lock_timeout = '100ms'
set timezone = 'UTC'
as $$
declare
  is_proven boolean;
  bounds text[];
  partition text;
  index_name text;
  description text := obj_description(to_regclass('accepted.job_default'), 'pg_class');
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.create_job_partitions')) then
    return null;
  end if;
  select convalidated, regexp_match(pg_get_constraintdef(oid), '>= ''(.+)''::uuid.*< ''(.+)''::uuid')
    into is_proven, bounds
    from pg_constraint where conrelid = to_regclass('accepted.job_default') and conname = 'job_default_range';
  if is_proven is null then
    if accepted.is_default_partition_small() then
      return null;
    end if;
    perform accepted.restrict_default_partition();
    return 'restricted';
  end if;
  perform accepted.lock_default_partition();
  if not is_proven then
    -- Reads the whole table. Other statements do not wait for it.
    alter table accepted.job_default validate constraint job_default_range;
    return 'validated';
  end if;
  partition := 'job_' || to_char(accepted.uuid_time(bounds[2]::uuid) - interval '1 millisecond', 'YYYYMMDD');
  -- Renaming an index and creating a table block no other statement, so they come before the strong lock.
  for index_name in
    select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
    where i.indrelid = to_regclass('accepted.job_default')
  loop
    execute format('alter index accepted.%I rename to %I', index_name, replace(index_name, 'job_default', partition));
  end loop;
  create table accepted.job_next (like accepted.job including all) with (fillfactor = 50);
  for index_name in
    select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
    where i.indrelid = to_regclass('accepted.job_next')
  loop
    execute format('alter index accepted.%I rename to %I', index_name, replace(index_name, 'job_next', 'job_default'));
  end loop;
  lock table only accepted.job in access exclusive mode;
  alter table accepted.job detach partition accepted.job_default;
  execute format('alter table accepted.job_default rename to %I', partition);
  alter table accepted.job_next rename to job_default;
  alter table accepted.job attach partition accepted.job_default default;
  execute format('comment on table accepted.job_default is %L', description);
  -- Reads neither table: the constraint proves the range of the old one, and the new one is empty.
  execute format('alter table accepted.job attach partition accepted.%I for values from (%L) to (%L)',
    partition, bounds[1], bounds[2]);
  execute format('alter table accepted.%I drop constraint job_default_range', partition);
  execute format('comment on table accepted.%I is null', partition);
  return 'replaced by ' || partition;
end
$$;

comment on function accepted.replace_default_partition is 'Makes a large default partition of accepted.job the partition of its days, and creates an empty default partition. Each call does one step in one transaction, and returns what it has done. Returns null when nothing is left to do, or when another worker does it. The worker calls this function.';

-- Expiry

create function accepted.has_expired(day date) returns boolean
language plpgsql
stable
set timezone = 'UTC'
as $$
declare
  place record;
  is_alive boolean;
begin
  select * into place from accepted.partition_of_day(day);
  -- A pending job, for example a deferred job, keeps all jobs of its day from being deleted.
  execute format(
    'select exists (select from %s where id >= $1 and id < $2 and (ended_at is null or expires_at > now()))',
    coalesce(place.partition::text, 'accepted.job_default'))
    into is_alive using place.first_id, place.end_id;
  return not is_alive;
end
$$;

comment on function accepted.has_expired is 'Whether all jobs that were accepted on a day (UTC) have ended and expired.';

-- Reading all keys may take hours. If a worker stops, another worker continues from the page that is stored here.
create table accepted.expiry (
  day date not null,
  next_page bigint not null,
  constraint expiry_pkey primary key (day)
);

comment on table accepted.expiry is 'One row per day whose jobs have all expired and are being deleted.';
comment on column accepted.expiry.day is 'The day (UTC).';
comment on column accepted.expiry.next_page is 'The first page that has not been read yet, in the tables of keys and attempts.';

create function accepted.begin_expiry() returns date
language plpgsql
set timezone = 'UTC'
as $$
declare
  day date;
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.expired_day')) then
    return null;
  end if;
  select expiry.day into day from accepted.expiry order by expiry.day limit 1;
  if found then
    return day;
  end if;
  for day in
    select to_date(right(c.relname, 8), 'YYYYMMDD') from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'accepted.job'::regclass and c.relname ~ '^job_[0-9]{8}$'
    union
    select accepted.uuid_time(id)::date from accepted.job_default
    order by 1
  loop
    exit when day >= current_date;
    if accepted.has_expired(day) then
      insert into accepted.expiry (day, next_page) values (day, 0);
      return day;
    end if;
  end loop;
  return null;
end
$$;

comment on function accepted.begin_expiry is 'Returns the day (UTC) whose jobs are being deleted. If no deletion is in progress, starts to delete the oldest day whose jobs have all ended and expired. Returns null when there is no day to delete, or when another worker is deleting. The worker calls this function.';

-- Each call deletes only some of the keys. Deleting all keys of a day in one transaction would keep a processor and the
-- disk busy, and requests would wait. The calls read the tables page by page, and each page once per day that is
-- deleted. BRIN indexes on job_id would not help. New rows take the space of deleted rows, so every range of pages
-- contains rows of all days, and each lookup would read the whole table.
create function accepted.delete_keys_of_day(day date, max_pages integer) returns boolean
language plpgsql
set timezone = 'UTC'
-- These settings force a scan by page. An index on job ids may seem better to the planner, but every call would then
-- read the rows of the whole day.
set enable_seqscan = off
set enable_indexscan = off
set enable_bitmapscan = off
-- Before Postgres 18, a plan with no other choice than a disabled scan seems so expensive that Postgres compiles it.
set jit = off
as $$
declare
  first_id uuid;
  next_id uuid;
  next_page bigint;
  first_row tid;
  next_row tid;
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.expired_day')) then
    return null;
  end if;
  update accepted.expiry set next_page = expiry.next_page + max_pages where expiry.day = $1
    returning expiry.next_page into next_page;
  if not found then
    return null;
  end if;
  select p.first_id, p.end_id into first_id, next_id from accepted.partition_of_day(day) p;
  first_row := format('(%s,0)', next_page - max_pages);
  next_row := format('(%s,0)', next_page);
  delete from accepted.idempotency_key
    where ctid >= first_row and ctid < next_row and job_id >= first_id and job_id < next_id;
  delete from accepted.processed_key
    where ctid >= first_row and ctid < next_row and job_id >= first_id and job_id < next_id;
  delete from accepted.attempt
    where ctid >= first_row and ctid < next_row and job_id >= first_id and job_id < next_id;
  return next_page * current_setting('block_size')::bigint < greatest(
    pg_relation_size('accepted.idempotency_key'),
    pg_relation_size('accepted.processed_key'),
    pg_relation_size('accepted.attempt')
  );
end
$$;

comment on function accepted.delete_keys_of_day is 'Deletes keys and attempts of the jobs of an expired day (UTC). Each call reads the next max_pages pages of the tables. Returns whether pages are left. Returns null when another worker is deleting, or has already deleted the day. The worker calls this function.';

create function accepted.delete_jobs_of_day(day date, max_jobs integer) returns boolean
language plpgsql
-- Dropping a partition waits for the same locks as attaching a partition (see accepted.create_job_partitions). It
-- blocks all other statements on accepted.job until the end of the transaction. Therefore each call drops only one
-- partition.
set lock_timeout = '100ms'
set timezone = 'UTC'
as $$
declare
  partition regclass;
  deleted bigint;
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.expired_day')) then
    return null;
  end if;
  select p.partition into partition from accepted.partition_of_day(day) p;
  if partition is not null then
    delete from accepted.expiry where expiry.day = $1;
    if not accepted.has_expired(day) then
      return null;
    end if;
    execute format('drop table %s', partition);
    return false;
  end if;
  delete from accepted.job_default where id in (
    select id from accepted.job_default
    where id >= accepted.uuid_floor(day::timestamptz) and id < accepted.uuid_floor((day + 1)::timestamptz)
      and ended_at is not null and expires_at <= now()
    order by id limit max_jobs
  );
  get diagnostics deleted = row_count;
  if deleted < max_jobs then
    delete from accepted.expiry where expiry.day = $1;
  end if;
  return deleted = max_jobs;
end
$$;

comment on function accepted.delete_jobs_of_day is 'Drops the partition of an expired day (UTC). If the day never had a partition, deletes at most max_jobs jobs of the day. Returns whether jobs may be left. Returns null when another worker is deleting, or when a job of the day has changed, so that the day is no longer expired. The worker calls this function after it has deleted the keys of the day.';

-- Views for people

create view accepted.job_overview as
select
  j.id,
  j.operation,
  j.status,
  j.principal,
  j.percent,
  j.message,
  j.attempt || ' of ' || j.max_attempts as attempt,
  coalesce(j.ended_at, now()) - j.created_at as age,
  coalesce(j.ended_at, now()) - j.started_at as running_for,
  j.error ->> 'code' as error_code,
  j.error ->> 'message' as error_message,
  j.resource,
  j.created_at,
  j.ended_at,
  q.state::text as queue_state,
  q.start_after as due_at
from accepted.job j
left join accepted_queue.job q on q.name = j.operation and q.id = j.id;

comment on view accepted.job_overview is 'All jobs at a glance, with their state in the queue. To see the newest jobs first, use: order by id desc.';
comment on column accepted.job_overview.id is 'The job.';
comment on column accepted.job_overview.operation is 'The kind of work.';
comment on column accepted.job_overview.status is 'The status that the client sees.';
comment on column accepted.job_overview.principal is 'The principal that submitted the job.';
comment on column accepted.job_overview.percent is 'Progress from 0 to 100.';
comment on column accepted.job_overview.message is 'The latest progress message.';
comment on column accepted.job_overview.attempt is 'The attempt and the maximum, for example 1 of 4. 0 before the first attempt.';
comment on column accepted.job_overview.age is 'Time from acceptance to the end of the job, or to now if the job has not ended.';
comment on column accepted.job_overview.running_for is 'Time from the start of the first attempt to the end of the job, or to now if the job has not ended.';
comment on column accepted.job_overview.error_code is 'Why the job failed, for programs.';
comment on column accepted.job_overview.error_message is 'Why the job failed, for people.';
comment on column accepted.job_overview.resource is 'Path of the resource that the job creates.';
comment on column accepted.job_overview.created_at is 'When the request was accepted.';
comment on column accepted.job_overview.ended_at is 'When the job ended.';
comment on column accepted.job_overview.queue_state is 'The state of the job in accepted_queue.job, which pg-boss maintains. Null if that table has no row for the job.';
comment on column accepted.job_overview.due_at is 'From this time on, workers may claim the job.';

create view accepted.backlog as
select
  q.name as operation,
  count(j.id) filter (where j.state < 'active' and j.start_after <= now()) as ready,
  count(j.id) filter (where j.state < 'active' and j.start_after > now()) as deferred,
  count(j.id) filter (where j.state = 'active') as running,
  now() - min(j.start_after) filter (where j.state < 'active' and j.start_after <= now()) as oldest
from accepted_queue.queue q
left join accepted_queue.job j on j.name = q.name and j.state <= 'active'
where q.name !~ '^__pgboss__'
group by q.name;

comment on view accepted.backlog is 'How many jobs wait and run, per operation.';
comment on column accepted.backlog.operation is 'The operation.';
comment on column accepted.backlog.ready is 'Jobs that are due and could start now.';
comment on column accepted.backlog.deferred is 'Jobs that are due later: deferred, or waiting for their retry.';
comment on column accepted.backlog.running is 'Jobs that workers have claimed.';
comment on column accepted.backlog.oldest is 'How long the oldest ready job has been waiting.';

-- First partitions

select accepted.create_job_partitions();
