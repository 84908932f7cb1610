comment on schema accepted is 'Accepted: the status of every job of the HTTP API, the idempotency keys and the dedup table. The queue itself is pg-boss''s, in schema accepted_queue.';

-- Status table

create type accepted.job_status as enum ('queued', 'running', 'succeeded', 'failed', 'canceled');

comment on type accepted.job_status is 'queued and running are pending; succeeded, failed and canceled are final, and follow running in the order of the type.';

create table accepted.job (
  id uuid not null,
  operation text not null,
  status accepted.job_status not null default 'queued',
  principal text not null,
  idempotency_key text,
  resource text,
  group_id text,
  retry_of uuid,
  parent uuid,
  children jsonb,
  waiting_for uuid[],
  after uuid[],
  batch jsonb,
  webhook_endpoint_id uuid,
  worker_id uuid,
  traceparent text,
  tracestate text,
  sequence bigint not null default 1,
  attempt integer not null default 0,
  max_attempts integer not null,
  coalesced integer not null default 0,
  cancel_requested boolean not null default false,
  cancel_requested_at timestamptz,
  percent smallint,
  message text,
  payload jsonb,
  result jsonb,
  error jsonb,
  created_at timestamptz not null default now(),
  run_at timestamptz,
  started_at timestamptz,
  attempt_started_at timestamptz,
  progress_at timestamptz,
  progress_base real,
  updated_at timestamptz not null default now(),
  ended_at timestamptz,
  expires_at timestamptz not null,
  constraint job_pkey primary key (id),
  constraint job_attempt_range check (attempt >= 0),
  constraint job_percent_range check (percent between 0 and 100),
  constraint job_ended_at_when_final check ((status > 'running') = (ended_at is not null)),
  constraint job_error_when_failed check ((status = 'failed') = (error is not null))
) partition by range (id);

comment on table accepted.job is 'The status table, with one row per job. The row commits together with the domain rows and the queue row of the job. The status URL (monitor) reads this table.';
comment on column accepted.job.id is 'UUIDv7, so ids sort by creation time. The job''s row in accepted_queue.job has the same id. Each partition holds the ids of one day (UTC).';
comment on column accepted.job.operation is 'The kind of work, for example todo.create. This is also the name of the queue in accepted_queue.queue.';
comment on column accepted.job.status is 'queued, running, succeeded, failed or canceled. A job that waits for its retry is queued.';
comment on column accepted.job.principal is 'The principal that submitted the job. No other principal sees the job over HTTP.';
comment on column accepted.job.idempotency_key is 'The key by which the worker deduplicates jobs. Handlers also send the key to outside services. If the key is null, handlers send the id of the job instead.';
comment on column accepted.job.resource is 'Path of the resource that the job creates, for example /todos/1. Once the job has succeeded, the client is redirected to this path.';
comment on column accepted.job.group_id is 'The group of the job, if its operation has groups.';
comment on column accepted.job.retry_of is 'The job that this job retries.';
comment on column accepted.job.parent is 'The job of which this job is a child: a batch, or the job whose settle enqueued this job. The parent ends when all its children have ended.';
comment on column accepted.job.children is 'How many children the job has: {total, succeeded, failed, canceled}. A child that is retried counts once. While the job is running, the numbers may be some seconds old. Null: the job has no children.';
comment on column accepted.job.waiting_for is 'The jobs that must end before this job starts. Null: none, or all of them have ended.';
comment on column accepted.job.after is 'The jobs that had to end before this job could start, in the order in which they were named. A retry has those of the job that it retries. Null: none.';
comment on column accepted.job.batch is 'The batch whose end enqueued this job: {id, total, succeeded, failed, canceled}. Null for any other job.';
comment on column accepted.job.webhook_endpoint_id is 'The only webhook endpoint to notify of the outcome, when the request named one. Null: all matching endpoints.';
comment on column accepted.job.worker_id is 'The worker that has the job, or last had it. accepted.worker_name(worker_id) returns its host and process id.';
comment on column accepted.job.traceparent is 'W3C traceparent of the sender: of the span that sent the job, or of the request if the sender records no spans.';
comment on column accepted.job.tracestate is 'W3C tracestate that belongs to traceparent.';
comment on column accepted.job.sequence is 'Increases with every visible change. The ETag of the status URL contains it.';
comment on column accepted.job.attempt is 'Number of the current or last attempt, from 1. 0 until the job is first claimed.';
comment on column accepted.job.max_attempts is 'The job fails after this many failed attempts.';
comment on column accepted.job.coalesced is 'Number of further requests that share the job, because its operation coalesces requests. See accepted.coalesced_key.';
comment on column accepted.job.cancel_requested is 'Whether cancellation has been requested. If the job is running, its worker then cancels the job.';
comment on column accepted.job.cancel_requested_at is 'When cancellation was requested.';
comment on column accepted.job.percent is 'Progress from 0 to 100, as reported by the handler. Never decreases.';
comment on column accepted.job.message is 'The latest progress message of the handler, for people.';
comment on column accepted.job.payload is 'The payload of the job. Set for failed and canceled jobs, so that they can be retried, and for pending jobs whose operation has an abandon function. The payload of any other job is in its row in accepted_queue.job. Members that the operation seals are encrypted: {"$sealed": "…"}.';
comment on column accepted.job.result is 'The value that the handler returned, when the operation declares a result. Members that the operation seals are encrypted: {"$sealed": "…"}.';
comment on column accepted.job.error is 'Why the job failed: {code, message, public?, status?, details?, child?}, without credentials. Clients see the message only if it is public. child is the child that failed first: {id, operation, status, error?}. Set only for failed jobs.';
comment on column accepted.job.created_at is 'When the request was accepted.';
comment on column accepted.job.run_at is 'The earliest start that the job was enqueued with. Null: immediately.';
comment on column accepted.job.started_at is 'When the first attempt started.';
comment on column accepted.job.attempt_started_at is 'When the current or last attempt started.';
comment on column accepted.job.progress_at is 'When the current or last attempt last reported the value of percent. Null if this attempt has not reported it. Then percent is from an earlier attempt.';
comment on column accepted.job.progress_base is 'The percent at which the current or last attempt has started, for example from a checkpoint, as computed from its reports. It may be below 0. Null: 0.';
comment on column accepted.job.updated_at is 'When sequence last increased.';
comment on column accepted.job.ended_at is 'When the job reached its final status.';
comment on column accepted.job.expires_at is 'From this time on, the record counts as gone (HTTP 410), and its partition may be dropped. Set again when the job ends.';

-- With a fillfactor of 45, every row has room in its page for the update that ends the job, even when all rows of a
-- page end in one transaction. An ended row is larger than a queued row. With a fillfactor of 50, 5 % of these updates
-- moved rows to other pages and had to update every index, and with 70 half of them.
create table accepted.job_default partition of accepted.job default with (fillfactor = 45);

comment on table accepted.job_default is 'Holds the jobs of days that have no partition yet. Empty while a worker runs, because workers create partitions ahead of time.';

-- The columns principal and id never change, so updates stay HOT. The condition is always true. It keeps Postgres from
-- using this index for a lookup by id alone: while a partition is empty, this index seems as good as the primary key.
create index job_principal_id_idx on accepted.job (principal, id) where principal is not null;

comment on index accepted.job_principal_id_idx is 'GET /jobs: lists the jobs of a principal, newest first.';

create index job_parent_idx on accepted.job (parent, id) where parent is not null;

comment on index accepted.job_parent_idx is 'Finds the children of a job.';

-- Redriving looks up the retries of every failed job. Most jobs are not retries, and such jobs have no entry in this
-- index.
create index job_retry_of_idx on accepted.job (retry_of) where retry_of is not null;

comment on index accepted.job_retry_of_idx is 'accepted jobs redrive: finds out whether a failed job has been retried.';

create function accepted.uuid_floor(at timestamptz) returns uuid
language sql immutable strict parallel safe
return (lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid;

comment on function accepted.uuid_floor is 'The lowest UUIDv7 of a millisecond (RFC 9562, section 5.7). Used in conditions on accepted.job.id.';

create function accepted.uuid_time(id uuid) returns timestamptz
language sql immutable strict parallel safe
return to_timestamp(('x' || lpad(left(replace(id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint / 1000.0);

comment on function accepted.uuid_time is 'The creation time of a UUIDv7, to the millisecond.';

-- Operations and workers

create table accepted.operation (
  name text not null,
  summary text not null,
  retry_limit integer not null,
  retry_delay_seconds integer not null,
  retry_backoff boolean not null,
  retry_max_delay_seconds integer not null,
  timeout_seconds integer not null,
  heartbeat_seconds integer not null,
  priority integer not null,
  group_concurrency integer,
  limit_starts integer,
  limit_period_seconds integer,
  limit_concurrency integer,
  limit_has_key boolean,
  max_backlog integer,
  max_backlog_per_principal integer,
  keep_seconds integer not null,
  has_abandon boolean not null default false,
  is_fair boolean not null default true,
  payload_schema jsonb,
  paused_at timestamptz,
  paused_reason text,
  defined_at timestamptz not null default now(),
  constraint operation_pkey primary key (name)
);

comment on table accepted.operation is 'One row per operation that the app has defined, with its policies. accepted migrate, the API and the worker write the definitions when they start. The row stays when the app no longer defines the operation.';
comment on column accepted.operation.name is 'For example todo.create. This is also the name of the queue in accepted_queue.queue.';
comment on column accepted.operation.summary is 'What the operation does, for people.';
comment on column accepted.operation.retry_limit is 'Number of retries after the first attempt.';
comment on column accepted.operation.retry_delay_seconds is 'The delay before the first retry.';
comment on column accepted.operation.retry_backoff is 'Whether the delay doubles with each retry.';
comment on column accepted.operation.retry_max_delay_seconds is 'The maximum delay when the delay doubles.';
comment on column accepted.operation.timeout_seconds is 'The time limit of an attempt: once for perform, and once for settle.';
comment on column accepted.operation.heartbeat_seconds is 'After this time without a heartbeat, a worker counts as dead, and its jobs are rescued.';
comment on column accepted.operation.priority is 'The priority of new jobs. A job with a higher priority starts first.';
comment on column accepted.operation.group_concurrency is 'How many jobs of one group may run at the same time. Null: no limit.';
comment on column accepted.operation.limit_starts is 'How many jobs of one limit key may start per period. Null: no limit.';
comment on column accepted.operation.limit_period_seconds is 'The period of limit_starts, in seconds.';
comment on column accepted.operation.limit_concurrency is 'How many jobs of one limit key may run at the same time. Null: no limit.';
comment on column accepted.operation.limit_has_key is 'Whether the limit applies to each key separately. False: it applies to the operation. Null: there is no limit.';
comment on column accepted.operation.max_backlog is 'While this many jobs wait, new jobs are refused. Null: no limit.';
comment on column accepted.operation.max_backlog_per_principal is 'While this many jobs of a principal wait, new jobs of this principal are refused. Null: no limit.';
comment on column accepted.operation.keep_seconds is 'How long the record of a job is kept after its end.';
comment on column accepted.operation.has_abandon is 'Whether the app has an abandon function, which runs in the transaction in which a job fails or is canceled.';
comment on column accepted.operation.is_fair is 'Whether workers take due jobs in turn over the principals. Otherwise, the oldest job starts first.';
comment on column accepted.operation.payload_schema is 'The JSON Schema of the payload. The worker checks it. Null if it is not known.';
comment on column accepted.operation.paused_at is 'Since this time, workers start no jobs of the operation. Requests are still accepted. Use accepted.pause and accepted.resume.';
comment on column accepted.operation.paused_reason is 'Why the operation is paused, for people.';
comment on column accepted.operation.defined_at is 'When the definition last changed.';

create function accepted.define_operations(definitions jsonb) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  defined accepted.operation;
  present accepted.operation;
begin
  -- All processes define operations in the same order, so that they cannot deadlock.
  for defined in
    select * from jsonb_populate_recordset(null::accepted.operation, definitions) order by name
  loop
    -- Most starts change nothing. Then they write nothing, and wait for no other process.
    if not exists (
      select from accepted.operation
      where name = defined.name
        and to_jsonb(operation) - '{paused_at,paused_reason,defined_at}'::text[]
          = to_jsonb(defined) - '{paused_at,paused_reason,defined_at}'::text[]
    ) then
      defined.defined_at := now();
      select * into present from accepted.operation where name = defined.name;
      insert into accepted.operation select defined.*
      on conflict on constraint operation_pkey do update set
        summary = excluded.summary, retry_limit = excluded.retry_limit,
        retry_delay_seconds = excluded.retry_delay_seconds, retry_backoff = excluded.retry_backoff,
        retry_max_delay_seconds = excluded.retry_max_delay_seconds, timeout_seconds = excluded.timeout_seconds,
        heartbeat_seconds = excluded.heartbeat_seconds, priority = excluded.priority,
        group_concurrency = excluded.group_concurrency, limit_starts = excluded.limit_starts,
        limit_period_seconds = excluded.limit_period_seconds, limit_concurrency = excluded.limit_concurrency,
        limit_has_key = excluded.limit_has_key, max_backlog = excluded.max_backlog,
        max_backlog_per_principal = excluded.max_backlog_per_principal,
        keep_seconds = excluded.keep_seconds, has_abandon = excluded.has_abandon,
        is_fair = excluded.is_fair, payload_schema = excluded.payload_schema, defined_at = excluded.defined_at;
      -- With a faster rate, the next jobs need not wait as long as with the slower rate before.
      update accepted.limit_key k set
        slot_at = least(k.slot_at, now() + pace.spacing),
        next_at = case when k.next_at = 'infinity' then k.next_at else least(k.next_at, now() + pace.spacing) end
      from accepted.limit_pace(defined.limit_starts, defined.limit_period_seconds) pace
      where k.operation = defined.name
        and (present.limit_starts, present.limit_period_seconds)
          is distinct from (defined.limit_starts, defined.limit_period_seconds);
    end if;
    perform accepted.define_queue(defined);
  end loop;
end
$$;

comment on function accepted.define_operations is 'Writes the definitions of operations, and creates or updates their queues. definitions is an array of objects with the columns of accepted.operation. accepted migrate, the API and the worker call this function when they start.';

create function accepted.define_queue(operation accepted.operation) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  present accepted_queue.queue;
  wanted accepted_queue.queue;
begin
  perform accepted_queue.create_queue(operation.name, '{"policy": "standard"}');
  select * into present from accepted_queue.queue where name = operation.name;
  wanted := present;
  wanted.policy := case when operation.limit_has_key is null then 'standard' else 'limited' end;
  wanted.retry_limit := operation.retry_limit;
  wanted.retry_delay := operation.retry_delay_seconds;
  wanted.retry_backoff := operation.retry_backoff;
  wanted.retry_delay_max := case when operation.retry_backoff then operation.retry_max_delay_seconds end;
  -- pg-boss then expires an attempt. An attempt gets this old only when a live worker cannot finish it: the jobs of a
  -- dead worker are rescued much earlier. With an hour after the time limit, an outage of Postgres uses up no attempt.
  wanted.expire_seconds := operation.timeout_seconds + 3600;
  -- pg-boss silently deletes a job that has waited for so long. A job may be deferred for years.
  wanted.retention_seconds := 10 * 366 * 86400;
  -- How long pg-boss keeps the row of a failed or canceled job. Its status is in accepted.job.
  wanted.deletion_seconds := 3600;
  if wanted is distinct from present then
    update accepted_queue.queue set
      policy = wanted.policy, retry_limit = wanted.retry_limit, retry_delay = wanted.retry_delay, retry_backoff = wanted.retry_backoff,
      retry_delay_max = wanted.retry_delay_max, expire_seconds = wanted.expire_seconds,
      retention_seconds = wanted.retention_seconds, deletion_seconds = wanted.deletion_seconds, updated_on = now()
    where name = operation.name;
  end if;
  if wanted.policy = 'limited' and present.policy <> 'limited' then
    perform accepted.find_unlimited_jobs(operation.name);
  elsif wanted.policy <> present.policy then
    delete from accepted.limit_arrival where limit_arrival.operation = define_queue.operation.name;
    delete from accepted.limit_key where limit_key.operation = define_queue.operation.name;
  end if;
end
$$;

comment on function accepted.define_queue is 'Creates the queue of an operation in pg-boss, or updates its options. The policy of a queue with a limit is limited. pg-boss does not know this policy, and copies it into the rows of new jobs.';

create function accepted.find_operation(name text) returns accepted.operation
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  found_operation accepted.operation;
begin
  select * into found_operation from accepted.operation where operation.name = find_operation.name;
  if not found then
    raise exception 'there is no operation %', coalesce(quote_literal(find_operation.name), 'null')
      using errcode = 'undefined_object', hint = coalesce(
        (select 'Operations: ' || string_agg(operation.name, ', ' order by operation.name) from accepted.operation
          where operation.name <> 'batch'),
        'No operation is defined yet. Run accepted migrate with the configuration of the app, which writes its operations.');
  end if;
  return found_operation;
end
$$;

comment on function accepted.find_operation is 'Returns the definition of an operation. Raises undefined_object (42704) if there is none.';

create function accepted.is_paused(operation text) returns boolean
language sql
stable
return exists (select from accepted.operation o where o.name = operation and o.paused_at is not null);

comment on function accepted.is_paused is 'Whether workers start no jobs of the operation.';

create function accepted.is_limited(operation text) returns boolean
language sql
stable
return exists (select from accepted.operation o where o.name = operation and o.limit_has_key is not null);

comment on function accepted.is_limited is 'Whether the operation has a limit. Then accepted.claim_limited claims its jobs.';

create table accepted.worker (
  id uuid not null,
  host text not null,
  pid integer not null,
  version text not null,
  operations text[] not null,
  status text not null default 'ready',
  started_at timestamptz not null default now(),
  heartbeat_at timestamptz not null default now(),
  constraint worker_pkey primary key (id),
  constraint worker_status_known check (status in ('ready', 'draining'))
);

comment on table accepted.worker is 'One row per worker process. The row is deleted when the process stops. The row of a process that has ended otherwise is deleted after ten minutes. accepted.ended_worker keeps the name of the process.';
comment on column accepted.worker.id is 'UUIDv7. A process gets a new id each time it starts.';
comment on column accepted.worker.host is 'The name of the machine.';
comment on column accepted.worker.pid is 'The process id on this machine.';
comment on column accepted.worker.version is 'The version of Accepted.';
comment on column accepted.worker.operations is 'The operations whose jobs the process claims.';
comment on column accepted.worker.status is 'ready, or draining: the process claims no more jobs, and stops when its running jobs have ended.';
comment on column accepted.worker.started_at is 'When the process started.';
comment on column accepted.worker.heartbeat_at is 'The time of the last heartbeat. Workers send one every 3 seconds.';

create table accepted.ended_worker (
  id uuid not null,
  host text not null,
  pid integer not null,
  ended_at timestamptz not null default now(),
  constraint ended_worker_pkey primary key (id)
);

comment on table accepted.ended_worker is 'The names of worker processes whose row in accepted.worker has been deleted. Views show them for the jobs that these workers had. A row is deleted when all jobs that were accepted before its process ended are deleted.';
comment on column accepted.ended_worker.id is 'The id that the process had in accepted.worker.';
comment on column accepted.ended_worker.host is 'The name of the machine.';
comment on column accepted.ended_worker.pid is 'The process id on this machine.';
comment on column accepted.ended_worker.ended_at is 'When the row in accepted.worker was deleted.';

create function accepted.is_overdue(heartbeat_at timestamptz) returns boolean
language sql
stable
return heartbeat_at <= now() - interval '15 seconds';

comment on function accepted.is_overdue is 'Whether the heartbeat of a worker is overdue: five heartbeats are missing.';

create function accepted.live_workers() returns setof accepted.worker
language sql
stable
begin atomic
  select * from accepted.worker where not accepted.is_overdue(heartbeat_at);
end;

comment on function accepted.live_workers is 'The workers whose heartbeat is not overdue.';

create function accepted.count_workers(operation text) returns bigint
language sql
stable
begin atomic
  select count(*) from accepted.live_workers() live
  where live.status = 'ready' and count_workers.operation = any(live.operations);
end;

comment on function accepted.count_workers is 'Number of live workers that claim jobs of the operation.';

create function accepted.worker_name(id uuid) returns text
language sql
stable
return coalesce(
  (select w.host || ':' || w.pid from accepted.worker w where w.id = worker_name.id),
  (select e.host || ':' || e.pid from accepted.ended_worker e where e.id = worker_name.id),
  worker_name.id::text
);

comment on function accepted.worker_name is 'The host and the process id of a worker, also after it has ended. The id of the worker if they are not known.';

-- The index of failed and late jobs

-- An index on accepted.job would have to contain a column that changes. Then every update would have to write to every
-- index. Most jobs succeed within hours, so a view finds them by their id.
create table accepted.ended_job (
  ended_at timestamptz not null,
  job_id uuid not null,
  status accepted.job_status not null,
  constraint ended_job_pkey primary key (job_id, ended_at)
);

comment on table accepted.ended_job is 'An index of the jobs that failed, and of the jobs that ended more than three hours after they were accepted. It finds them by the time of their end. A row is deleted together with the record of its job. Ignore rows whose ended_at differs from that of the job.';
comment on column accepted.ended_job.ended_at is 'When the job ended.';
comment on column accepted.ended_job.job_id is 'The job.';
comment on column accepted.ended_job.status is 'The final status of the job.';

create index ended_job_ended_at_idx on accepted.ended_job (ended_at);

comment on index accepted.ended_job_ended_at_idx is 'accepted.failure and accepted.throughput: finds what has ended since a time.';

create function accepted.add_ended_job() returns trigger
language plpgsql
-- A role that may write to accepted.job needs no privileges on accepted.ended_job.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.status = 'failed' or new.ended_at - new.created_at > interval '3 hours' then
    insert into accepted.ended_job (ended_at, job_id, status) values (new.ended_at, new.id, new.status)
    on conflict do nothing;
  end if;
  return null;
end
$$;

comment on function accepted.add_ended_job is 'Trigger function: adds a job to accepted.ended_job if it has failed, or has ended more than three hours after it was accepted.';

-- A statement that writes to a table parses the stored text of the conditions of its triggers: 1,000 characters of
-- pg_trigger.tgqual take about 10 µs per statement and partition. So the conditions of the triggers on jobs are short,
-- and the functions of the triggers check the rest.
create trigger job_end_indexed after update of ended_at on accepted.job for each row
  when (new.status = 'failed' or new.ended_at - new.created_at > interval '3 hours')
  execute function accepted.add_ended_job();

comment on trigger job_end_indexed on accepted.job is 'Adds jobs to accepted.ended_job when they fail, or end late.';

create trigger job_inserted_ended after insert on accepted.job for each row when (new.ended_at is not null)
  execute function accepted.add_ended_job();

comment on trigger job_inserted_ended on accepted.job is 'Adds failed and late jobs to accepted.ended_job that are inserted after their end, for example when rows are copied.';

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
security definer
set search_path = pg_catalog, pg_temp
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
comment on column accepted.idempotency_key.fingerprint is 'SHA-256 of the request, or an HMAC if the operation seals members. A different request with the same key is rejected with 422.';
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

-- Coalescing

create table accepted.coalesced_key (
  operation text not null,
  principal text not null,
  key text not null,
  job_id uuid not null,
  ends_at timestamptz not null,
  constraint coalesced_key_pkey primary key (operation, principal, key),
  constraint coalesced_key_length check (length(key) between 1 and 255)
);

comment on table accepted.coalesced_key is 'One row per coalescing key: the last window in which requests with this key share a job. Only for operations with the option coalesce. The row is deleted together with the record of this job.';
comment on column accepted.coalesced_key.operation is 'The operation of the requests.';
comment on column accepted.coalesced_key.principal is 'The principal that sent the requests. Requests of other principals never share the job.';
comment on column accepted.coalesced_key.key is 'What the key function of the operation returned for the requests.';
comment on column accepted.coalesced_key.job_id is 'The job that the requests share. The first request of the window created it.';
comment on column accepted.coalesced_key.ends_at is 'When the window ends. A later request creates a new job and starts a new window.';

-- Attempts

create table accepted.attempt (
  job_id uuid not null,
  attempt integer not null,
  error jsonb not null,
  worker_id uuid,
  started_at timestamptz,
  failed_at timestamptz not null default now(),
  constraint attempt_pkey primary key (job_id, attempt)
);

comment on table accepted.attempt is 'One row per failed attempt of a job.';
comment on column accepted.attempt.job_id is 'The job.';
comment on column accepted.attempt.attempt is 'Number of the failed attempt, from 1.';
comment on column accepted.attempt.error is 'Why the attempt failed: {code, message, public?, status?, details?}, without credentials.';
comment on column accepted.attempt.worker_id is 'The worker that ran the attempt. Null if it died before it had started the job.';
comment on column accepted.attempt.started_at is 'When the attempt started.';
comment on column accepted.attempt.failed_at is 'When the attempt failed.';

-- Ends that are decided

create table accepted.ending (
  job_id uuid not null,
  operation text not null,
  status accepted.job_status not null,
  error jsonb,
  decided_at timestamptz not null default now(),
  failures integer not null default 0,
  last_error text,
  due_at timestamptz not null default now(),
  constraint ending_pkey primary key (job_id),
  constraint ending_status_unsuccessful check (status in ('failed', 'canceled')),
  constraint ending_error_when_failed check ((status = 'failed') = (error is not null))
);

comment on table accepted.ending is 'Jobs whose end is decided, but not committed. Their operations have an abandon function, which the app runs in the transaction of the end. A worker or the API does so within a second or two. Empty most of the time.';
comment on column accepted.ending.job_id is 'The job. No worker claims it any more.';
comment on column accepted.ending.operation is 'The operation of the job.';
comment on column accepted.ending.status is 'The status that the job will get: failed or canceled.';
comment on column accepted.ending.error is 'Why the job fails, as in accepted.job.error.';
comment on column accepted.ending.decided_at is 'When the end was decided.';
comment on column accepted.ending.failures is 'How often abandon has failed.';
comment on column accepted.ending.last_error is 'Why abandon last failed, without credentials.';
comment on column accepted.ending.due_at is 'When abandon runs next. The pause doubles with each failure, up to a minute.';

create index ending_operation_due_at_idx on accepted.ending (operation, due_at);

comment on index accepted.ending_operation_due_at_idx is 'Workers and API: finds the jobs to end.';

create function accepted.decide_ends(decided jsonb, failure text default null) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
  one record;
  name text;
begin
  for one in
    select * from jsonb_to_recordset(decided) as given (id uuid, status accepted.job_status, error jsonb) order by id
  loop
    select operation into name from accepted.job where id = one.id and ended_at is null;
    continue when not found;
    insert into accepted.ending (job_id, operation, status, error, failures, last_error, due_at)
    values (
      one.id, name, one.status, nullif(one.error, 'null'), case when failure is null then 0 else 1 end, failure,
      now() + case when failure is null then interval '0' else interval '1 second' end
    )
    on conflict on constraint ending_pkey do nothing;
    -- The row in the queue may be deleted before the end. A retry, and abandon, need the payload.
    update accepted.job set payload = (
      select data -> 'payload' from accepted_queue.job queued where queued.name = job.operation and queued.id = job.id
    )
    where id = one.id and payload is null;
    perform pg_notify('accepted_end', name);
  end loop;
end
$$;

comment on function accepted.decide_ends is 'Decides the ends of locked jobs whose operation has an abandon function. decided is an array of objects: id, status, error. failure is why abandon has just failed, if it has. accepted.cancel calls this function, and the worker.';

create function accepted.lock_endings(job_ids uuid[], waits boolean default false)
  returns table (
    id uuid, principal text, resource text, payload jsonb, status accepted.job_status, error jsonb, transaction_id xid8
  )
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
  if waits then
    perform from accepted.job where id = any(job_ids) order by id for update;
  end if;
  -- Something else has ended these jobs, for example a worker to which another program had given the job.
  delete from accepted.ending where job_id = any(job_ids) and not exists (
    select from accepted.job where job.id = job_id and job.ended_at is null offset 0
  );
  return query
    select job.id, job.principal, job.resource, job.payload, ending.status, ending.error, pg_current_xact_id()
    from (select * from accepted.ending where job_id = any(job_ids) order by job_id) ending
    cross join lateral (
      -- Another process that ends the same job has locked it.
      select * from accepted.job where id = ending.job_id and ended_at is null for update skip locked
    ) job;
end
$$;

comment on function accepted.lock_endings is 'Locks the jobs of these ids whose end is decided, in the order of their ids. Leaves out jobs that another transaction has locked, or waits for its end. The app then runs abandon and calls accepted.complete_ends.';

create function accepted.postpone_ending(job_id uuid, failure text) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_variable
declare
  postponed accepted.ending;
begin
  update accepted.ending e set
    failures = e.failures + 1, last_error = failure,
    due_at = clock_timestamp() + make_interval(secs => least(power(2, e.failures), 60))
  where e.job_id = job_id
  returning * into postponed;
  return postponed.failures;
end
$$;

comment on function accepted.postpone_ending is 'Records that abandon has failed, and when it runs next. Returns how often it has failed.';

-- Jobs that wait for other jobs

create table accepted.parent (
  job_id uuid not null,
  allow_failures boolean not null default false,
  on_end jsonb,
  first_pending uuid not null default '00000000-0000-0000-0000-000000000000',
  constraint parent_pkey primary key (job_id)
);

comment on table accepted.parent is 'Jobs that run until their children have ended: batches, and jobs whose settle enqueued children. The row is deleted when the job ends.';
comment on column accepted.parent.job_id is 'The job. Its own work is done: it has no row in the queue.';
comment on column accepted.parent.allow_failures is 'Whether the job succeeds although children fail or are canceled.';
comment on column accepted.parent.on_end is 'The job to enqueue when the batch ends: {operation, payload, id, resource, run_at, group_id}. Null: none.';
comment on column accepted.parent.first_pending is 'All children with a lower id have ended, so the search for a pending child can start here.';

create table accepted.dependency (
  job_id uuid not null,
  awaited_id uuid not null,
  on_failure text not null default 'cancel',
  constraint dependency_pkey primary key (job_id, awaited_id),
  constraint dependency_on_failure_known check (on_failure in ('cancel', 'run'))
);

comment on table accepted.dependency is 'Which jobs wait for the end of other jobs. A row is deleted when the awaited job ends.';
comment on column accepted.dependency.job_id is 'The job that waits. Until all awaited jobs have ended, its row in accepted_queue.job is blocked.';
comment on column accepted.dependency.awaited_id is 'The job that must end first.';
comment on column accepted.dependency.on_failure is 'What happens if the awaited job fails or is canceled. cancel: the waiting job is canceled. run: it runs all the same.';

create index dependency_awaited_id_idx on accepted.dependency (awaited_id);

comment on index accepted.dependency_awaited_id_idx is 'Finds the jobs that wait for a job that ends.';

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
  -- A worker with an older definition does not know the limit. Before Postgres 18, calls of accepted.is_paused and
  -- accepted.is_limited would take half of the time of a claim.
  if exists (
    select from accepted.operation o where o.name = queue and (o.paused_at is not null or o.limit_has_key is not null)
  ) then
    return;
  end if;
  return query
  with next as materialized (
    select job.ctid from accepted_queue.job_common job
    where job.name = queue and job.state < 'active' and not job.blocked and job.start_after <= now()
      and job.created_on >= created_from
    order by job.priority desc, job.created_on
    limit max_jobs
    for update skip locked
  ), claimed as (
    update accepted_queue.job_common job set
      state = 'active', started_on = now(), heartbeat_on = now(),
      retry_count = job.retry_count + case when job.started_on is null then 0 else 1 end
    -- The rows are locked, so they do not move. With an equation of ids, a plan that was made while the queue was empty may
    -- read the whole queue.
    where job.ctid = any(array(select next.ctid from next))
    returning job.id, job.retry_count, job.data, job.created_on, job.start_after
  )
  select
    claimed.id, claimed.retry_count, claimed.data, extract(epoch from now() - claimed.start_after)::float8,
    -- This format does not depend on the DateStyle of the session.
    to_char((min(claimed.created_on) over ()) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  from claimed;
end
$$;

comment on function accepted.claim is 'Claims at most max_jobs due jobs of a queue. Claims none while the operation is paused, or if it has a limit. Claims only jobs that were created at created_from or later. Jobs with a higher priority come first, then older jobs. waited_seconds is how long the job was due before it was claimed. floor is the creation time of the oldest claimed job (UTC, ISO 8601). The next claim can start at floor, so that it does not read the index entries of jobs that were claimed earlier. Postgres cannot remove these entries while a transaction holds an old snapshot.';

-- pg-boss does not use singleton_key in queues of the policy standard, so the queue stores the principal there. (In a
-- queue with a limit, it stores the limit key.) A
-- principal's deferred jobs are at the end of its entries, so that claims do not read them. Before Postgres 18, a claim
-- that passes a principal that has only deferred jobs reads their entries, but not their rows.
create index accepted_turn_idx
  on accepted_queue.job_common (name, priority desc, (coalesce(singleton_key, '') collate "C"), start_after)
  -- Jobs that were accepted together are due at the same time. Postgres would merge their entries, and then claims could
  -- not mark the entries of claimed jobs as dead, but would read them until the next vacuum.
  with (deduplicate_items = off)
  where state < 'active' and not blocked;

comment on index accepted_queue.accepted_turn_idx is 'Fair claims: finds the next principal that has due jobs, and the due jobs of a principal, oldest first.';

create function accepted.claim_in_turn(
  queue text, max_jobs integer, after_priority integer, after_principal text
) returns table (
  id uuid, retry_count integer, data jsonb, waited_seconds double precision,
  turn_priority integer, turn_principal text, turn_size integer, read_entries bigint
)
  language plpgsql
  -- These settings force scans of accepted_turn_idx in its order, even if the plan was made while the queue was empty.
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_sort = off
  set plan_cache_mode = force_generic_plan
  -- Before Postgres 18, a disabled scan seems so expensive that Postgres would compile the plan.
  set jit = off
as $$
#variable_conflict use_column
declare
  is_paused boolean;
  wanted integer := max_jobs;
  level integer;
  -- The next principal is the first one from here on. No text is between a text and the same text with chr(1) appended.
  next_from text := coalesce(after_principal || chr(1), '');
  round_from text;
  is_wrapped boolean;
  next_principal text;
  next_place tid;
  places tid[];
  principals text[];
  -- The counter also contains what earlier transactions of the session have read since it was last flushed.
  entries_before bigint := pg_stat_get_xact_tuples_returned('accepted_queue.accepted_turn_idx'::regclass);
begin
  select exists (
    select from accepted.operation o where o.name = queue and (o.paused_at is not null or o.limit_has_key is not null)
  ), coalesce((
    -- Usually no jobs have a higher priority than the previous ones. Then this reads next to nothing.
    select job.priority from accepted_queue.job_common job
    where job.name = queue and job.priority > coalesce(after_priority, -2147483648)
      and job.state < 'active' and not job.blocked and job.start_after <= now()
    order by job.priority desc
    limit 1
  ), after_priority, -2147483648) into is_paused, level;
  if is_paused then
    return;
  end if;
  while wanted > 0 loop
    places := '{}';
    principals := '{}';
    round_from := next_from;
    is_wrapped := false;
    -- One job of each principal, until enough jobs are found or all principals had their turn.
    while cardinality(places) < wanted and not (is_wrapped and next_from collate "C" >= round_from) loop
      select job.ctid, coalesce(job.singleton_key, '') into next_place, next_principal
      from accepted_queue.job_common job
      where job.name = queue and job.priority = level and coalesce(job.singleton_key, '') collate "C" >= next_from
        and job.state < 'active' and not job.blocked and job.start_after <= now()
      order by coalesce(job.singleton_key, '') collate "C", job.start_after
      limit 1
      for update skip locked;
      if found and not (is_wrapped and next_principal collate "C" >= round_from) then
        places := places || next_place;
        principals := principals || next_principal;
        next_from := next_principal || chr(1);
      else
        -- When the round began with the first principal, there is no other part.
        exit when is_wrapped or round_from = '';
        is_wrapped := true;
        next_from := '';
      end if;
    end loop;
    if cardinality(places) = 0 then
      level := (
        select job.priority from accepted_queue.job_common job
        where job.name = queue and job.priority < level
          and job.state < 'active' and not job.blocked and job.start_after <= now()
        order by job.priority desc
        limit 1
      );
      exit when level is null;
      next_from := round_from;
      continue;
    end if;
    -- More jobs of the same principals, as many of each.
    if wanted >= 2 * cardinality(places) then
      places := places || array(
        select more.ctid from unnest(places, principals) as turn (place, principal) cross join lateral (
          select job.ctid from accepted_queue.job_common job
          where job.name = queue and job.priority = level
            and coalesce(job.singleton_key, '') collate "C" = turn.principal
            and job.state < 'active' and not job.blocked and job.start_after <= now() and job.ctid <> turn.place
          order by job.start_after
          limit wanted / cardinality(places) - 1
          for update skip locked
        ) more
      );
    end if;
    return query
    with claimed as (
      update accepted_queue.job_common job set
        state = 'active', started_on = now(), heartbeat_on = now(),
        retry_count = job.retry_count + case when job.started_on is null then 0 else 1 end
      where job.ctid = any(places)
      returning job.id, job.retry_count, job.data, job.start_after
    )
    select
      claimed.id, claimed.retry_count, claimed.data, extract(epoch from now() - claimed.start_after)::float8,
      level, principals[cardinality(principals)], cardinality(principals),
      pg_stat_get_xact_tuples_returned('accepted_queue.accepted_turn_idx'::regclass) - entries_before
    from claimed;
    wanted := wanted - cardinality(places);
    -- In the last round, only some principals may have got a job.
    next_from := principals[cardinality(principals)] || chr(1);
  end loop;
end
$$;

comment on function accepted.claim_in_turn is 'Claims at most max_jobs due jobs of a queue, in turn over the principals that have due jobs: one job each, and again from the first principal on while jobs are wanted. Begins with the principal after after_principal. Jobs with a higher priority come first; of a principal, those that became due earlier. after_priority and after_principal are turn_priority and turn_principal of the last row of the previous claim, or null. Claims none while the operation is paused. waited_seconds is how long the job was due before it was claimed. turn_size is the number of principals in the last turn. read_entries is the number of index entries that the claim has read so far: many while a transaction holds an old snapshot, because Postgres then cannot remove the entries of jobs that were claimed earlier.';

create function accepted.begin_claimed(operation text, attempts jsonb, worker_id uuid)
  returns table (
    id uuid, principal text, idempotency_key text, traceparent text, tracestate text, attempt integer,
    max_attempts integer, batch jsonb, percent smallint, is_key_taken boolean
  )
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
  set plan_cache_mode = force_generic_plan
  set jit = off
as $$
#variable_conflict use_column
declare
  ids uuid[] := array(select key::uuid from jsonb_object_keys(attempts) key order by 1);
  first_id uuid := ids[1];
  last_id uuid := ids[cardinality(ids)];
begin
  if first_id is null then
    return;
  end if;
  -- The transaction may have locked queue rows, which others lock after the job. So it must not wait for a job.
  perform from accepted.job
    where id = any(ids) and id between first_id and last_id and status in ('queued', 'running')
    order by id
    for update skip locked;
  return query
  update accepted.job set
    status = 'running', attempt = (attempts -> job.id::text)::integer,
    started_at = coalesce(started_at, statement_timestamp()), attempt_started_at = statement_timestamp(),
    worker_id = begin_claimed.worker_id, progress_at = null, progress_base = null,
    updated_at = statement_timestamp(), sequence = sequence + 1
  where job.id = any(ids) and job.id between first_id and last_id and job.xmax = pg_current_xact_id()::xid
    and job.operation = begin_claimed.operation and job.status in ('queued', 'running') and not job.cancel_requested
  returning
    job.id, job.principal, job.idempotency_key, job.traceparent, job.tracestate, job.attempt,
    job.max_attempts, job.batch, job.percent, exists (
      select from accepted.processed_key processed
      where processed.operation = job.operation and processed.principal = job.principal
        and processed.key = job.idempotency_key and processed.job_id <> job.id
      -- With the offset, Postgres looks up each key. Otherwise it may read all keys of the operation.
      offset 0
    );
end
$$;

comment on function accepted.begin_claimed is 'Sets claimed jobs to running. attempts contains the number of the attempt for each id. Leaves out jobs that another transaction has locked, jobs that have ended, and jobs whose cancellation was requested. is_key_taken: another job holds the idempotency key in the dedup table; its record may have expired.';

-- The statements with which pg-boss completes jobs must find them by the primary key. While a transaction holds an old
-- snapshot, this index is full of entries of jobs that are no longer active. So it has a condition that does not follow
-- from those of these statements. It follows from those of two other statements of pg-boss: the search for expired
-- attempts, and the search for overdue heartbeats, which would read the whole queue without this index.
create index accepted_active_idx on accepted_queue.job (name)
  where state = 'active' and (started_on is not null or heartbeat_seconds is not null);

comment on index accepted_queue.accepted_active_idx is 'Rescue: finds the jobs of dead workers.';

create index accepted_unsuccessful_idx on accepted_queue.job (completed_on) where state in ('cancelled', 'failed');

comment on index accepted_queue.accepted_unsuccessful_idx is 'Reconciliation: finds the jobs that were canceled or failed in the queue.';

-- Each job leaves two dead rows in the queue. Claims must skip the dead rows, and the table grows until the next
-- vacuum. At 5,500 jobs a second, a vacuum takes less than 20 s without delays. With the default delays of autovacuum,
-- it takes up to a minute, because the tables share one cost limit.
alter table accepted_queue.job_common set (autovacuum_vacuum_cost_delay = 0);

-- Limits

create table accepted.limit_key (
  operation text not null,
  key text not null,
  next_at timestamptz not null,
  slot_at timestamptz not null,
  constraint limit_key_pkey primary key (operation, key)
-- A busy key changes with every claim.
) with (fillfactor = 50, autovacuum_vacuum_cost_delay = 0);

comment on table accepted.limit_key is 'One row per key of an operation with a limit: when a worker next looks for jobs of the key. A worker that claims jobs of a key locks its row, so that no other worker counts the running jobs of the key at the same time. The row of an unused key is deleted after some minutes.';
comment on column accepted.limit_key.operation is 'The operation, which is also the name of its queue.';
comment on column accepted.limit_key.key is 'The limit key of the jobs, which is the column singleton_key of their rows in accepted_queue.job. *: the limit has no keys. Empty: no key could be computed. A worker fails these jobs, without a limit.';
comment on column accepted.limit_key.next_at is 'When a worker next looks for jobs of the key. infinity: no job of the key is due.';
comment on column accepted.limit_key.slot_at is 'When the next job of the key may start, by the rate.';

create index limit_key_next_at_idx on accepted.limit_key (operation, next_at);

comment on index accepted.limit_key_next_at_idx is 'Workers: finds the keys whose jobs may start.';

create table accepted.limit_arrival (
  id bigint generated always as identity,
  operation text not null,
  key text,
  job_id uuid not null,
  due_at timestamptz not null,
  constraint limit_arrival_pkey primary key (operation, due_at, id)
) with (autovacuum_vacuum_cost_delay = 0);

comment on table accepted.limit_arrival is 'Jobs of operations with a limit that have come into the queue, or back into the queue. When they are due, a worker looks for jobs of their keys. The row is inserted with the job, so that no transaction that enqueues jobs waits for the row of a key.';
comment on column accepted.limit_arrival.id is 'Makes the rows unique.';
comment on column accepted.limit_arrival.operation is 'The operation, which is also the name of its queue.';
comment on column accepted.limit_arrival.key is 'The limit key of the job. Null: a worker must compute it from the payload, for example because the job was enqueued in SQL.';
comment on column accepted.limit_arrival.job_id is 'The id of the job''s row in accepted_queue.job.';
comment on column accepted.limit_arrival.due_at is 'When the job is due. infinity: its key is not known yet.';

create index accepted_limited_idx on accepted_queue.job (name, singleton_key, priority desc, created_on, start_after)
  where state < 'active' and not blocked and policy = 'limited';

comment on index accepted_queue.accepted_limited_idx is 'Workers: the waiting jobs of a limit key, in the order in which they are claimed.';

create index accepted_limited_active_idx on accepted_queue.job (name, singleton_key)
  where state = 'active' and policy = 'limited';

comment on index accepted_queue.accepted_limited_active_idx is 'Workers: the running jobs of a limit key.';

create function accepted.record_limit_arrival() returns trigger
language plpgsql
-- A role that may enqueue jobs needs no privileges on accepted.limit_arrival.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.state < 'active' and not new.blocked then
    insert into accepted.limit_arrival (operation, key, job_id, due_at)
    values (new.name, new.singleton_key, new.id, case when new.singleton_key is null then 'infinity' else new.start_after end);
  end if;
  return null;
end
$$;

comment on function accepted.record_limit_arrival is 'Trigger function: records in accepted.limit_arrival that a job waits.';

create trigger accepted_limit_arrival after insert on accepted_queue.job for each row when (new.policy = 'limited')
  execute function accepted.record_limit_arrival();

comment on trigger accepted_limit_arrival on accepted_queue.job is 'Records that a new job of an operation with a limit waits.';

create trigger accepted_limit_return
  after update of state, blocked, start_after, singleton_key, policy on accepted_queue.job for each row
  when (new.policy = 'limited' and new.state < 'active' and not new.blocked)
  execute function accepted.record_limit_arrival();

comment on trigger accepted_limit_return on accepted_queue.job is 'Records that a job of an operation with a limit waits after a change: a retry, a released job, a job that was blocked, rescheduled or given a key.';

create function accepted.find_unlimited_jobs(operation text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  insert into accepted.limit_arrival (operation, job_id, due_at)
  select job.name, job.id, 'infinity' from accepted_queue.job
  where job.name = find_unlimited_jobs.operation and job.state <= 'active' and job.policy is distinct from 'limited'
    and not exists (
      select from accepted.limit_arrival a
      where a.operation = job.name and a.due_at = 'infinity' and a.job_id = job.id
    );
end
$$;

comment on function accepted.find_unlimited_jobs is 'Enters the jobs of an operation that were enqueued before it had a limit into accepted.limit_arrival. A worker then computes their keys.';

create function accepted.limit_pace(starts integer, period_seconds integer, out spacing interval, out catch_up interval)
language sql
immutable
begin atomic
  select
    make_interval(secs => (period_seconds + slack) / (starts + 1)),
    make_interval(secs => least(slack / 2, 1))
  from (
    -- At a high rate, several jobs start together, at the cost of up to 3 % of the rate.
    select greatest(period_seconds::double precision / starts, least(0.1, period_seconds * 0.03)) as slack
  ) bound;
end;

comment on function accepted.limit_pace is 'The time between two slots of a rate, and how late a slot may still be used. Slots are at least spacing apart. If no start is later than slack = spacing * (starts + 1) - period after its slot, no period has more than starts + 1 starts. The half of slack is for the time from the claim to the start. Null without a rate.';

create function accepted.count_slots(slot_at timestamptz, at timestamptz, spacing interval, catch_up interval)
returns integer
language sql
immutable
return case
  when spacing is null then null
  when at < slot_at then 0
  else 1 + floor(extract(epoch from least(at - slot_at, catch_up)) / extract(epoch from spacing))
end;

comment on function accepted.count_slots is 'How many jobs of a key may start at a time. slot_at is the next slot. Slots that were missed by more than catch_up are lost. Null without a rate.';

create function accepted.next_slot(
  slot_at timestamptz, at timestamptz, started integer, spacing interval, catch_up interval
) returns timestamptz
language sql
immutable
return greatest(slot_at, at - catch_up) + started * spacing;

comment on function accepted.next_slot is 'The next slot of a key after jobs have started at a time. slot_at is the slot of the first of these jobs.';

create function accepted.count_places(policy accepted.operation, key text) returns integer
language plpgsql
-- Each call sees what was committed before the call.
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set plan_cache_mode = force_generic_plan
set jit = off
as $$
begin
  if policy.limit_concurrency is null then
    return null;
  end if;
  return policy.limit_concurrency - (
    select count(*) from (
      select from accepted_queue.job
      -- Only one index has this order. See accepted.claim_limited.
      where job.name = policy.name and job.singleton_key between count_places.key and count_places.key
        and job.state = 'active' and job.policy = 'limited'
      order by job.singleton_key limit policy.limit_concurrency
    ) running
  );
end
$$;

comment on function accepted.count_places is 'How many more jobs of a limit key may run. Null: no limit. The caller has locked the row of the key. The jobs of a dead worker count until they are rescued.';

create function accepted.claim_limited(queue text, max_jobs integer, freed text[])
returns table (
  id uuid,
  retry_count integer,
  data jsonb,
  waited_seconds double precision,
  key text,
  next_in_seconds double precision,
  lacks_keys boolean
)
language plpgsql
set search_path = pg_catalog, pg_temp
-- These settings force scans of the indexes in which keys and jobs are in claim order, even if the plan was made while
-- the tables were empty.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
declare
  -- A full key is looked at again after this time, if its worker has not told that a job has ended.
  recheck constant interval := '2 seconds';
  policy accepted.operation;
  spacing interval;
  catch_up interval;
  ready text[];
  this_key text;
  slot timestamptz;
  -- Where the locked row of the key is.
  place tid;
  at timestamptz;
  slots integer;
  places integer;
  room integer;
  claimed integer;
  remaining integer := max_jobs;
begin
  select * into policy from accepted.operation o where o.name = queue;
  if policy.limit_has_key is null then
    return;
  end if;
  if policy.paused_at is not null then
    return query select null::uuid, null::integer, null::jsonb, null::float8, null::text, null::float8, false;
    return;
  end if;
  select pace.spacing, pace.catch_up into spacing, catch_up
    from accepted.limit_pace(policy.limit_starts, policy.limit_period_seconds) pace;

  with due as materialized (
    select a.ctid from accepted.limit_arrival a
    where a.operation = queue and a.due_at <= now() order by a.due_at limit 1000 for update skip locked
  ), arrived as (
    delete from accepted.limit_arrival a where a.ctid = any(array(select due.ctid from due)) returning a.key
  )
  insert into accepted.limit_key as k (operation, key, next_at, slot_at)
  -- All workers lock keys in the same order, so that they cannot deadlock.
  select queue, arrived.key, now(), now() from arrived group by arrived.key order by arrived.key
  on conflict on constraint limit_key_pkey do update set next_at = greatest(k.slot_at, now())
    where k.next_at = 'infinity';

  ready := array(
    with full_before as materialized (
      select held.key from unnest(freed) ended (key) cross join lateral (
        select k.key, k.next_at, k.slot_at from accepted.limit_key k
        -- Only one index has this order. With an equation, Postgres may read all keys that are held.
        where k.operation = queue and k.key between ended.key and ended.key order by k.key limit 1
        for update skip locked
      ) held
      where held.next_at > now() and held.next_at < 'infinity' and held.slot_at <= now()
    ), longest_ready as materialized (
      select k.key from accepted.limit_key k
      -- Some of these keys may turn out to be full.
      where k.operation = queue and k.next_at <= now() order by k.next_at limit max_jobs + 10 for update skip locked
    )
    select longest_ready.key from longest_ready union all select full_before.key from full_before
  );

  for turn in 1 .. cardinality(ready) loop
    exit when remaining = 0;
    this_key := ready[turn];
    at := clock_timestamp();
    select k.slot_at, k.ctid into slot, place from accepted.limit_key k
      where k.operation = queue and k.key between this_key and this_key order by k.key limit 1;
    -- The lock was taken by an earlier statement. So these statements see the jobs that the previous holder has claimed.
    places := case when this_key <> '' then accepted.count_places(policy, this_key) end;
    slots := case when this_key <> '' then accepted.count_slots(slot, at, spacing, catch_up) end;
    -- Each key gets its share of the jobs that the worker can run.
    room := least(ceil(remaining::float8 / (cardinality(ready) - turn + 1)), places, slots);
    claimed := 0;
    if room > 0 then
      return query
      with next as materialized (
        select job.ctid from accepted_queue.job_common job
        -- Only one index has this order. With an equation, Postgres may read the index of all waiting jobs instead.
        where job.name = queue and job.singleton_key between this_key and this_key and job.state < 'active'
          and not job.blocked and job.policy = 'limited' and job.start_after <= now()
        order by job.singleton_key, job.priority desc, job.created_on
        limit room
        for update skip locked
      )
      update accepted_queue.job_common job set
        state = 'active', started_on = now(), heartbeat_on = now(),
        retry_count = job.retry_count + case when job.started_on is null then 0 else 1 end
      -- The rows are locked, so they do not move.
      where job.ctid = any(array(select next.ctid from next))
      returning job.id, job.retry_count, job.data, extract(epoch from now() - job.start_after)::float8, this_key,
        null::float8, null::boolean;
      get diagnostics claimed = row_count;
    end if;
    if claimed > 0 then
      slot := coalesce(accepted.next_slot(slot, at, claimed, spacing, catch_up), slot);
      remaining := remaining - claimed;
    end if;
    update accepted.limit_key k set
      slot_at = slot,
      next_at = case
        -- A job that is locked by another transaction waits too.
        when (
          -- In an EXISTS, Postgres would ignore the order.
          select true from accepted_queue.job
          where job.name = queue and job.singleton_key between this_key and this_key and job.state < 'active'
            and not job.blocked and job.policy = 'limited' and job.start_after <= now()
          order by job.singleton_key, job.priority desc, job.created_on limit 1
        ) is null then 'infinity'
        when places <= claimed or claimed < room then greatest(slot, at + recheck)
        when slots <= claimed then greatest(slot, at + catch_up / 2)
        else at
      end
    where k.ctid = place;
  end loop;

  return query select null::uuid, null::integer, null::jsonb, null::float8, null::text,
    extract(epoch from least(
      (
        select k.next_at from accepted.limit_key k
        where k.operation = queue and k.next_at < 'infinity' order by k.next_at limit 1
      ),
      (
        select a.due_at from accepted.limit_arrival a
        where a.operation = queue and a.due_at < 'infinity' order by a.due_at limit 1
      )
    ) - clock_timestamp())::float8,
    exists (select from accepted.limit_arrival a where a.operation = queue and a.due_at = 'infinity' and a.key is null);
end
$$;

comment on function accepted.claim_limited is 'Claims at most max_jobs due jobs of an operation with a limit. Keys take turns: the key that has been ready for the longest time comes first. freed are keys of which a job of the worker has ended. After the claimed jobs, returns a row without an id: in how many seconds a key is ready or a job is due, and whether jobs have no key yet. Returns no row at all if the operation has no limit.';

create function accepted.admit_limited(queue text, queue_id uuid) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
  policy accepted.operation;
  job_key text;
  slot timestamptz;
  place tid;
  at timestamptz;
  spacing interval;
  catch_up interval;
begin
  select * into policy from accepted.operation o where o.name = queue;
  select q.singleton_key into job_key from accepted_queue.job q where q.name = queue and q.id = queue_id;
  if policy.limit_has_key is null or coalesce(job_key, '') = '' then
    return true;
  end if;
  insert into accepted.limit_key (operation, key, next_at, slot_at) values (queue, job_key, 'infinity', now())
    on conflict do nothing;
  select k.slot_at, k.ctid into slot, place from accepted.limit_key k
    where k.operation = queue and k.key between job_key and job_key order by k.key limit 1 for update;
  at := clock_timestamp();
  select pace.spacing, pace.catch_up into spacing, catch_up
    from accepted.limit_pace(policy.limit_starts, policy.limit_period_seconds) pace;
  if accepted.count_places(policy, job_key) <= 0 or accepted.count_slots(slot, at, spacing, catch_up) <= 0 then
    return false;
  end if;
  update accepted.limit_key k set slot_at = coalesce(accepted.next_slot(slot, at, 1, spacing, catch_up), slot)
    where k.ctid = place;
  return true;
end
$$;

comment on function accepted.admit_limited is 'Whether the limit of its operation lets a job in quarantine start now. Counts its start. A worker calls this function in the transaction that claims the job.';

create function accepted.next_attempt_at(operation text, job_id uuid) returns timestamptz
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
  queued record;
  start timestamptz;
begin
  -- With further conditions, a plan that was made for an empty table may use the index of all waiting jobs.
  select q.state, q.blocked, q.start_after, q.priority, q.created_on, q.singleton_key, q.policy into queued
    from accepted_queue.job q where q.name = next_attempt_at.operation and q.id = next_attempt_at.job_id;
  if queued.blocked or queued.state >= 'active' then
    return null;
  end if;
  start := queued.start_after;
  if queued.policy = 'limited' then
    select greatest(start, greatest(k.slot_at, now()) + pace.spacing * (
      select count(*) from (
        select q.priority, q.created_on from accepted_queue.job q
        -- Only one index has this order. See accepted.claim_limited.
        where q.name = next_attempt_at.operation and q.singleton_key between queued.singleton_key and queued.singleton_key
          and q.state < 'active' and not q.blocked and q.policy = 'limited'
        order by q.singleton_key, q.priority desc, q.created_on limit 300
      ) first
      where first.priority > queued.priority
        or first.priority = queued.priority and first.created_on < queued.created_on
    )) into start
    from (
      select one.slot_at from accepted.limit_key one
      where one.operation = next_attempt_at.operation and one.key between queued.singleton_key and queued.singleton_key
      order by one.key limit 1
    ) k, accepted.operation o, accepted.limit_pace(o.limit_starts, o.limit_period_seconds) pace
    where o.name = next_attempt_at.operation and pace.spacing is not null;
    start := coalesce(start, queued.start_after);
  end if;
  return case when start > now() then start end;
end
$$;

comment on function accepted.next_attempt_at is 'When a queued job may start at the earliest: it is deferred, waits for its retry, or waits for the rate of its operation. Counts up to 300 jobs that start before it. Null: now, or when other jobs have ended. The status URL shows this time.';

create function accepted.last_error(job_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
begin
  return (
    select error - 'details' from accepted.attempt
    where attempt.job_id >= last_error.job_id and attempt.job_id <= last_error.job_id
    order by attempt.job_id desc, attempt.attempt desc limit 1
  );
end
$$;

comment on function accepted.last_error is 'Why the last failed attempt of a job failed: {code, message, public?, status?}. The status URL shows it while the job waits for its retry.';

create function accepted.maintain_limits() returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  limited text;
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.maintain_limits')) then
    return;
  end if;
  delete from accepted.limit_key where ctid = any(array(
    select k.ctid from accepted.limit_key k where k.next_at = 'infinity' and k.slot_at < now() - interval '1 minute'
    limit 10000 for update skip locked
  ));
  delete from accepted.limit_arrival a where not accepted.is_limited(a.operation);
  -- A transaction that was open when the operation got its limit may have enqueued jobs as before.
  for limited in
    select o.name from accepted.operation o
    where o.limit_has_key is not null and o.defined_at > now() - interval '15 minutes'
  loop
    perform accepted.find_unlimited_jobs(limited);
  end loop;
end
$$;

comment on function accepted.maintain_limits is 'Deletes the rows of unused limit keys. Finds the jobs that were enqueued while their operation got its limit. Workers call this function every minute.';

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
  group_size integer not null default 1,
  crashed_at timestamptz not null default now(),
  reserved_until timestamptz not null default now(),
  constraint quarantine_pkey primary key (job_id),
  constraint quarantine_crashes_range check (crashes >= 1),
  constraint quarantine_group_size_range check (group_size >= 1)
);

comment on table accepted.quarantine is 'Jobs that a worker held when it died. Any of these jobs may have crashed the worker. The jobs run again in small groups, in a process that holds no other job. When the run of a job has ended, with any outcome, the job is removed from this table. The table has a handful of rows, or none.';
comment on column accepted.quarantine.job_id is 'The job. Until its group runs, its row in accepted_queue.job is blocked, so that no worker claims the job together with jobs outside its group.';
comment on column accepted.quarantine.operation is 'The operation of the job, which is also the name of its queue.';
comment on column accepted.quarantine.queue_id is 'Id of the job''s row in accepted_queue.job. The two ids differ only if pg-boss has re-created the row.';
comment on column accepted.quarantine.crashes is 'How many worker deaths count as crashes of this job. The first is the death of a worker that held the job together with other jobs. Each later crash is the death of a worker that ran only this job. The job fails after two such later crashes. A death while a group of several jobs ran counts for none of them.';
comment on column accepted.quarantine.rescues is 'How many workers died while they held the job. This also counts the deaths that do not count as crashes: when several workers die at the same time, the job is assumed not to be the cause.';
comment on column accepted.quarantine.group_size is 'The largest number of quarantined jobs that run together with this job, itself included. A quarter of the jobs that were rescued together. When another worker dies while it holds the job, the number becomes a quarter again. With 1, the job runs alone.';
comment on column accepted.quarantine.crashed_at is 'When the last of these worker deaths was detected. Jobs of one group have the same time.';
comment on column accepted.quarantine.reserved_until is 'Until this time, the job is reserved by one process. That process claims no jobs outside the group of the job. The reserved jobs of one process have the same time.';

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
  children_due_at timestamptz not null default now(),
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
comment on column accepted.reconciliation.children_due_at is 'When a worker next counts the children of running parents.';

insert into accepted.reconciliation default values;

-- Audit

create table accepted.audit (
  id bigint generated always as identity,
  at timestamptz not null default clock_timestamp(),
  role text not null,
  key_id uuid,
  principal text,
  action text not null,
  object text,
  constraint audit_pkey primary key (id)
);

comment on table accepted.audit is 'Log of what people and programs have done to jobs, operations, keys, webhook endpoints and schedules. Rows are only added.';
comment on column accepted.audit.id is 'Increases with time.';
comment on column accepted.audit.at is 'When it was done. The row exists only if the transaction has committed.';
comment on column accepted.audit.role is 'The Postgres role that did it. The API has one role for all its requests.';
comment on column accepted.audit.key_id is 'The API key of the request. Null in SQL, and if the app has authentication of its own.';
comment on column accepted.audit.principal is 'The principal of the request. Null in SQL. After accepted.forget, a pseudonym.';
comment on column accepted.audit.action is 'For example cancel, retry, pause, key.created.';
comment on column accepted.audit.object is 'What it was done to: the id of a job, the name of an operation, or the id of a key.';

create index audit_at_idx on accepted.audit (at, id);

comment on index accepted.audit_at_idx is 'The console shows the newest rows, or those of a time.';

create index audit_principal_idx on accepted.audit (principal, at, id) where principal is not null;

comment on index accepted.audit_principal_idx is 'accepted.forget: finds the rows of a principal.';

create index audit_object_idx on accepted.audit (object, at, id) where object is not null;

comment on index accepted.audit_object_idx is 'What was done to a job, an operation, a key, an endpoint or a schedule.';

create function accepted.record_action(action text, object text) returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  insert into accepted.audit (role, key_id, principal, action, object)
  select
    session.role,
    case when session.is_api then nullif(current_setting('accepted.key_id', true), '')::uuid end,
    case when session.is_api then nullif(current_setting('accepted.principal', true), '') end,
    action, object
  from (
    -- In a function with the rights of its owner, current_user is the owner.
    select coalesce(nullif(current_setting('role'), 'none'), session_user)::name as role,
      -- For the console, the API acts with the rights of accepted_operator.
      has_table_privilege(session_user, 'accepted.job'::regclass, 'insert') as is_api
  ) session;
end;

comment on function accepted.record_action is 'Adds a row to accepted.audit. The API sets accepted.principal and accepted.key_id in its transactions. These settings of an operator are ignored.';

create function accepted.refuse_audit_change() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'rows of accepted.audit are never changed or deleted'
    using errcode = 'restrict_violation',
      hint = 'To replace a person by a pseudonym: select accepted.forget(''principal'').';
end
$$;

comment on function accepted.refuse_audit_change is 'Trigger function: keeps accepted.audit append-only, also for a superuser.';

create trigger audit_not_changed before update on accepted.audit for each row
  when (
    (new.id, new.at, new.role, new.key_id, new.action, new.object)
      is distinct from (old.id, old.at, old.role, old.key_id, old.action, old.object)
    or new.principal is null or new.principal !~ '^forgotten:'
    or old.principal is null or old.principal ~ '^forgotten:'
  )
  execute function accepted.refuse_audit_change();

comment on trigger audit_not_changed on accepted.audit is 'Refuses every change but that of a principal to a pseudonym.';

create trigger audit_not_deleted before delete on accepted.audit for each row
  execute function accepted.refuse_audit_change();

comment on trigger audit_not_deleted on accepted.audit is 'Refuses to delete rows.';

create trigger audit_not_truncated before truncate on accepted.audit for each statement
  execute function accepted.refuse_audit_change();

comment on trigger audit_not_truncated on accepted.audit is 'Refuses to empty the table.';

create function accepted.record_administration() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform accepted.record_action(
    tg_argv[0] || '.' || case
      when tg_op = 'INSERT' then 'created'
      when tg_op = 'DELETE' then 'deleted'
      else tg_argv[1]
    end,
    case when tg_op = 'DELETE' then to_jsonb(old) else to_jsonb(new) end ->> coalesce(tg_argv[2], 'id'));
  return null;
end
$$;

comment on function accepted.record_administration is 'Trigger function: records changes of keys, webhook endpoints and schedules in accepted.audit. Its arguments are the kind of the object, what an update does to it, and the column that identifies it.';

-- Schedules

create table accepted.schedule (
  name text not null,
  operation text not null,
  expression text not null,
  timezone text not null,
  paused boolean not null default false,
  paused_at timestamptz,
  paused_reason text,
  next_at timestamptz,
  later_at timestamptz[] not null default '{}',
  last_at timestamptz,
  last_job_id uuid,
  done tstzmultirange not null default '{}',
  updated_at timestamptz not null default now(),
  constraint schedule_pkey primary key (name)
);

comment on table accepted.schedule is 'One row per schedule that the app defines, with its next and its last occurrence. The worker updates the rows when the definitions change. To pause a schedule: select accepted.pause_schedule(''…'', ''why'').';
comment on column accepted.schedule.name is 'The name of the schedule in its definition.';
comment on column accepted.schedule.operation is 'The operation of the jobs that the schedule enqueues.';
comment on column accepted.schedule.expression is 'A cron expression, or a recurrence rule (RFC 5545, section 3.3.10).';
comment on column accepted.schedule.timezone is 'The time zone of the expression, for example Europe/Berlin.';
comment on column accepted.schedule.paused is 'While true, occurrences pass without a job. Only an operator sets this column.';
comment on column accepted.schedule.paused_at is 'When it was paused. A trigger sets this column.';
comment on column accepted.schedule.paused_reason is 'Why it is paused.';
comment on column accepted.schedule.next_at is 'The time of the next occurrence. Null if the rule has no more occurrences. One transaction enqueues the job of this occurrence and sets the time of the following occurrence, so each occurrence becomes exactly one job. To enqueue a job immediately: select accepted.run_schedule(''…'').';
comment on column accepted.schedule.later_at is 'The occurrences after next_at, up to four.';
comment on column accepted.schedule.last_at is 'The time of the last occurrence that became a job, or of the last accepted.run_schedule.';
comment on column accepted.schedule.last_job_id is 'That job.';
comment on column accepted.schedule.done is 'The past for which occurrences have become jobs: each job adds the time from its occurrence to the following one. accepted.backfill_schedule leaves out occurrences in these ranges. They stay when the definition changes.';
comment on column accepted.schedule.updated_at is 'When the definition last changed.';

create function accepted.stamp_schedule_pause() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  new.paused_at := case when new.paused then now() end;
  new.paused_reason := case when new.paused then new.paused_reason end;
  return new;
end
$$;

comment on function accepted.stamp_schedule_pause is 'Trigger function: sets when a schedule was paused, and removes the reason when it is resumed.';

create trigger schedule_pause_stamped before update on accepted.schedule for each row
  when (new.paused <> old.paused) execute function accepted.stamp_schedule_pause();

comment on trigger schedule_pause_stamped on accepted.schedule is 'Keeps paused_at and paused_reason in line with paused.';

create trigger schedule_pause_audited after update on accepted.schedule for each row
  when (new.paused and (not old.paused or new.paused_reason is distinct from old.paused_reason))
  execute function accepted.record_administration('schedule', 'paused', 'name');

comment on trigger schedule_pause_audited on accepted.schedule is 'Records in accepted.audit when a schedule is paused, or paused for another reason.';

create trigger schedule_resume_audited after update on accepted.schedule for each row
  when (old.paused and not new.paused) execute function accepted.record_administration('schedule', 'resumed', 'name');

comment on trigger schedule_resume_audited on accepted.schedule is 'Records in accepted.audit when a schedule is resumed.';

create trigger schedule_time_audited after update of next_at on accepted.schedule for each row
  -- Workers, which may insert schedules, set the next occurrence after each occurrence.
  when (new.next_at is distinct from old.next_at and not has_table_privilege('accepted.schedule', 'insert'))
  execute function accepted.record_administration('schedule', 'rescheduled', 'name');

comment on trigger schedule_time_audited on accepted.schedule is 'Records in accepted.audit when an operator changes the next occurrence of a schedule.';

create table accepted.schedule_request (
  id uuid not null,
  schedule text not null,
  since timestamptz,
  until timestamptz,
  max_jobs integer,
  requested_at timestamptz not null default now(),
  constraint schedule_request_pkey primary key (id),
  constraint schedule_request_range check (num_nulls(since, until, max_jobs) in (0, 3))
);

comment on table accepted.schedule_request is 'What accepted.run_schedule and accepted.backfill_schedule have asked for. A worker that knows the schedule computes the payloads and the occurrences, creates the jobs and deletes the row in one transaction, within about a second. A request that no worker has taken within a day lapses.';
comment on column accepted.schedule_request.id is 'The id of the job, or of the batch of a backfill. A UUIDv7.';
comment on column accepted.schedule_request.schedule is 'The name of the schedule.';
comment on column accepted.schedule_request.since is 'The beginning of the time to backfill. Null to run the schedule now.';
comment on column accepted.schedule_request.until is 'The end of the time to backfill. An occurrence at this time is left out.';
comment on column accepted.schedule_request.max_jobs is 'The backfill creates at most this many jobs.';
comment on column accepted.schedule_request.requested_at is 'When it was requested.';

-- The poll of a worker

create function accepted.find_due_work(
  operations text[], heartbeat_seconds integer[], busy text[], schedules text[], schedule_now timestamptz,
  rescue_seconds double precision, compare_seconds double precision,
  out due_operations text[], out has_schedules boolean, out has_quarantined boolean, out has_orphans boolean,
  out is_comparison_due boolean, out has_endings boolean, out has_parents boolean, out has_dependencies boolean
)
  language plpgsql
  -- As in accepted.claim: the first due job of each queue is read from the index, at any size of the queue.
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_sort = off
  set enable_incremental_sort = off
  set plan_cache_mode = force_generic_plan
  set jit = off
as $$
declare
  due_before timestamptz := now() - make_interval(secs => rescue_seconds);
begin
  has_orphans := exists (
    select from accepted.rescue r where r.operation = any(operations) and r.checked_at < due_before
  );
  if has_orphans then
    -- A queue with orphaned jobs stays due, until a worker has rescued them.
    update accepted.rescue r set checked_at = now()
    where r.operation in (
      select due.operation from accepted.rescue due
      where due.operation = any(operations) and due.checked_at < due_before
      for update skip locked
    ) and not exists (
      select from unnest(operations, heartbeat_seconds) as heartbeat (operation, seconds)
      join accepted_queue.job_common job on job.name = heartbeat.operation
      where heartbeat.operation = r.operation and job.state = 'active' and job.started_on is not null
        and job.heartbeat_on < now() - make_interval(secs => heartbeat.seconds)
    );
    has_orphans := exists (
      select from accepted.rescue r where r.operation = any(operations) and r.checked_at < due_before
    );
  end if;
  select
    array(
      select queue.name from unnest(operations) as queue (name)
      cross join lateral (
        select from accepted_queue.job_common job
        where job.name = queue.name and job.state < 'active' and not job.blocked and job.start_after <= now()
        order by job.priority desc, job.created_on limit 1
      ) as next
      where queue.name <> all(busy) and not exists (
        select from accepted.operation o
        where o.name = queue.name and (o.paused_at is not null or o.limit_has_key is not null)
      )
      union all
      select o.name from unnest(operations) as queue (name) join accepted.operation o on o.name = queue.name
      where o.name <> all(busy) and o.limit_has_key is not null and o.paused_at is null and (
        exists (select from accepted.limit_key k where k.operation = o.name and k.next_at <= now())
        or exists (
          select from accepted.limit_arrival a
          where a.operation = o.name and (a.due_at <= now() or a.due_at = 'infinity' and a.key is null)
        )
      )
    ),
    exists (select from accepted.schedule s where s.name = any(schedules) and s.next_at <= schedule_now)
      or exists (select from accepted.schedule_request r where r.schedule = any(schedules)),
    exists (select from accepted.quarantine q where q.operation = any(operations)),
    exists (
      select from accepted.reconciliation r where r.compared_at < now() - make_interval(secs => compare_seconds)
    ),
    exists (select from accepted.ending e where e.due_at <= now()),
    exists (select from accepted.parent),
    exists (select from accepted.dependency)
  into
    due_operations, has_schedules, has_quarantined, is_comparison_due, has_endings, has_parents, has_dependencies;
end
$$;

comment on function accepted.find_due_work is 'All work that a worker may have to do, if it runs these operations and fires these schedules. Of the waiting jobs, reads only the first one of each queue, and none of the operations in busy. A worker calls this function once a second, so that it also finds work whose notification was lost. has_orphans: there are jobs of dead workers. Looks for them only if no worker has done so for rescue_seconds, and not at all if that is null. is_comparison_due: for compare_seconds, no worker has compared jobs with the queue.';

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

-- Throughput

create table accepted.throughput_hour (
  hour timestamptz not null,
  operation text not null,
  succeeded bigint not null,
  failed bigint not null,
  canceled bigint not null,
  wait_p50 double precision,
  wait_p99 double precision,
  run_p50 double precision,
  run_p99 double precision,
  constraint throughput_hour_pkey primary key (hour, operation)
);

comment on table accepted.throughput_hour is 'What has ended in each full hour of the last eight days, by operation. The worker adds each hour when it is over. For the last hour: accepted.throughput.';
comment on column accepted.throughput_hour.hour is 'The beginning of the hour.';
comment on column accepted.throughput_hour.operation is 'The operation.';
comment on column accepted.throughput_hour.succeeded is 'Number of jobs that succeeded in this hour.';
comment on column accepted.throughput_hour.failed is 'Number of jobs that failed.';
comment on column accepted.throughput_hour.canceled is 'Number of jobs that were canceled.';
comment on column accepted.throughput_hour.wait_p50 is 'The median time from when a job was due to the start of its first attempt, in seconds. Null if none of the jobs started.';
comment on column accepted.throughput_hour.wait_p99 is 'The 99th percentile of this time, in seconds.';
comment on column accepted.throughput_hour.run_p50 is 'The median time from the start of the last attempt to the end of the job, in seconds. Null if none of the jobs started.';
comment on column accepted.throughput_hour.run_p99 is 'The 99th percentile of this time, in seconds.';

-- Webhooks

create function accepted.secret_key_ids(secrets text[]) returns text[]
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
return array(
  select substring(secret from '^sealed\.([\w-]{1,32})\.')
  from unnest(secrets) with ordinality as one (secret, place) order by place
);

comment on function accepted.secret_key_ids is 'The id of the key of ENCRYPTION_KEYS that has encrypted each secret. Null: the secret is not encrypted.';

create table accepted.webhook_endpoint (
  id uuid not null,
  url text not null,
  principal text,
  event_types text[] not null default '{job.succeeded,job.failed,job.canceled}',
  operations text[],
  secrets text[] not null,
  secret_key_ids text[] not null generated always as (accepted.secret_key_ids(secrets)) stored,
  created_at timestamptz not null default now(),
  secret_rotated_at timestamptz,
  disabled_at timestamptz,
  disabled_reason text,
  consecutive_failures integer not null default 0,
  last_failed_delivery uuid,
  opened_at timestamptz,
  probe_at timestamptz,
  constraint webhook_endpoint_pkey primary key (id),
  constraint webhook_endpoint_url_http check (url ~ '^https?://'),
  constraint webhook_endpoint_principal_present check (principal <> ''),
  constraint webhook_endpoint_event_types_known check (event_types <@ '{job.succeeded,job.failed,job.canceled}'),
  constraint webhook_endpoint_secrets_present check (cardinality(secrets) between 1 and 2),
  constraint webhook_endpoint_probe_planned check ((opened_at is null) = (probe_at is null))
);

comment on table accepted.webhook_endpoint is 'URLs to which the outcome of jobs is posted, signed per Standard Webhooks.';
comment on column accepted.webhook_endpoint.id is 'UUIDv7.';
comment on column accepted.webhook_endpoint.url is 'The URL to which deliveries are posted.';
comment on column accepted.webhook_endpoint.principal is 'The principal whose jobs are delivered. Null: the jobs of all principals.';
comment on column accepted.webhook_endpoint.event_types is 'The outcomes to deliver: job.succeeded, job.failed, job.canceled.';
comment on column accepted.webhook_endpoint.operations is 'The operations whose outcomes are delivered. Null: all.';
comment on column accepted.webhook_endpoint.secrets is 'Signing secrets, newest first. After a rotation, the second secret is the previous secret. Each is encrypted with a key of ENCRYPTION_KEYS (sealed.<key id>.<base64url>), or in clear (whsec_ and base64).';
comment on column accepted.webhook_endpoint.secret_key_ids is 'For each secret, the id of the key of ENCRYPTION_KEYS that has encrypted it. Null: the secret is not encrypted.';
comment on column accepted.webhook_endpoint.created_at is 'When the endpoint was registered.';
comment on column accepted.webhook_endpoint.secret_rotated_at is 'When the newest secret replaced the previous secret. For one day after this time, deliveries are also signed with the previous secret.';
comment on column accepted.webhook_endpoint.disabled_at is 'From this time on, nothing is delivered to the endpoint.';
comment on column accepted.webhook_endpoint.disabled_reason is 'Why the endpoint was disabled, for example because it answered 410.';
comment on column accepted.webhook_endpoint.consecutive_failures is 'How many deliveries in a row have failed. A delivery that fails repeatedly counts once, until the breaker is open.';
comment on column accepted.webhook_endpoint.last_failed_delivery is 'The delivery whose attempt failed last.';
comment on column accepted.webhook_endpoint.opened_at is 'When the breaker opened, because several deliveries in a row had failed. While it is open, one delivery at a time is tried, after growing pauses. Null: it is closed.';
comment on column accepted.webhook_endpoint.probe_at is 'While the breaker is open: when the next delivery may be tried.';

create trigger webhook_endpoint_audited after insert or delete on accepted.webhook_endpoint for each row
  execute function accepted.record_administration('webhook');

comment on trigger webhook_endpoint_audited on accepted.webhook_endpoint is 'Records new and deleted endpoints in accepted.audit.';

create trigger webhook_endpoint_change_audited after update on accepted.webhook_endpoint for each row
  when (
    (new.url, new.principal, new.event_types, new.operations, new.secrets, new.disabled_at)
      is distinct from (old.url, old.principal, old.event_types, old.operations, old.secrets, old.disabled_at)
  )
  execute function accepted.record_administration('webhook', 'changed');

comment on trigger webhook_endpoint_change_audited on accepted.webhook_endpoint is 'Records changed endpoints in accepted.audit.';

create function accepted.rotate_webhook_secret(endpoint_id uuid, secret text) returns boolean
language plpgsql
-- The API may write secrets, but not read them.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update accepted.webhook_endpoint set secrets = array[secret, secrets[1]], secret_rotated_at = now()
    where id = endpoint_id;
  return found;
end
$$;

comment on function accepted.rotate_webhook_secret is 'Gives a webhook endpoint a new secret. The previous secret stays its second one. Returns whether there is such an endpoint. The API calls this function.';

create index accepted_delivery_idx on accepted_queue.job (coalesce(group_id, ''), start_after)
  where name = 'webhook.deliver' and state < 'active' and not blocked;

comment on index accepted_queue.accepted_delivery_idx is 'Webhooks: finds the deliveries that wait for each endpoint.';

create function accepted.waiting_endpoints() returns setof text
language sql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
begin atomic
  -- Reads one index entry per endpoint, not one per delivery.
  with recursive waiting (endpoint) as (
    (
      select coalesce(group_id, '') from accepted_queue.job_common
      where name = 'webhook.deliver' and state < 'active' and not blocked
      order by coalesce(group_id, '') limit 1
    )
    union all
    select (
      select coalesce(group_id, '') from accepted_queue.job_common
      where name = 'webhook.deliver' and state < 'active' and not blocked
        and coalesce(group_id, '') > waiting.endpoint
      order by coalesce(group_id, '') limit 1
    )
    from waiting where waiting.endpoint is not null
  )
  select endpoint from waiting where endpoint is not null;
end;

comment on function accepted.waiting_endpoints is 'The ids of the webhook endpoints for which deliveries wait, due or not. An empty text: deliveries without an endpoint.';

create function accepted.claim_deliveries(max_jobs integer, max_per_endpoint integer, running text[])
returns table (id uuid, retry_count integer, data jsonb, waited_seconds double precision)
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
declare
  -- Longer than the timeout of an attempt. If a worker dies with its probe, another one follows after this time.
  probe_time constant interval := '30 seconds';
begin
  if accepted.is_paused('webhook.deliver') then
    return;
  end if;
  return query
  with open as materialized (
    select waiting.endpoint, e.opened_at is not null as is_probe,
      case
        when e.opened_at is null then
          max_per_endpoint - (select count(*) from unnest(running) as one (endpoint) where one.endpoint = waiting.endpoint)
        else 1
      end as slots
    from accepted.waiting_endpoints() as waiting (endpoint)
    left join accepted.webhook_endpoint e on e.id = case
      when waiting.endpoint ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then waiting.endpoint::uuid
    end
    where e.opened_at is null or e.probe_at <= now()
  ), next as materialized (
    select open.endpoint, open.is_probe, due.ctid as place, due.start_after,
      row_number() over (partition by open.endpoint order by due.start_after) as turn
    from open cross join lateral (
      select job.ctid, job.start_after from accepted_queue.job_common job
      where job.name = 'webhook.deliver' and job.state < 'active' and not job.blocked
        and coalesce(job.group_id, '') = open.endpoint and job.start_after <= now()
      order by coalesce(job.group_id, ''), job.start_after
      limit least(greatest(open.slots, 0), max_jobs)
      for update skip locked
    ) due
  ), chosen as materialized (
    select * from next order by next.turn, next.start_after limit max_jobs
  ), probed as (
    update accepted.webhook_endpoint e set probe_at = now() + probe_time
    from chosen
    -- If another worker has just begun its probe, the row no longer matches.
    where chosen.is_probe and e.id = chosen.endpoint::uuid and e.probe_at <= now()
    returning e.id
  ), claimed as (
    update accepted_queue.job_common job set
      state = 'active', started_on = now(), heartbeat_on = now(),
      retry_count = job.retry_count + case when job.started_on is null then 0 else 1 end
    where job.ctid = any(array(
      select chosen.place from chosen
      where not chosen.is_probe or chosen.endpoint in (select probed.id::text from probed)
    ))
    returning job.id, job.retry_count, job.data, job.start_after
  )
  select claimed.id, claimed.retry_count, claimed.data, extract(epoch from now() - claimed.start_after)::float8
  from claimed;
end
$$;

comment on function accepted.claim_deliveries is 'Claims at most max_jobs due webhook deliveries, in turn over their endpoints. running has the endpoint of each delivery that the worker runs: together with these, an endpoint gets at most max_per_endpoint. If the breaker of an endpoint is open, one delivery is claimed when its next try is due.';

create function accepted.claim_excess_deliveries(max_waiting integer, max_jobs integer)
returns table (id uuid, retry_count integer, data jsonb, waited_seconds double precision)
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
begin
  return query
  with excess as materialized (
    select surplus.ctid from accepted.waiting_endpoints() as waiting (endpoint) cross join lateral (
      select job.ctid from accepted_queue.job_common job
      where job.name = 'webhook.deliver' and job.state < 'active' and not job.blocked
        and coalesce(job.group_id, '') = waiting.endpoint
      order by coalesce(job.group_id, ''), job.start_after
      offset max_waiting limit max_jobs
    ) surplus
    limit max_jobs
  ), claimed as (
    update accepted_queue.job_common job set
      state = 'active', started_on = now(), heartbeat_on = now(),
      retry_count = job.retry_count + case when job.started_on is null then 0 else 1 end
    where job.ctid = any(array(
      select job.ctid from accepted_queue.job_common job
      where job.ctid = any(array(select excess.ctid from excess)) and job.state < 'active'
      for update skip locked
    ))
    returning job.id, job.retry_count, job.data, job.start_after
  )
  select claimed.id, claimed.retry_count, claimed.data,
    greatest(extract(epoch from now() - claimed.start_after)::float8, 0)
  from claimed;
end
$$;

comment on function accepted.claim_excess_deliveries is 'Claims at most max_jobs of the webhook deliveries that are more than max_waiting for one endpoint: those that are due last. The worker fails them.';

-- API keys

create table accepted.api_key (
  id uuid not null,
  name text not null,
  principal text not null,
  scopes text[] not null,
  operations text[],
  prefix text not null,
  hash bytea not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz,
  rotated_from uuid,
  constraint api_key_pkey primary key (id),
  constraint api_key_hash_key unique (hash),
  constraint api_key_hash_sha256 check (octet_length(hash) = 32),
  constraint api_key_scopes_known check (scopes <@ '{submit,read,cancel,operate,admin}' and cardinality(scopes) > 0),
  constraint api_key_operations_named check (cardinality(operations) > 0)
);

comment on table accepted.api_key is 'Keys that clients send as Authorization: Bearer. Once a key has existed, a request without a valid key is rejected.';
comment on column accepted.api_key.id is 'UUIDv7.';
comment on column accepted.api_key.name is 'What the key is for, for people.';
comment on column accepted.api_key.principal is 'The principal of requests with this key.';
comment on column accepted.api_key.scopes is 'What the key permits. submit: operations, batches, retry. read: monitors, results, events, list. cancel. operate: read, cancel and retry the jobs of all principals. admin: everything, also keys and webhook endpoints.';
comment on column accepted.api_key.operations is 'The key permits only jobs of these operations. Null: of all.';
comment on column accepted.api_key.prefix is 'The first characters of the key, by which people recognize it.';
comment on column accepted.api_key.hash is 'SHA-256 of the key. The key itself is shown once and stored nowhere.';
comment on column accepted.api_key.created_at is 'When the key was created.';
comment on column accepted.api_key.expires_at is 'From this time on, the key is rejected. A rotated key expires after a day.';
comment on column accepted.api_key.last_used_at is 'When a request with this key was last authenticated, exact to about a minute.';
comment on column accepted.api_key.revoked_at is 'From this time on, the key is rejected.';
comment on column accepted.api_key.rotated_from is 'The key that this key replaces.';

create trigger api_key_audited after insert or delete on accepted.api_key for each row
  execute function accepted.record_administration('key');

comment on trigger api_key_audited on accepted.api_key is 'Records new and deleted keys in accepted.audit.';

create trigger api_key_change_audited after update on accepted.api_key for each row
  when (
    (new.principal, new.scopes, new.operations, new.expires_at)
      is distinct from (old.principal, old.scopes, old.operations, old.expires_at)
  )
  execute function accepted.record_administration('key', 'changed');

comment on trigger api_key_change_audited on accepted.api_key is 'Records changed and rotated keys in accepted.audit.';

create trigger api_key_revoked_audited after update on accepted.api_key for each row
  when (new.revoked_at is distinct from old.revoked_at)
  execute function accepted.record_administration('key', 'revoked');

comment on trigger api_key_revoked_audited on accepted.api_key is 'Records revoked keys in accepted.audit.';

create index audit_key_created_idx on accepted.audit (action) where action = 'key.created';

comment on index accepted.audit_key_created_idx is 'Finds out whether a key has ever existed.';

create function accepted.has_had_keys() returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
begin atomic
  select exists (select from accepted.audit where action = 'key.created' limit 1);
end;

comment on function accepted.has_had_keys is 'Returns whether an API key has ever existed. From then on, the API rejects requests without a key, even if all keys were deleted.';

create view accepted.key_overview as
select
  id, name, principal, scopes, operations, prefix,
  case
    when revoked_at is not null then 'revoked'
    when expires_at <= now() then 'expired'
    else 'valid'
  end as status,
  created_at, expires_at, last_used_at, revoked_at, rotated_from
from accepted.api_key;

comment on view accepted.key_overview is 'API keys, without their hashes.';
comment on column accepted.key_overview.id is 'The id of the key, as accepted keys rotate and accepted keys revoke take it.';
comment on column accepted.key_overview.name is 'What the key is for.';
comment on column accepted.key_overview.principal is 'The principal of requests with this key.';
comment on column accepted.key_overview.scopes is 'What the key permits.';
comment on column accepted.key_overview.operations is 'The key permits only jobs of these operations. Null: of all.';
comment on column accepted.key_overview.prefix is 'The first characters of the key.';
comment on column accepted.key_overview.status is 'valid, expired or revoked.';
comment on column accepted.key_overview.created_at is 'When the key was created.';
comment on column accepted.key_overview.expires_at is 'From this time on, the key is rejected.';
comment on column accepted.key_overview.last_used_at is 'When it was last used, exact to about a minute.';
comment on column accepted.key_overview.revoked_at is 'When it was revoked.';
comment on column accepted.key_overview.rotated_from is 'The key that this key replaces.';

create table accepted.job_link (
  hash bytea not null,
  job_id uuid not null,
  principal text not null,
  key_id uuid,
  expires_at timestamptz not null,
  constraint job_link_pkey primary key (hash)
);

create index job_link_expires_at_idx on accepted.job_link (expires_at);

comment on table accepted.job_link is 'Tokens of short-lived URLs, with which a browser reads one job without a header. A row may be deleted when it has expired.';
comment on column accepted.job_link.hash is 'SHA-256 of the token in the URL.';
comment on column accepted.job_link.job_id is 'The job that the token permits to read.';
comment on column accepted.job_link.principal is 'The principal of the request that created the URL.';
comment on column accepted.job_link.key_id is 'The API key of the request that created the URL. The token is rejected when the key is.';
comment on column accepted.job_link.expires_at is 'From this time on, the token is rejected.';
comment on index accepted.job_link_expires_at_idx is 'Finds expired tokens, which the API deletes when it adds new ones.';

create table accepted.console_session (
  hash bytea not null,
  key_id uuid not null,
  expires_at timestamptz not null,
  constraint console_session_pkey primary key (hash)
);

create index console_session_expires_at_idx on accepted.console_session (expires_at);

comment on table accepted.console_session is 'Sessions of operators at the console. A row may be deleted when it has expired.';
comment on column accepted.console_session.hash is 'SHA-256 of the token in the cookie of the browser.';
comment on column accepted.console_session.key_id is 'The API key that started the session. The session ends when the key is revoked or expires.';
comment on column accepted.console_session.expires_at is 'From this time on, the session is over.';
comment on index accepted.console_session_expires_at_idx is 'Finds expired sessions, which the API deletes when it adds new ones.';

-- Functions for people and programs
--
-- The settings of these functions keep Postgres from reading whole tables, even if a plan was made while a table was
-- empty. Before Postgres 18, a disabled scan seems so expensive that Postgres would compile the plan.

create function accepted.uuid7() returns uuid
language sql volatile parallel safe
return encode(
  -- gen_random_uuid() returns version 4, of which the bits 52 and 53 make version 7.
  set_bit(set_bit(
    overlay(uuid_send(gen_random_uuid())
      placing substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6),
    52, 1), 53, 1),
  'hex')::uuid;

comment on function accepted.uuid7 is 'A new UUIDv7 (RFC 9562, section 5.7).';

create function accepted.insert_job(
  id uuid,
  operation text,
  payload jsonb,
  principal text,
  idempotency_key text default null,
  run_at timestamptz default null,
  priority integer default null,
  resource text default null,
  group_id text default null,
  retry_of uuid default null,
  webhook_endpoint_id uuid default null,
  traceparent text default null,
  tracestate text default null,
  parent uuid default null,
  batch jsonb default null,
  is_bulk boolean default false
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_variable
declare
  policy accepted.operation := accepted.find_operation(operation);
  options accepted_queue.queue;
  due timestamptz := coalesce(run_at, now());
begin
  select q.* into options from accepted_queue.queue q where q.name = operation;
  if operation = 'batch' then
    raise exception 'a batch has no payload of its own' using errcode = 'invalid_parameter_value',
      hint = 'To enqueue a batch: select accepted.enqueue_batch(''[{"operation": "…", "payload": {}}]'').';
  elsif operation = 'jobs.bulk' and retry_of is null and not is_bulk then
    -- A role that may only enqueue must not act on the jobs of others.
    raise exception 'jobs of the operation jobs.bulk are not enqueued directly' using errcode = 'invalid_parameter_value',
      hint = 'As an operator: select accepted.bulk(''cancel'', ''{"operation": "…"}'').';
  elsif not found then
    raise exception 'the operation % has no queue', quote_literal(operation)
      using errcode = 'undefined_object', hint = 'Start the API or a worker: it creates the queues of its operations.';
  end if;
  insert into accepted.job (
    id, operation, principal, idempotency_key, resource, group_id, max_attempts, retry_of, traceparent,
    tracestate, webhook_endpoint_id, parent, batch, payload, run_at, expires_at
  ) values (
    id, operation, principal, idempotency_key, resource, group_id, policy.retry_limit + 1, retry_of, traceparent,
    tracestate, webhook_endpoint_id, parent, batch, case when policy.has_abandon then nullif(payload, 'null') end, run_at,
    greatest(due, now()) + make_interval(secs => policy.keep_seconds)
  );
  insert into accepted_queue.job (
    id, name, data, priority, singleton_key, group_id, start_after, created_on, keep_until, policy, retry_limit,
    retry_delay, retry_backoff, retry_delay_max, expire_seconds, deletion_seconds, dead_letter, heartbeat_seconds
  ) values (
    id, operation, jsonb_build_object('job', id, 'payload', payload), coalesce(priority, policy.priority),
    -- Only the code of the app can compute a limit key from a payload. A worker does so.
    case when policy.limit_has_key is null then principal when not policy.limit_has_key then '*' end,
    group_id, due, accepted_queue.job_now(), due + make_interval(secs => options.retention_seconds), options.policy,
    options.retry_limit, options.retry_delay, options.retry_backoff, options.retry_delay_max, options.expire_seconds,
    options.deletion_seconds, options.dead_letter, options.heartbeat_seconds
  );
end
$$;

comment on function accepted.insert_job is 'Inserts the status row and the queue row of a new job, with the policies of its operation. Other functions call it after their checks.';

create function accepted.notify_workers(operation text) returns void
language sql
return pg_notify('accepted_work', operation);

comment on function accepted.notify_workers is 'Notifies the workers, when the transaction commits, that jobs of the operation are due.';

create function accepted.notify_watchers(job_id uuid) returns void
language sql
return pg_notify('accepted_status', job_id::text);

comment on function accepted.notify_watchers is 'Notifies the API, when the transaction commits, that a job has changed.';

create function accepted.is_backlog_full(operation text, max_jobs integer) returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
begin
  -- This order is that of the index in which jobs are claimed.
  return exists (
    select from accepted_queue.job where name = operation and state < 'active' and not blocked
    order by priority desc, created_on offset max_jobs - 1 limit 1
  );
end
$$;

comment on function accepted.is_backlog_full is 'Whether at least max_jobs jobs of the operation wait, including deferred jobs. Reads at most that many index entries.';

create function accepted.count_backlog(operation text, principal text, max_jobs integer) returns integer
language plpgsql
stable
strict
set search_path = pg_catalog, pg_temp
-- These settings force scans of accepted_turn_idx in its order.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
  level integer := 2147483647;
  waiting integer := 0;
begin
  -- The index has the priority before the principal.
  loop
    level := (
      select job.priority from accepted_queue.job_common job
      where job.name = operation and job.priority <= level and job.state < 'active' and not job.blocked
      order by job.priority desc
      limit 1
    );
    exit when level is null;
    waiting := waiting + (
      select count(*) from (
        select from accepted_queue.job_common job
        where job.name = operation and job.priority = level
          and coalesce(job.singleton_key, '') collate "C" = principal
          and job.state < 'active' and not job.blocked
        order by job.start_after
        limit max_jobs - waiting
      ) counted
    );
    exit when waiting >= max_jobs or level = -2147483648;
    level := level - 1;
  end loop;
  return waiting;
end
$$;

comment on function accepted.count_backlog is 'The number of jobs of a principal that wait in the queue of an operation, including deferred jobs, but at most max_jobs. Reads at most that many index entries, and one more for each priority that waiting jobs of the operation have.';

create function accepted.take_key(principal text, key text, fingerprint bytea, job_id uuid) returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_variable
declare
  holder accepted.idempotency_key;
begin
  -- The API takes the same lock. A second transaction with this key waits here for the end of the first.
  perform pg_advisory_xact_lock(hashtextextended(key, hashtextextended(principal, 0)));
  insert into accepted.idempotency_key (principal, key, fingerprint, job_id)
    values (principal, key, fingerprint, job_id)
    on conflict on constraint idempotency_key_pkey do nothing;
  if found then
    return job_id;
  end if;
  select * into holder from accepted.idempotency_key k where k.principal = principal and k.key = key;
  if exists (select from accepted.job j where j.id = holder.job_id and (j.ended_at is null or j.expires_at > now())) then
    if holder.fingerprint <> fingerprint then
      raise exception 'the idempotency key % was used for another request of %', quote_literal(key),
          quote_literal(principal)
        using errcode = 'unique_violation',
          hint = format('Use a new key. The other request created job %s.', holder.job_id);
    end if;
    return holder.job_id;
  end if;
  -- The record of the job has expired, so the key is free again.
  update accepted.idempotency_key k set fingerprint = fingerprint, job_id = job_id, created_at = now()
    where k.principal = principal and k.key = key;
  return job_id;
end
$$;

comment on function accepted.take_key is 'Takes an idempotency key for a job. Returns the job that holds the key: this job, or an earlier job of the same request. Raises unique_violation (23505) if another request has used the key.';

create function accepted.take_coalescing_keys(
  operations text[],
  principals text[],
  keys text[],
  new_ids uuid[],
  window_seconds integer[],
  replace_payload boolean[],
  wait_for_locks boolean
) returns table (is_locked boolean, job_id uuid, ends_at timestamptz, payload jsonb)
language plpgsql
-- To lock a row takes the privilege UPDATE, which the API does not have.
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_variable
declare
  n integer;
  lock_id bigint;
  held record;
  target record;
  locked boolean[] := array_fill(true, array[cardinality(keys)]);
  shared uuid[] := array_fill(null::uuid, array[cardinality(keys)]);
  window_ends timestamptz[] := array_fill(null::timestamptz, array[cardinality(keys)]);
  payloads jsonb[] := array_fill(null::jsonb, array[cardinality(keys)]);
begin
  for n in 1 .. cardinality(keys) loop
    lock_id := hashtextextended(keys[n], hashtextextended(principals[n], hashtextextended(operations[n], 1)));
    if wait_for_locks then
      perform pg_advisory_xact_lock(lock_id);
    elsif not pg_try_advisory_xact_lock(lock_id) then
      locked[n] := false;
      continue;
    end if;
    -- The clock, because this transaction may have waited for a lock since it began.
    select k.job_id, k.ends_at into held from accepted.coalesced_key k
      where k.operation = operations[n] and k.principal = principals[n] and k.key = keys[n]
        and k.ends_at > clock_timestamp();
    shared[n] := held.job_id;
    window_ends[n] := held.ends_at;
  end loop;
  -- Every transaction locks jobs in the order of their ids, and the rows in the queue after that.
  for n in select i from generate_subscripts(shared, 1) i where shared[i] is not null order by shared[i] loop
    if wait_for_locks then
      select j.id, j.status, j.attempt, j.started_at, j.ended_at, j.expires_at, j.cancel_requested into target
        from accepted.job j where j.id = shared[n] for update;
    else
      select j.id, j.status, j.attempt, j.started_at, j.ended_at, j.expires_at, j.cancel_requested into target
        from accepted.job j where j.id = shared[n] for update skip locked;
      if not found and exists (select from accepted.job j where j.id = shared[n]) then
        locked[n] := false;
        continue;
      end if;
    end if;
    if replace_payload[n] then
      -- A job that has begun once may have sent its payload to an outside service.
      if target.status = 'queued' and target.attempt = 0 and target.started_at is null and not target.cancel_requested
      then
        -- A claim locks only this row. This statement waits for a claim, and then does not find the row.
        select q.data -> 'payload' as payload into held from accepted_queue.job q
          where q.name = operations[n] and q.id = shared[n] and q.state < 'active' for update;
        payloads[n] := held.payload;
      end if;
      if payloads[n] is null then
        shared[n] := null;
      end if;
    -- A cancellation that is only requested will probably end the job without its work being done.
    elsif not coalesce(
      target.status = 'succeeded' and target.expires_at > now()
        or target.ended_at is null and not target.cancel_requested
          and not exists (select from accepted.ending where job_id = target.id),
      false
    ) then
      shared[n] := null;
    end if;
  end loop;
  for n in 1 .. cardinality(keys) loop
    if locked[n] and shared[n] is null then
      shared[n] := new_ids[n];
      -- With whole milliseconds, JavaScript has the same time.
      window_ends[n] := date_trunc('milliseconds', clock_timestamp()) + make_interval(secs => window_seconds[n]);
      insert into accepted.coalesced_key (operation, principal, key, job_id, ends_at)
        values (operations[n], principals[n], keys[n], new_ids[n], window_ends[n])
        on conflict on constraint coalesced_key_pkey do update set
          job_id = excluded.job_id, ends_at = excluded.ends_at;
    end if;
  end loop;
  return query select * from unnest(locked, shared, window_ends, payloads);
end
$$;

comment on function accepted.take_coalescing_keys is 'For each coalescing key, in the given order: locks and returns the job that the requests of the current window share, or starts a new window with a new job. The caller must then create the job new_ids[n]. With replace_payload, a job is shared only until a worker claims it, and its payload is returned. Without wait_for_locks, is_locked is false if another transaction has locked the key or the job. The API calls this function.';

create function accepted.coalesce_requests(shared_jobs jsonb) returns setof accepted.job
language plpgsql
-- The API may not update jobs.
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  shared record;
begin
  for shared in
    select * from jsonb_to_recordset(shared_jobs) as given (
      id uuid, operation text, requests integer, webhook_endpoint_id uuid, replaces boolean, payload jsonb,
      resource text, group_id text, limit_key text
    )
    order by id
  loop
    if shared.replaces then
      update accepted_queue.job set
        -- JSON null becomes null in the record.
        data = jsonb_build_object('job', shared.id, 'payload', coalesce(shared.payload, 'null')),
        group_id = shared.group_id,
        singleton_key = case when policy = 'limited' then shared.limit_key else singleton_key end
      where name = shared.operation and id = shared.id and state < 'active';
      if not found then
        raise exception 'job % is no longer in the queue', shared.id using errcode = 'serialization_failure';
      end if;
    end if;
    return query
      update accepted.job set
        coalesced = coalesced + shared.requests, sequence = sequence + 1, updated_at = clock_timestamp(),
        resource = case when shared.replaces then shared.resource else resource end,
        payload = case when shared.replaces and payload is not null then shared.payload else payload end,
        group_id = case when shared.replaces then shared.group_id else group_id end,
        -- Requests that name different endpoints must all be notified.
        webhook_endpoint_id = case when webhook_endpoint_id = shared.webhook_endpoint_id then webhook_endpoint_id end
      where id = shared.id and operation = shared.operation
      returning job.*;
  end loop;
end
$$;

comment on function accepted.coalesce_requests is 'Adds requests to the jobs that they share: counts them and, with replaces, replaces the payload, the resource and the group of a queued job. The transaction must have locked the jobs with accepted.take_coalescing_keys. The API calls this function.';

create function accepted.is_writable_time(at timestamptz) returns boolean
language sql
stable
return at between '0001-01-01 00:00Z'::timestamptz and '9900-01-01 00:00Z'::timestamptz;

comment on function accepted.is_writable_time is 'Whether a time has a year of four digits, also after the longest keep time. Other years cannot be written as ISO 8601 (RFC 3339).';

create function accepted.assert_principal(principal text) returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  problem constant text := case
    when coalesce(principal, '') = '' then 'the principal is empty'
    when length(principal) > 255 then format('the principal has %s characters', length(principal))
    when principal ~ '[\u0001-\u001F\u007F-\u009F]' then 'the principal contains control characters'
    when principal ~ '^(\*$|schedule$|webhook:|forgotten:)' then format('the principal %L is reserved', principal)
  end;
begin
  if problem is not null then
    raise exception '%', problem using errcode = 'invalid_parameter_value',
      hint = 'Pass the owner of the jobs: up to 255 characters, but not *, schedule, webhook:… or forgotten:…. For anonymous, leave the principal out.';
  end if;
end
$$;

comment on function accepted.assert_principal is 'Raises invalid_parameter_value (22023) if a caller may not use the name as a principal: if it is empty, has more than 255 characters, contains control characters, or is reserved.';

create function accepted.enqueue(
  operation text,
  payload jsonb default '{}',
  idempotency_key text default null,
  principal text default 'anonymous',
  run_at timestamptz default null,
  priority integer default null,
  resource text default null,
  group_id text default null
) returns uuid
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  policy accepted.operation := accepted.find_operation(operation);
  new_id uuid := accepted.uuid7();
  holder uuid;
begin
  if payload is null then
    raise exception 'the payload is null' using errcode = 'invalid_parameter_value',
      hint = 'Pass the JSON value null as ''null''::jsonb, or leave the payload out.';
  elsif idempotency_key is not null and length(idempotency_key) not between 1 and 255 then
    raise exception 'the idempotency key has % characters', length(idempotency_key)
      using errcode = 'invalid_parameter_value', hint = 'Use 1 to 255 characters, or pass null for no key.';
  elsif not isfinite(run_at) then
    raise exception 'run_at is infinite' using errcode = 'invalid_parameter_value',
      hint = 'Pass a time, or leave run_at out to run the job now.';
  elsif not accepted.is_writable_time(run_at) then
    raise exception 'run_at is not between the years 1 and 9900' using errcode = 'invalid_parameter_value',
      hint = 'Pass a time in these years, or leave run_at out to run the job now.';
  end if;
  perform accepted.assert_principal(principal);
  if idempotency_key is not null then
    holder := accepted.take_key(principal, idempotency_key,
      sha256(convert_to(jsonb_build_array('sql', operation, payload)::text, 'UTF8')), new_id);
    if holder <> new_id then
      return holder;
    end if;
  end if;
  if policy.max_backlog is not null and accepted.is_backlog_full(operation, policy.max_backlog) then
    raise exception '% jobs of % wait already', policy.max_backlog, quote_literal(operation)
      using errcode = 'configuration_limit_exceeded', hint = 'Try again later, or raise maxBacklog of the operation.';
  end if;
  if accepted.count_backlog(operation, principal, policy.max_backlog_per_principal) >= policy.max_backlog_per_principal
  then
    raise exception '% jobs of % wait already for %', policy.max_backlog_per_principal, quote_literal(operation),
        quote_literal(principal)
      using errcode = 'configuration_limit_exceeded',
        hint = 'Try again later, or raise maxBacklogPerPrincipal of the operation.';
  end if;
  perform accepted.insert_job(new_id, operation, payload, principal, idempotency_key, run_at, priority, resource,
    group_id);
  perform accepted.notify_watchers(new_id);
  if coalesce(run_at <= now(), true) then
    perform accepted.notify_workers(operation);
  end if;
  return new_id;
end
$$;

comment on function accepted.enqueue is 'Enqueues a job in the current transaction, and returns its id. The job runs once the transaction has committed. If the principal has used the idempotency key before, for the same operation and payload, returns the id of that first job instead. The worker checks the payload against the schema of the operation. Members that the operation seals stay as they are: SQL has no keys. Errors: undefined_object (42704) for an unknown operation, unique_violation (23505) for a key of another request, configuration_limit_exceeded (53400) for a full backlog, invalid_parameter_value (22023).';

create function accepted.lock_job(job_id uuid) returns accepted.job
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  found_job accepted.job;
begin
  select * into found_job from accepted.job where id = job_id and (ended_at is null or expires_at > now()) for update;
  if not found then
    raise exception 'there is no job %', job_id
      using errcode = 'no_data_found', hint = 'Its record may have expired. To find jobs: select * from accepted.job_overview order by id desc limit 20.';
  end if;
  return found_job;
end
$$;

comment on function accepted.lock_job is 'Locks a job and returns its row. Raises no_data_found (P0002) if there is no such job, or if its record has expired.';

create function accepted.lock_own_job(job_id uuid, principal text) returns setof accepted.job
language plpgsql
-- To lock a row takes the privilege UPDATE, which the API does not have.
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
begin
  -- Children are locked before their parents, so a parent is locked only when its children are.
  if exists (select from accepted.parent p where p.job_id = lock_own_job.job_id) then
    return query
      select * from accepted.job
      where id = lock_own_job.job_id and (lock_own_job.principal is null or principal = lock_own_job.principal);
  else
    return query
      select * from accepted.job
      where id = lock_own_job.job_id and (lock_own_job.principal is null or principal = lock_own_job.principal)
      for update;
  end if;
end
$$;

comment on function accepted.lock_own_job is 'Locks a job of a principal, or of any principal if it is null, and returns its row. Does not lock a job that waits for its children. Returns no row if there is no such job. The API calls this function before it cancels or retries the job.';

create function accepted.enqueue_deliveries(job_id uuid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  delivery record;
begin
  for delivery in
    select e.id as endpoint, j.traceparent, j.tracestate from accepted.webhook_endpoint e, accepted.job j
    where j.id = enqueue_deliveries.job_id and j.operation <> 'webhook.deliver'
      and e.disabled_at is null and 'job.' || j.status = any(e.event_types)
      and (e.operations is null or j.operation = any(e.operations))
      and (e.principal is null or e.principal = j.principal)
      and (j.webhook_endpoint_id is null or j.webhook_endpoint_id = e.id)
  loop
    perform accepted.insert_job(accepted.uuid7(), 'webhook.deliver',
      jsonb_build_object('endpointId', delivery.endpoint, 'jobId', enqueue_deliveries.job_id),
      'webhook:' || delivery.endpoint, group_id => delivery.endpoint::text, traceparent => delivery.traceparent,
      tracestate => delivery.tracestate);
    perform accepted.notify_workers('webhook.deliver');
  end loop;
end
$$;

comment on function accepted.enqueue_deliveries is 'Enqueues the webhook deliveries of a job that ends in the transaction.';

create function accepted.release_key(job_id uuid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  ended accepted.job;
begin
  select * into ended from accepted.job where id = release_key.job_id and status <> 'succeeded' and children is not null;
  delete from accepted.processed_key k
    where k.operation = ended.operation and k.principal = ended.principal and k.key = ended.idempotency_key
      and k.job_id = ended.id;
end
$$;

comment on function accepted.release_key is 'Deletes the idempotency key of a parent that has not succeeded, so that a retry runs. The key was inserted when the parent settled.';

create function accepted.complete_ends(job_ids uuid[]) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
  ended record;
  ids uuid[] := '{}';
begin
  for ended in
    with done as (
      delete from accepted.ending where job_id = any(job_ids) returning job_id, operation, status, error
    )
    update accepted.job set
      status = done.status, error = done.error, sequence = sequence + 1, updated_at = clock_timestamp(),
      ended_at = clock_timestamp(), waiting_for = null,
      expires_at = now() + make_interval(secs => (accepted.find_operation(done.operation)).keep_seconds)
    from done where job.id = done.job_id and job.id = any(job_ids) and job.ended_at is null
    returning job.id
  loop
    perform accepted.enqueue_deliveries(ended.id);
    perform accepted.release_key(ended.id);
    ids := ids || ended.id;
  end loop;
  delete from accepted.dependency where job_id = any(ids);
  perform accepted.notify_relatives(ids);
end
$$;

comment on function accepted.complete_ends is 'Ends jobs as accepted.ending says. The app calls this function after accepted.lock_endings and abandon, in the same transaction.';

create function accepted.cancel_unclaimed(target accepted.job, reason text default null) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  policy accepted.operation := accepted.find_operation(target.operation);
begin
  update accepted_queue.job set state = 'cancelled', completed_on = now(), blocked = false
    where name = target.operation and id = target.id and state < 'active';
  delete from accepted.dependency where job_id = target.id;
  if policy.has_abandon then
    update accepted.job set
      cancel_requested = true, cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()),
      message = coalesce(reason, message), waiting_for = null, sequence = sequence + 1, updated_at = clock_timestamp()
    where id = target.id and (not cancel_requested or reason is not null);
    perform accepted.decide_ends(jsonb_build_array(jsonb_build_object('id', target.id, 'status', 'canceled')));
    return false;
  end if;
  update accepted.job set
    status = 'canceled', cancel_requested = true,
    cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()), message = coalesce(reason, message),
    sequence = sequence + 1, updated_at = clock_timestamp(), ended_at = clock_timestamp(), waiting_for = null,
    expires_at = now() + make_interval(secs => policy.keep_seconds),
    payload = coalesce(
      (select data -> 'payload' from accepted_queue.job where name = target.operation and id = target.id), payload)
  where id = target.id;
  return true;
end
$$;

comment on function accepted.cancel_unclaimed is 'Cancels a locked job that no worker has claimed. Returns false if its operation has an abandon function: then the end is only decided. reason becomes the message of the job.';

create function accepted.is_ancestor(ancestor uuid, job_id uuid) returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  current_id uuid := job_id;
begin
  loop
    select parent into current_id from accepted.job where id = current_id;
    if current_id is null or current_id = ancestor then
      return current_id is not null;
    end if;
  end loop;
end
$$;

comment on function accepted.is_ancestor is 'Whether a job is the parent of another job, or the parent of its parent, and so on.';

create function accepted.lock_children(parent uuid) returns void
language sql
return pg_advisory_xact_lock(hashtextextended('accepted children ' || parent, 0));

comment on function accepted.lock_children is 'Waits until no other transaction counts, ends or adds children of a job, and keeps others from it until the end of the transaction.';

create function accepted.share_children(parent uuid) returns void
language sql
return pg_advisory_xact_lock_shared(hashtextextended('accepted children ' || parent, 0));

comment on function accepted.share_children is 'Keeps accepted.lock_children waiting until the end of the transaction. Many transactions can do so at the same time.';

-- The row comparison and the order match only the index on parent and id, for which the first condition proves that the
-- parent is not null. With an equation, a plan may read all jobs in the order of the primary key. The upper bound is not a
-- row comparison, because before Postgres 18 a scan does not end at one.

create function accepted.first_pending_child(parent uuid, from_id uuid) returns uuid
language plpgsql
-- Each call sees what was committed before the call.
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
  return (
    select id from accepted.job
    where parent >= first_pending_child.parent and (parent, id) >= (first_pending_child.parent, from_id)
      and parent <= first_pending_child.parent and ended_at is null
    order by parent, id limit 1
  );
end
$$;

comment on function accepted.first_pending_child is 'The pending child of a job with the lowest id, from from_id. Null if there is none.';

create function accepted.pending_descendants(root uuid) returns uuid[]
language plpgsql
-- Each call sees what was committed before the call.
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
  parents uuid[] := array[root];
  next_parents uuid[];
  descendants uuid[] := '{}';
  one uuid;
begin
  while cardinality(parents) > 0 loop
    next_parents := '{}';
    foreach one in array parents loop
      next_parents := next_parents || array(
        select id from accepted.job
        where parent >= one and (parent, id) >= (one, '00000000-0000-0000-0000-000000000000')
          and parent <= one and ended_at is null
        order by parent, id
      );
    end loop;
    descendants := descendants || next_parents;
    -- Only a job that waits for its children has any.
    parents := array(
      select p.job_id from unnest(next_parents) known (id)
      cross join lateral (select job_id from accepted.parent where job_id = known.id limit 1) p
    );
  end loop;
  return descendants;
end
$$;

comment on function accepted.pending_descendants is 'The ids of the pending children of a job, of their children, and so on.';

create function accepted.has_child(parent uuid) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
begin
  return exists (
    select from accepted.job
    where parent >= has_child.parent and (parent, id) >= (has_child.parent, '00000000-0000-0000-0000-000000000000')
      and parent <= has_child.parent
  );
end
$$;

comment on function accepted.has_child is 'Whether a job has children, ended or not.';

create function accepted.has_unclaimed_child(parent uuid) returns boolean
language plpgsql
-- Each call sees what was committed before the call.
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
  -- Children are claimed about in the order of their ids, so the newest are claimed last.
  return exists (
    select from (
      select id, operation, ended_at from accepted.job
      where parent >= has_unclaimed_child.parent
        and (parent, id) >= (has_unclaimed_child.parent, '00000000-0000-0000-0000-000000000000')
        and parent <= has_unclaimed_child.parent
      order by parent desc, id desc limit 20
    ) newest
    cross join lateral (
      select from accepted_queue.job
      where job.name = newest.operation and job.id = newest.id and job.state < 'active' limit 1
    ) unclaimed
    -- Another program may have put the row of an ended job back into the queue.
    where newest.ended_at is null
  );
end
$$;

comment on function accepted.has_unclaimed_child is 'Whether one of the 20 newest children of a job waits in the queue.';

create function accepted.measure_children(parent uuid, out counts jsonb, out progress bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
  select
    jsonb_build_object(
      'total', count(*), 'succeeded', count(*) filter (where child.status = 'succeeded'),
      'failed', count(*) filter (where child.status = 'failed'),
      'canceled', count(*) filter (where child.status = 'canceled')
    ),
    coalesce(sum(case when child.ended_at is not null then 100 else child.percent end), 0) / greatest(count(*), 1)
  into counts, progress
  from accepted.job child
  -- A retry counts in place of the child.
  where child.parent >= measure_children.parent
    and (child.parent, child.id) >= (measure_children.parent, '00000000-0000-0000-0000-000000000000')
    and child.parent <= measure_children.parent
    and not (child.status in ('failed', 'canceled') and exists (
      -- With the offset, Postgres looks up the retries, and not all children of the parent.
      select from (select parent from accepted.job where retry_of = child.id offset 0) retry
      where retry.parent = child.parent
    ));
end
$$;

comment on function accepted.measure_children is 'Counts the children of a job: {total, succeeded, failed, canceled}, and computes their mean progress from 0 to 100. A child that has ended counts as 100. Reads all children.';

create function accepted.count_children(parent uuid) returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return (accepted.measure_children(parent)).counts;

comment on function accepted.count_children is 'Counts the children of a job: {total, succeeded, failed, canceled}. Reads all children.';

create function accepted.first_unsuccessful_child(parent uuid, principal text) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
  return (
    select jsonb_build_object(
      'id', child.id, 'operation', child.operation, 'status', child.status,
      'error', child.error - array['details', 'status', 'child']
    )
    from accepted.job child
    where child.parent >= first_unsuccessful_child.parent
      and (child.parent, child.id) >= (first_unsuccessful_child.parent, '00000000-0000-0000-0000-000000000000')
      and child.parent <= first_unsuccessful_child.parent
      and child.status in ('failed', 'canceled') and child.principal = first_unsuccessful_child.principal
      and not exists (
        -- With the offset, Postgres looks up the retries, and not all children of the parent.
        select from (select parent from accepted.job where retry_of = child.id offset 0) retry
        where retry.parent = child.parent
      )
    -- A canceled child often waited for the failed one.
    order by child.status = 'canceled', child.ended_at, child.id limit 1
  );
end
$$;

comment on function accepted.first_unsuccessful_child is 'The child of a job that failed first, or else the child that was canceled first: {id, operation, status, error}. Leaves out children of other principals, because the result is shown to the owner of the job. Reads all children.';

create function accepted.end_parent(job_id uuid) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_variable
declare
  target accepted.job;
  waiting accepted.parent;
  policy accepted.operation;
  counts jsonb := accepted.count_children(job_id);
  unsuccessful bigint := (counts ->> 'failed')::bigint + (counts ->> 'canceled')::bigint;
  -- A job that has not succeeded keeps its percentage, which may be older than the end of its last children.
  share smallint := least(99, 100 * (counts ->> 'succeeded')::bigint / greatest((counts ->> 'total')::bigint, 1));
  outcome accepted.job_status;
  reason jsonb;
begin
  select * into target from accepted.job j where j.id = job_id for update;
  delete from accepted.parent p where p.job_id = job_id returning * into waiting;
  if not found or target.ended_at is not null then
    return false;
  end if;
  policy := accepted.find_operation(target.operation);
  if target.cancel_requested then
    outcome := 'canceled';
  elsif unsuccessful > 0 and not waiting.allow_failures then
    outcome := 'failed';
    reason := jsonb_strip_nulls(jsonb_build_object('code', 'children-failed', 'public', true, 'message',
      format('%s of %s children failed or were canceled', unsuccessful, counts ->> 'total'),
      'child', accepted.first_unsuccessful_child(job_id, target.principal)));
  else
    outcome := 'succeeded';
  end if;
  if policy.has_abandon and outcome <> 'succeeded' then
    update accepted.job j set
      children = counts, percent = greatest(j.percent, share), result = null, sequence = j.sequence + 1,
      updated_at = clock_timestamp()
    where j.id = job_id;
    perform accepted.decide_ends(jsonb_build_array(
      jsonb_build_object('id', job_id, 'status', outcome, 'error', reason)));
    return false;
  end if;
  update accepted.job j set
    status = outcome, error = reason, children = counts,
    percent = case when outcome = 'succeeded' then 100 else greatest(j.percent, share) end,
    result = case when j.operation = 'batch' then counts when outcome = 'succeeded' then j.result end,
    payload = case when outcome <> 'succeeded' then j.payload end, sequence = j.sequence + 1,
    updated_at = clock_timestamp(), ended_at = clock_timestamp(),
    expires_at = now() + make_interval(secs => policy.keep_seconds)
  where j.id = job_id;
  perform accepted.release_key(job_id);
  if waiting.on_end is not null then
    -- The accept of the operation may have written domain rows for this id.
    perform accepted.insert_job(coalesce((waiting.on_end ->> 'id')::uuid, accepted.uuid7()),
      waiting.on_end ->> 'operation', waiting.on_end -> 'payload', target.principal,
      run_at => (waiting.on_end ->> 'run_at')::timestamptz,
      resource => waiting.on_end ->> 'resource', group_id => waiting.on_end ->> 'group_id',
      webhook_endpoint_id => target.webhook_endpoint_id,
      traceparent => target.traceparent, tracestate => target.tracestate, batch => jsonb_build_object('id', job_id) || counts);
  end if;
  perform accepted.enqueue_deliveries(job_id);
  return true;
end
$$;

comment on function accepted.end_parent is 'Ends a job whose children have all ended, and enqueues the job that follows a batch. Returns false if the operation of the job has an abandon function that must run first.';

create function accepted.resolve_dependent(dependent uuid, ended uuid[], out has_ended boolean, out enqueued text)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
  target accepted.job;
  failed accepted.job;
  remaining uuid[];
begin
  has_ended := false;
  select * into target from accepted.job where id = dependent for update;
  select awaited.* into failed from accepted.dependency d
    cross join lateral (select * from accepted.job where id = d.awaited_id limit 1) awaited
    where d.job_id = dependent and d.awaited_id = any(ended)
      and d.on_failure = 'cancel' and awaited.status <> 'succeeded'
    order by awaited.id limit 1;
  delete from accepted.dependency d where d.job_id = dependent
    and (d.awaited_id = any(ended) or failed.id is not null or target.id is null or target.ended_at is not null);
  -- The record of a job that has ended may have been deleted.
  if target.id is null or target.ended_at is not null then
    return;
  elsif failed.id is not null then
    has_ended := accepted.cancel_unclaimed(target, format('Canceled because the job %s %s', failed.id,
      case failed.status when 'failed' then 'failed' else 'was canceled' end));
    if has_ended then
      perform accepted.enqueue_deliveries(dependent);
    end if;
    return;
  end if;
  remaining := array(select d.awaited_id from accepted.dependency d where d.job_id = dependent order by 1);
  update accepted.job set
    waiting_for = nullif(remaining, '{}'), sequence = sequence + 1, updated_at = clock_timestamp()
  where id = dependent;
  if remaining = '{}' then
    update accepted_queue.job set blocked = false where name = target.operation and id = dependent;
    enqueued := target.operation;
  end if;
end
$$;

comment on function accepted.resolve_dependent is 'Cancels a waiting job if a job that it needs has failed, or lets it start if it waits for nothing more. Returns whether it has ended, and its operation if it may start.';

create function accepted.resolve_parent(parent_id uuid, are_claimed boolean, out is_changed boolean, out has_ended boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  no_more constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  next_pending uuid;
begin
  is_changed := false;
  has_ended := false;
  -- While a child is unclaimed, the transaction that ends this child is still to come. Then this transaction need not
  -- count, and does not wait for the others. It only keeps that last transaction waiting until it has committed. With a
  -- snapshot for the whole transaction, it could not see whether a child has been claimed in the meantime.
  if are_claimed and current_setting('transaction_isolation') = 'read committed'
    and accepted.has_unclaimed_child(parent_id)
  then
    perform accepted.share_children(parent_id);
    if accepted.has_unclaimed_child(parent_id) then
      return;
    end if;
    -- Waiting for the lock of the last transaction could be a deadlock, because others may hold the shared lock too.
    raise exception 'the last children of job % were claimed in the meantime', parent_id
      using errcode = 'serialization_failure', hint = 'Run the transaction again.';
  end if;
  perform accepted.lock_children(parent_id);
  -- With a snapshot for the whole transaction, this update fails if another transaction has counted since.
  update accepted.parent p set
    first_pending = coalesce(accepted.first_pending_child(parent_id, p.first_pending), no_more)
  where p.job_id = parent_id
  returning p.first_pending into next_pending;
  if next_pending = no_more then
    has_ended := accepted.end_parent(parent_id);
    is_changed := true;
  end if;
end
$$;

comment on function accepted.resolve_parent is 'Ends a parent if its last child ends in this transaction. are_claimed: workers have claimed all children that end in this transaction.';

create function accepted.resolve_ends(ended uuid[], are_claimed boolean default false)
  returns table (changed uuid, enqueued text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
  resolved uuid[] := ended;
  next_resolved uuid[];
  newest uuid[];
  canceled uuid[];
  related uuid;
  has_ended boolean;
  is_changed boolean;
  follow_up text;
begin
  while cardinality(resolved) > 0 loop
    newest := resolved;
    while cardinality(newest) > 0 loop
      canceled := '{}';
      for related in
        select distinct d.job_id from unnest(newest) known (id)
        cross join lateral (select job_id from accepted.dependency where awaited_id = known.id offset 0) d
        order by 1
      loop
        select r.has_ended, r.enqueued into has_ended, enqueued from accepted.resolve_dependent(related, newest) r;
        if has_ended then
          canceled := canceled || related;
          -- A transaction that takes the shared lock of a parent first, and then the exclusive lock, may deadlock.
          are_claimed := false;
        end if;
        changed := related;
        return next;
      end loop;
      resolved := resolved || canceled;
      newest := canceled;
    end loop;
    next_resolved := '{}';
    -- A child has a higher id than its parent, so all transactions lock the children of several parents in this order.
    for related, follow_up in
      select p.job_id, p.on_end ->> 'operation'
      from (
        select distinct child.parent from unnest(resolved) known (id)
        -- Without a condition on parent, Postgres looks up each job by its id.
        cross join lateral (select parent from accepted.job where id = known.id limit 1) child
      ) known
      cross join lateral (select * from accepted.parent where job_id = known.parent limit 1) p
      order by 1 desc
    loop
      select r.is_changed, r.has_ended into is_changed, has_ended from accepted.resolve_parent(related, are_claimed) r;
      continue when not is_changed;
      if has_ended then
        next_resolved := next_resolved || related;
      end if;
      changed := related;
      enqueued := follow_up;
      return next;
    end loop;
    resolved := next_resolved;
    are_claimed := false;
  end loop;
end
$$;

comment on function accepted.resolve_ends is 'Does what follows from the end of jobs, in the transaction that ends them: starts or cancels the jobs that wait for them, and ends a parent whose last child has ended. Returns the jobs that have changed, and the operations that have new due jobs. are_claimed: workers have claimed all of these jobs. Then transactions that end children of the same parent do not wait for each other.';

create function accepted.resolve_parents(job_ids uuid[]) returns table (changed uuid, enqueued text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
  ended uuid[] := '{}';
  has_ended boolean;
  is_changed boolean;
begin
  for changed, enqueued in
    select p.job_id, p.on_end ->> 'operation' from accepted.parent p
    where p.job_id = any(job_ids) and accepted.first_pending_child(p.job_id, p.first_pending) is null
    order by 1 desc
  loop
    select r.is_changed, r.has_ended into is_changed, has_ended from accepted.resolve_parent(changed, false) r;
    continue when not is_changed;
    if has_ended then
      ended := ended || changed;
    end if;
    return next;
  end loop;
  return query select * from accepted.resolve_ends(ended);
end
$$;

comment on function accepted.resolve_parents is 'Ends those of these parents that have no pending child, and does what follows. The end of a child does the same for its parent.';

create function accepted.await_children(job_ids uuid[]) returns table (changed uuid, enqueued text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  insert into accepted.parent (job_id) select unnest(job_ids);
  update accepted.job set children = accepted.count_children(id) where id = any(job_ids);
  -- A child that waits for a failed job has been canceled in this transaction.
  return query select * from accepted.resolve_parents(job_ids);
end
$$;

comment on function accepted.await_children is 'Makes jobs run until their children have ended. Returns the same as accepted.resolve_ends. The worker calls this function when a job has enqueued children, in the transaction of its settle.';

create function accepted.resolve_missed() returns table (changed uuid, enqueued text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.resolve_missed')) then
    return;
  end if;
  return query select * from accepted.resolve_ends(array(
    with recursive awaited (id) as (
      -- Finds each id by one lookup, although many jobs may wait for it.
      (select awaited_id from accepted.dependency order by awaited_id limit 1)
      union all
      select (
        select d.awaited_id from accepted.dependency d where d.awaited_id > awaited.id order by d.awaited_id limit 1
      ) from awaited where awaited.id is not null
    )
    select awaited.id from awaited where awaited.id is not null
      and not exists (select from accepted.job where job.id = awaited.id and job.ended_at is null offset 0)
    limit 1000
  ));
  return query select * from accepted.resolve_parents(array(select job_id from accepted.parent));
end
$$;

comment on function accepted.resolve_missed is 'Calls accepted.resolve_ends for jobs whose end has been missed: another program has ended them, in a transaction with an old snapshot or without this function. A job whose record was deleted counts as succeeded. The worker calls this function.';

create function accepted.notify_relatives(ended uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform accepted.notify_watchers(resolved.changed), accepted.notify_workers(resolved.enqueued)
  from accepted.resolve_ends(ended) resolved;
end
$$;

comment on function accepted.notify_relatives is 'Calls accepted.resolve_ends, and notifies workers and watchers when the transaction commits.';

create function accepted.add_dependencies(job_id uuid, after uuid[], on_failure text default 'cancel') returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_variable
declare
  target accepted.job;
  awaited uuid[] := array(select distinct one from unnest(after) one where one is not null order by 1);
  unknown uuid;
begin
  if on_failure is null or on_failure not in ('cancel', 'run') then
    raise exception 'on_failure is %', coalesce(quote_literal(on_failure), 'null')
      using errcode = 'invalid_parameter_value', hint = 'Pass cancel or run.';
  elsif cardinality(awaited) > 100 then
    raise exception 'the job waits for % jobs', cardinality(awaited) using errcode = 'invalid_parameter_value',
      hint = 'A job can wait for at most 100 jobs. To wait for more, use a batch with on_end.';
  elsif cardinality(awaited) = 0 then
    return;
  end if;
  select * into target from accepted.job j where j.id = job_id;
  -- The transaction that ends one of these jobs waits for this lock, and then finds the dependency.
  perform from accepted.job j where j.id = any(awaited) order by j.id for share;
  unknown := (
    select one from unnest(awaited) one where not exists (select from accepted.job j where j.id = one offset 0) limit 1
  );
  if unknown is not null then
    raise exception 'there is no job % to wait for', unknown
      using errcode = 'no_data_found', hint = 'Its record may have expired.';
  end if;
  -- Two transactions could close a cycle together, because neither would see the dependency of the other. The parent
  -- waits for its other children already, so a dependency between them adds no cycle.
  if target.parent is not null and exists (
    select from accepted.job j
    where j.id = any(awaited) and j.ended_at is null and j.parent is distinct from target.parent
  ) then
    perform pg_advisory_xact_lock(hashtext('accepted.dependency'));
  end if;
  -- The parent waits for this job. So this job must not wait for the parent, or for a job that waits for the parent.
  if target.parent is not null and exists (
    with recursive waiting (id) as (
      select target.parent
      union
      select next.id from waiting cross join lateral (
        (select j.parent as id from accepted.job j where j.id = waiting.id and j.parent is not null limit 1)
        union all
        (select d.job_id from accepted.dependency d where d.awaited_id = waiting.id offset 0)
      ) next
    )
    select from waiting where id = any(awaited)
  ) then
    raise exception 'job % would wait for a job that waits for it', job_id
      using errcode = 'invalid_parameter_value',
        hint = 'A child cannot wait for its parent, or for a job that waits for its parent.';
  end if;
  insert into accepted.dependency (job_id, awaited_id, on_failure)
    select job_id, one, on_failure from unnest(awaited) one;
  update accepted.job j set
    waiting_for = awaited,
    after = array(
      select one from (
        select one, min(position) as position from unnest(after) with ordinality given (one, position)
        where one is not null group by one
      ) named order by position
    )
  where j.id = job_id;
  update accepted_queue.job q set blocked = true where q.name = target.operation and q.id = job_id;
  -- Some may have ended already.
  perform accepted.notify_relatives(array(
    select j.id from accepted.job j where j.id = any(awaited) and j.ended_at is not null
  ));
end
$$;

comment on function accepted.add_dependencies is 'Makes a new job wait for the end of other jobs. Errors: no_data_found (P0002) for an unknown job, invalid_parameter_value (22023) for a cycle.';

create function accepted.report_children() returns setof uuid
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  parent_id uuid;
  counts jsonb;
  progress bigint;
begin
  -- The workers take turns. Older counts are never written after newer ones.
  perform from accepted.reconciliation where children_due_at <= clock_timestamp() for update skip locked;
  if not found then
    return;
  end if;
  for parent_id in select job_id from accepted.parent order by job_id loop
    select m.counts, m.progress into counts, progress from accepted.measure_children(parent_id) m;
    -- The transaction that ends the parent, or decides its end, has locked it and writes its own counts.
    perform from accepted.job where id = parent_id and ended_at is null for update skip locked;
    continue when not found or not exists (select from accepted.parent where job_id = parent_id);
    update accepted.job set
      children = counts, sequence = sequence + 1, updated_at = clock_timestamp(), progress_at = clock_timestamp(),
      percent = greatest(job.percent, known.percent)
    from (
      -- The percentage of a batch is the share of the children that have ended.
      select least(99, case when operation = 'batch' then 100
        * ((counts ->> 'succeeded')::bigint + (counts ->> 'failed')::bigint + (counts ->> 'canceled')::bigint)
        / greatest((counts ->> 'total')::bigint, 1) else progress end)::smallint as percent
      from accepted.job where id = parent_id
    ) known
    where id = parent_id and ended_at is null
      and (children is distinct from counts or coalesce(job.percent, 0) < known.percent);
    if found then
      return next parent_id;
    end if;
  end loop;
  -- Counting takes at most 2 % of the time.
  update accepted.reconciliation set children_due_at = clock_timestamp()
    + greatest(interval '240 milliseconds', 50 * (clock_timestamp() - statement_timestamp()));
end
$$;

comment on function accepted.report_children is 'Writes how many children of each running parent have ended, and its percentage, up to four times a second. Returns the parents that have changed. The worker calls this function while there are parents.';

create function accepted.lock_family(job_ids uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
  parents uuid[] := array(select job_id from accepted.parent where job_id = any(job_ids));
begin
  -- The transaction that ends a job then locks the jobs that wait for it, which are newer, and then its parent.
  perform from accepted.job where id = any(job_ids) and id <> all(parents) order by id for update;
  perform from accepted.job where id = any(parents) order by id desc for update;
end
$$;

comment on function accepted.lock_family is 'Locks jobs in the order in which they end: children before their parents.';

create function accepted.cancel_family(root uuid, notifies_webhooks boolean) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
  descendants uuid[] := '{}';
  found_ids uuid[];
  target accepted.job;
  ended uuid[] := '{}';
  is_closed boolean := false;
begin
  -- Children are locked before their parents, as when they end. A child that settles during the wait may add children.
  loop
    found_ids := accepted.pending_descendants(root);
    if not found_ids <@ descendants then
      perform accepted.lock_family(found_ids);
      descendants := found_ids;
    elsif not is_closed then
      -- The retry of a child waits for this lock, and then finds the cancel request.
      perform accepted.lock_children(p.job_id)
        from (select job_id from accepted.parent where job_id = root or job_id = any(descendants) order by 1 desc) p;
      is_closed := true;
    else
      exit;
    end if;
  end loop;
  perform from accepted.job where id = root for update;
  update accepted.job set
    cancel_requested = true, cancel_requested_at = clock_timestamp(), sequence = sequence + 1,
    updated_at = clock_timestamp()
  where id = root and ended_at is null and not cancel_requested;
  for target in
    select * from accepted.job where id = any(descendants) and ended_at is null order by id desc
  loop
    if target.status = 'queued' and not exists (
      select from accepted_queue.job where name = target.operation and id = target.id and state = 'active'
    ) then
      if accepted.cancel_unclaimed(target) then
        if notifies_webhooks then
          perform accepted.enqueue_deliveries(target.id);
        end if;
        ended := ended || target.id;
      end if;
    else
      update accepted.job set
        cancel_requested = true, cancel_requested_at = clock_timestamp(), sequence = sequence + 1,
        updated_at = clock_timestamp()
      where id = target.id and not cancel_requested;
      perform pg_notify('accepted_cancel', target.id::text);
    end if;
    perform accepted.notify_watchers(target.id);
  end loop;
  perform accepted.notify_relatives(ended);
end
$$;

comment on function accepted.cancel_family is 'Cancels a job that waits for its children: cancels the children, and their children. The job ends when the last of them has ended.';

create function accepted.cancel_job(job_id uuid, notifies_webhooks boolean) returns accepted.job_status
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  target accepted.job;
  is_parent boolean := exists (select from accepted.parent p where p.job_id = cancel_job.job_id);
begin
  if not is_parent then
    target := accepted.lock_job(cancel_job.job_id);
    -- The job may have settled, and enqueued children, during the wait for the lock.
    is_parent := exists (select from accepted.parent p where p.job_id = cancel_job.job_id);
  end if;
  if is_parent then
    perform accepted.cancel_family(cancel_job.job_id, notifies_webhooks);
    target := accepted.lock_job(cancel_job.job_id);
  end if;
  if target.status = 'canceled' then
    if is_parent then
      perform accepted.record_action('cancel', target.id::text);
      perform accepted.notify_watchers(target.id);
    end if;
    return target.status;
  elsif target.ended_at is not null then
    raise exception 'job % has already %', target.id, target.status
      using errcode = 'object_not_in_prerequisite_state', hint = case
        when target.status = 'failed' then format('To run the job again: select accepted.retry(%L)', target.id)
        else 'Its effects are committed. To reverse them, enqueue a job that does so.'
      end;
  end if;
  perform accepted.record_action('cancel', target.id::text);
  perform accepted.notify_watchers(target.id);
  if is_parent then
    return target.status;
  elsif target.status = 'queued' then
    update accepted_queue.job set state = 'cancelled', completed_on = now(), blocked = false
      where name = target.operation and id = target.id and state < 'active';
    -- A worker may have claimed the job without having started it. Then the worker cancels the job.
    if found or not exists (
      select from accepted_queue.job where name = target.operation and id = target.id and state = 'active'
    ) then
      if not accepted.cancel_unclaimed(target) then
        return target.status;
      end if;
      if notifies_webhooks then
        perform accepted.enqueue_deliveries(target.id);
      end if;
      perform accepted.notify_relatives(array[target.id]);
      return 'canceled';
    end if;
  end if;
  if not target.cancel_requested then
    update accepted.job set
      cancel_requested = true, cancel_requested_at = clock_timestamp(), sequence = sequence + 1,
      updated_at = clock_timestamp()
    where id = target.id;
  end if;
  perform pg_notify('accepted_cancel', target.id::text);
  return target.status;
end
$$;

comment on function accepted.cancel_job is 'Cancels a job. accepted.cancel and accepted.forget call this function.';

create function accepted.cancel(job_id uuid) returns accepted.job_status
language sql
security definer
set search_path = pg_catalog, pg_temp
return accepted.cancel_job(job_id, true);

comment on function accepted.cancel is 'Cancels a job and returns its status. The handler of a queued job never runs, and the job is canceled immediately. If its operation has an abandon function, the status is still queued: a worker or the API runs this function and cancels the job, within two seconds. For a running job, the status is still running: its worker aborts the handler''s signal, and then cancels the job. Errors: no_data_found (P0002), object_not_in_prerequisite_state (55000) if the job has succeeded or failed.';

create function accepted.create_retry(
  job_id uuid,
  new_id uuid,
  traceparent text default null,
  tracestate text default null
) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  ended accepted.job := accepted.lock_job(job_id);
begin
  if ended.status not in ('failed', 'canceled') then
    raise exception 'job % is %; only a failed or canceled job can be retried', ended.id, ended.status
      using errcode = 'object_not_in_prerequisite_state', hint = case
        when ended.ended_at is null then 'A pending job retries by itself, as its operation defines.'
        else format('To do its work once more: select accepted.enqueue(%L, …)', ended.operation)
      end;
  elsif ended.operation = 'batch' then
    raise exception 'job % is a batch, and a batch cannot be retried', ended.id
      using errcode = 'object_not_in_prerequisite_state', hint = format(
        'Retry its children: select accepted.retry(id) from accepted.job where parent = %L and status <> %L',
        ended.id, 'succeeded');
  elsif ended.payload is null then
    raise exception 'the payload of job % was lost with its row in the queue, so the job cannot run again', ended.id
      using errcode = 'object_not_in_prerequisite_state',
        hint = format('Enqueue a new job: select accepted.enqueue(%L, …)', ended.operation);
  end if;
  if ended.parent is not null then
    -- The retry counts for the parent, if the parent has not ended, and if no other retry of this job counts for it.
    perform accepted.lock_children(ended.parent);
    if not exists (
      select from accepted.parent p cross join lateral (
        select from accepted.job where id = p.job_id and not cancel_requested limit 1
      ) open
      where p.job_id = ended.parent
    ) or exists (
      select from (select parent from accepted.job where retry_of = ended.id offset 0) retry
      where retry.parent = ended.parent
    ) then
      ended.parent := null;
    end if;
    update accepted.parent p set first_pending = least(p.first_pending, create_retry.new_id)
      where p.job_id = ended.parent;
  end if;
  perform accepted.insert_job(create_retry.new_id, ended.operation, ended.payload, ended.principal,
    -- Outside services have seen this key. A service that has processed it can recognize the repetition.
    coalesce(ended.idempotency_key, ended.id::text), resource => ended.resource, group_id => ended.group_id,
    retry_of => ended.id, webhook_endpoint_id => ended.webhook_endpoint_id, traceparent => create_retry.traceparent,
    tracestate => create_retry.tracestate, parent => ended.parent, batch => ended.batch);
  -- The retry waits for nothing, but it may read the results of these jobs.
  if ended.after is not null then
    update accepted.job j set after = ended.after where j.id = create_retry.new_id;
  end if;
  perform accepted.record_action('retry', ended.id::text);
  perform accepted.notify_watchers(create_retry.new_id);
  perform accepted.notify_workers(ended.operation);
end
$$;

comment on function accepted.create_retry is 'Retries a failed or canceled job as a new job with a given id. The API calls this function, and accepted.retry.';

create function accepted.retry(job_id uuid) returns uuid
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  new_id uuid := accepted.uuid7();
begin
  perform accepted.create_retry(job_id, new_id);
  return new_id;
end
$$;

comment on function accepted.retry is 'Runs a failed or canceled job again, as a new job with retry_of. Returns the id of the new job. Errors: no_data_found (P0002), object_not_in_prerequisite_state (55000) if the job has not failed and was not canceled, or if its payload is lost.';

create function accepted.is_retried(job_id uuid) returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
  return exists (
    with recursive retry (id, status, payload) as (
      select id, status, payload from accepted.job where retry_of = is_retried.job_id
      union all
      select job.id, job.status, job.payload from retry join accepted.job on job.retry_of = retry.id
    )
    select from retry where status <> 'canceled' and not (status = 'failed' and payload is null)
  );
end
$$;

comment on function accepted.is_retried is 'Whether a job has a retry, or a retry of a retry. A canceled retry does not count, and neither does a failed retry without a payload, because it cannot be retried in place of the job.';

create function accepted.redrive_batch(
  operation text,
  error_code text,
  failed_since timestamptz,
  known_operations text[],
  after_id uuid,
  batch_size integer,
  max_redriven integer,
  dry_run boolean,
  out job_id uuid,
  out job_operation text,
  out outcome text,
  out retry_id uuid
) returns setof record
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
-- Reads the failures in the order of their ids, and stops at the limit.
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
declare
  ids uuid[];
  failed accepted.job;
  redriven integer := 0;
begin
  ids := array(
    select e.job_id from accepted.ended_job e join accepted.job j on j.id = e.job_id and j.ended_at = e.ended_at
    where e.status = 'failed' and e.ended_at >= failed_since and e.job_id > after_id
      and j.status = 'failed' and j.expires_at > now() and j.operation <> 'batch'
      -- The retry of a failed parent enqueues children again.
      and not exists (
        select from accepted.job p where p.id = j.parent and p.operation <> 'batch' and p.status <> 'succeeded' offset 0
      )
      and (redrive_batch.operation is null or j.operation = redrive_batch.operation)
      and (redrive_batch.error_code is null or j.error ->> 'code' = redrive_batch.error_code)
    order by e.job_id limit batch_size
  );
  if not dry_run then
    if after_id = '00000000-0000-0000-0000-000000000000' then
      perform accepted.record_action('redrive', redrive_batch.operation);
    end if;
    -- A later statement sees the retries that were committed during the wait for a lock. With a snapshot for the whole
    -- transaction, it would not. Then the update fails with serialization_failure.
    perform from accepted.job where id = any(ids) order by id for update;
    update accepted.ended_job set status = status where job_id = any(ids);
  end if;
  for failed in select * from accepted.job where id = any(ids) order by id loop
    exit when redriven = max_redriven;
    job_id := failed.id;
    job_operation := failed.operation;
    retry_id := null;
    if accepted.is_retried(failed.id) then
      outcome := 'already-retried';
    elsif not (known_operations is null or failed.operation = any(known_operations))
      or not exists (select from accepted.operation o where o.name = failed.operation)
    then
      outcome := 'unknown-operation';
    elsif failed.payload is null then
      outcome := 'missing-payload';
    else
      outcome := 'redriven';
      redriven := redriven + 1;
      if not dry_run then
        retry_id := accepted.retry(failed.id);
      end if;
    end if;
    return next;
  end loop;
end
$$;

comment on function accepted.redrive_batch is 'Retries the next batch of failed jobs, in the order of their ids. Returns a row for each job: redriven, or why it was skipped. The next batch starts after the last row. accepted.redrive and accepted jobs redrive call this function.';

create function accepted.redrive(
  operation text default null,
  error_code text default null,
  since interval default '24 hours',
  max_jobs integer default 1000
) returns setof uuid
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  failed record;
  batch_size constant integer := 100;
  was_full boolean := true;
  after_id uuid := '00000000-0000-0000-0000-000000000000';
  redriven integer := 0;
begin
  if operation is not null then
    perform accepted.find_operation(operation);
  end if;
  if since is null or since < interval '0' or since > interval '1000 years' then
    raise exception 'since must be an interval of 0 to 1000 years' using errcode = 'invalid_parameter_value',
      hint = 'For the failures of the last hour: since => ''1 hour''.';
  elsif max_jobs is null or max_jobs < 1 then
    raise exception 'max_jobs must be at least 1' using errcode = 'invalid_parameter_value',
      hint = 'Leave max_jobs out for at most 1000 jobs.';
  end if;
  while was_full and redriven < max_jobs loop
    was_full := false;
    for failed in
      select *, row_number() over () as number from accepted.redrive_batch(operation, error_code, now() - since, null,
        after_id, batch_size, max_jobs - redriven, false)
    loop
      after_id := failed.job_id;
      was_full := failed.number = batch_size;
      if failed.outcome = 'redriven' then
        redriven := redriven + 1;
        return next failed.retry_id;
      end if;
    end loop;
  end loop;
end
$$;

comment on function accepted.redrive is 'Retries the jobs that failed in the last 24 hours, or in the interval since. Retries at most max_jobs jobs, the oldest first, and returns the ids of the new jobs. Leaves out jobs that have a retry already, and jobs whose payload is lost. Errors: undefined_object (42704) for an unknown operation, invalid_parameter_value (22023).';

create function accepted.pause(operation text, reason text default null) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform accepted.find_operation(pause.operation);
  update accepted.operation set paused_at = coalesce(paused_at, now()), paused_reason = coalesce(pause.reason, paused_reason)
    where name = pause.operation;
  perform accepted.record_action('pause', pause.operation);
end
$$;

comment on function accepted.pause is 'Pauses an operation: workers start none of its jobs until accepted.resume. Requests are still accepted, and running jobs continue. Errors: undefined_object (42704).';

create function accepted.resume(operation text) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform accepted.find_operation(resume.operation);
  update accepted.operation set paused_at = null, paused_reason = null where name = resume.operation;
  perform accepted.record_action('resume', resume.operation);
  perform accepted.notify_workers(resume.operation);
end
$$;

comment on function accepted.resume is 'Lets workers start the jobs of a paused operation again. Errors: undefined_object (42704).';

create function accepted.insert_batch(
  id uuid,
  principal text,
  total integer,
  allow_failures boolean,
  on_end jsonb,
  idempotency_key text default null,
  traceparent text default null,
  tracestate text default null,
  webhook_endpoint_id uuid default null,
  parent uuid default null
) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  policy accepted.operation := accepted.find_operation('batch');
begin
  insert into accepted.job (
    id, operation, status, principal, idempotency_key, max_attempts, traceparent, tracestate, webhook_endpoint_id,
    parent, percent, children, started_at, updated_at, expires_at
  ) values (
    id, 'batch', 'running', principal, idempotency_key, 1, traceparent, tracestate, webhook_endpoint_id, parent, 0,
    jsonb_build_object('total', total, 'succeeded', 0, 'failed', 0, 'canceled', 0),
    now(), statement_timestamp(), now() + make_interval(secs => policy.keep_seconds)
  );
  insert into accepted.parent (job_id, allow_failures, on_end) values (id, coalesce(allow_failures, false), on_end);
  -- Children that wait for a failed job have been canceled in this transaction. A batch without children ends at once.
  if total = 0 or accepted.has_child(id) then
    perform accepted.notify_watchers(resolved.changed), accepted.notify_workers(resolved.enqueued)
      from accepted.resolve_parents(array[insert_batch.id]) resolved;
  end if;
end
$$;

comment on function accepted.insert_batch is 'Inserts the job of a batch. The caller inserts its children in the same transaction: before the batch, if they may be canceled at once.';

create function accepted.enqueue_batch(
  items jsonb,
  on_end jsonb default null,
  allow_failures boolean default false,
  principal text default 'anonymous',
  idempotency_key text default null
) returns uuid
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  new_id uuid := accepted.uuid7();
  holder uuid;
  item jsonb;
  full_operation text;
  max_jobs integer;
begin
  if coalesce(jsonb_typeof(items), 'null') <> 'array' or jsonb_array_length(items) not between 1 and 10000 then
    raise exception 'items is not an array of 1 to 10,000 objects' using errcode = 'invalid_parameter_value',
      hint = 'For example: [{"operation": "todo.create", "payload": {"title": "…"}}]';
  elsif idempotency_key is not null and length(idempotency_key) not between 1 and 255 then
    raise exception 'the idempotency key has % characters', length(idempotency_key)
      using errcode = 'invalid_parameter_value', hint = 'Use 1 to 255 characters, or pass null for no key.';
  elsif on_end is not null and (
    jsonb_typeof(on_end) <> 'object' or coalesce(on_end ->> 'operation', 'batch') in ('batch', 'jobs.bulk')
  ) then
    raise exception 'on_end is not an object with an operation, or the operation is batch or jobs.bulk' using errcode = 'invalid_parameter_value',
      hint = 'For example: {"operation": "report.send", "payload": {}}';
  end if;
  perform accepted.assert_principal(principal);
  for item in select one from jsonb_array_elements(items) one loop
    if jsonb_typeof(item) <> 'object' or item ->> 'operation' is null then
      raise exception 'an item is not an object with an operation: %', left(item::text, 100)
        using errcode = 'invalid_parameter_value',
          hint = 'For example: {"operation": "todo.create", "payload": {"title": "…"}, "key": "…"}';
    elsif item - array['operation', 'payload', 'key'] <> '{}' then
      raise exception 'an item has an unknown member: %', (select min(name) from jsonb_object_keys(item) name
          where name <> all(array['operation', 'payload', 'key']))
        using errcode = 'invalid_parameter_value', hint = 'The members are operation, payload and key.';
    elsif length(item ->> 'key') not between 1 and 255 then
      raise exception 'the key of an item has % characters', length(item ->> 'key')
        using errcode = 'invalid_parameter_value', hint = 'Use 1 to 255 characters, or leave the key out.';
    end if;
  end loop;
  if on_end is not null then
    perform accepted.find_operation(on_end ->> 'operation');
    on_end := jsonb_build_object('operation', on_end -> 'operation', 'payload', coalesce(on_end -> 'payload', '{}'));
  end if;
  if idempotency_key is not null then
    holder := accepted.take_key(principal, idempotency_key, sha256(convert_to(
      jsonb_build_array('sql', 'batch', items, on_end, coalesce(allow_failures, false))::text, 'UTF8')), new_id);
    if holder <> new_id then
      return holder;
    end if;
  end if;
  for full_operation, max_jobs in
    select o.name, o.max_backlog from accepted.operation o
    join (select one ->> 'operation' as name, count(*) as jobs from jsonb_array_elements(items) one group by 1) given
      using (name)
    where o.max_backlog is not null
      and (given.jobs > o.max_backlog or accepted.is_backlog_full(o.name, o.max_backlog - given.jobs::integer + 1))
  loop
    raise exception 'the jobs do not fit into the backlog of %: at most % jobs may wait', quote_literal(full_operation),
        max_jobs
      using errcode = 'configuration_limit_exceeded', hint = 'Try again later, or raise maxBacklog of the operation.';
  end loop;
  for full_operation, max_jobs in
    select o.name, o.max_backlog_per_principal from accepted.operation o
    join (select one ->> 'operation' as name, count(*) as jobs from jsonb_array_elements(items) one group by 1) given
      using (name)
    where given.jobs + accepted.count_backlog(o.name, principal, o.max_backlog_per_principal)
      > o.max_backlog_per_principal
  loop
    raise exception 'the jobs do not fit into the backlog of % for %: at most % jobs of a principal may wait',
        quote_literal(full_operation), quote_literal(principal), max_jobs
      using errcode = 'configuration_limit_exceeded',
        hint = 'Try again later, or raise maxBacklogPerPrincipal of the operation.';
  end loop;
  perform accepted.insert_batch(new_id, principal, jsonb_array_length(items), allow_failures, on_end, idempotency_key);
  for item in select one from jsonb_array_elements(items) one loop
    perform accepted.insert_job(accepted.uuid7(), item ->> 'operation', coalesce(item -> 'payload', '{}'), principal,
      item ->> 'key', parent => new_id);
  end loop;
  perform accepted.notify_watchers(new_id);
  perform accepted.notify_workers(enqueued.operation)
    from (select distinct one ->> 'operation' as operation from jsonb_array_elements(items) one) enqueued;
  return new_id;
end
$$;

comment on function accepted.enqueue_batch is 'Enqueues a batch: a job that ends when its children have ended. items is an array of objects: operation, payload, key. on_end is the job to enqueue when the batch ends, whatever its end is: an object with operation and payload. The batch fails with children-failed if a child fails or is canceled, unless allow_failures. Errors: like accepted.enqueue.';

create function accepted.lock_queued_job(job_id uuid) returns accepted.job
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  queued accepted.job := accepted.lock_job(job_id);
begin
  if queued.status = 'queued' then
    perform from accepted_queue.job where name = queued.operation and id = queued.id and state < 'active' for update;
    if found then
      return queued;
    end if;
  end if;
  raise exception 'job % is not waiting in the queue: %', queued.id,
      case
        when queued.status = 'queued' then 'a worker has just claimed it'
        when queued.status in ('succeeded', 'failed') then 'it has ' || queued.status
        else 'it is ' || queued.status
      end
    using errcode = 'object_not_in_prerequisite_state',
      hint = 'To see where a job is: select * from accepted.timeline where job_id = …';
end
$$;

comment on function accepted.lock_queued_job is 'Locks a queued job and its row in the queue. Raises object_not_in_prerequisite_state (55000) if the job is not queued.';

create function accepted.reschedule(job_id uuid, run_at timestamptz) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  queued accepted.job;
  keep_seconds integer;
begin
  if not coalesce(accepted.is_writable_time(reschedule.run_at), false) then
    raise exception 'run_at must be a time between the years 1 and 9900' using errcode = 'invalid_parameter_value',
      hint = 'To run the job now: select accepted.reschedule(…, now()). To stop an operation: select accepted.pause(…).';
  end if;
  queued := accepted.lock_queued_job(reschedule.job_id);
  select o.keep_seconds into keep_seconds from accepted.operation o where o.name = queued.operation;
  update accepted_queue.job set
    start_after = reschedule.run_at,
    keep_until = reschedule.run_at + (keep_until - start_after)
  where name = queued.operation and id = queued.id;
  update accepted.job set
    run_at = reschedule.run_at, sequence = sequence + 1, updated_at = clock_timestamp(),
    expires_at = greatest(reschedule.run_at, now()) + make_interval(secs => keep_seconds)
  where id = queued.id;
  perform accepted.record_action('reschedule', queued.id::text);
  perform accepted.notify_watchers(queued.id);
  if reschedule.run_at <= now() then
    perform accepted.notify_workers(queued.operation);
  end if;
end
$$;

comment on function accepted.reschedule is 'Changes when a queued job is due. A job that waits for its retry is also queued. Errors: no_data_found (P0002), object_not_in_prerequisite_state (55000) if the job is not queued, invalid_parameter_value (22023).';

create function accepted.prioritize(job_id uuid, priority integer) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  queued accepted.job;
begin
  if prioritize.priority is null then
    raise exception 'the priority is null' using errcode = 'invalid_parameter_value',
      hint = 'Pass an integer. A job with a higher priority starts first.';
  end if;
  queued := accepted.lock_queued_job(prioritize.job_id);
  update accepted_queue.job set priority = prioritize.priority where name = queued.operation and id = queued.id;
  perform accepted.record_action('prioritize', queued.id::text);
  perform accepted.notify_workers(queued.operation);
end
$$;

comment on function accepted.prioritize is 'Changes the priority of a queued job. A job with a higher priority starts first. Errors: no_data_found (P0002), object_not_in_prerequisite_state (55000) if the job is not queued, invalid_parameter_value (22023).';

create function accepted.forget(principal text, cancel_pending boolean default false) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
  pseudonym constant text := 'forgotten:' || gen_random_uuid();
  pending uuid;
  pending_count bigint;
  running uuid[];
  ended accepted.job;
  ids uuid[] := '{}';
  operation_name text;
begin
  if coalesce(forget.principal, '') = '' then
    raise exception 'the principal is empty' using errcode = 'invalid_parameter_value',
      hint = 'Pass the owner of the jobs to delete.';
  end if;
  perform accepted.lock_family(array(select id from accepted.job where principal = forget.principal));
  select count(*) into pending_count from accepted.job where principal = forget.principal and ended_at is null;
  if pending_count > 0 and not coalesce(cancel_pending, false) then
    raise exception '% of % not ended', case when pending_count = 1 then '1 job' else pending_count || ' jobs' end,
        quote_literal(forget.principal) || case when pending_count = 1 then ' has' else ' have' end
      using errcode = 'object_not_in_prerequisite_state',
        hint = format('To cancel them: select accepted.forget(%L, cancel_pending => true)', forget.principal);
  end if;
  -- The end of a batch must not enqueue another job of the person.
  update accepted.parent set on_end = null where job_id in (
    select id from accepted.job where principal = forget.principal and ended_at is null
  );
  for pending in select id from accepted.job where principal = forget.principal and ended_at is null loop
    -- The end of a child or of an awaited job may have ended this job.
    continue when exists (select from accepted.job where id = pending and ended_at is not null);
    perform accepted.cancel_job(pending, false);
  end loop;
  -- The worker of a job that still runs needs its keys.
  running := array(select id from accepted.job where principal = forget.principal and ended_at is null);
  delete from accepted.idempotency_key where principal = forget.principal and job_id <> all(running);
  for ended in select * from accepted.job where principal = forget.principal and ended_at is not null loop
    ids := ids || ended.id;
    delete from accepted_queue.job where name = ended.operation and id = ended.id;
  end loop;
  for operation_name in
    select name from accepted.operation union select distinct job.operation from accepted.job where id = any(ids)
  loop
    delete from accepted.processed_key k
      where k.operation = operation_name and k.principal = forget.principal and job_id <> all(running);
    delete from accepted.coalesced_key k
      where k.operation = operation_name and k.principal = forget.principal and job_id <> all(running);
  end loop;
  delete from accepted.attempt where job_id = any(ids);
  delete from accepted.quarantine where job_id = any(ids);
  delete from accepted.dependency where job_id = any(ids);
  delete from accepted.ended_job where job_id = any(ids);
  delete from accepted.job where id = any(ids) and principal = forget.principal;
  delete from accepted.webhook_endpoint where principal = forget.principal;
  delete from accepted.job_link where principal = forget.principal;
  delete from accepted.api_key where principal = forget.principal;
  perform accepted.record_action('forget', pseudonym);
  update accepted.audit set principal = pseudonym where principal = forget.principal;
  return cardinality(ids);
end
$$;

comment on function accepted.forget is 'Deletes the jobs of a person, with their payloads, results, messages, attempts and keys, and the webhook endpoints and API keys of the person. Returns the number of jobs. In the audit, a pseudonym replaces the principal. With cancel_pending, cancels queued jobs and deletes them, and asks running jobs to cancel: call the function again when they have ended. Errors: object_not_in_prerequisite_state (55000) if jobs have not ended, invalid_parameter_value (22023).';

create function accepted.expire(before timestamptz, operation text default null) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  batch_size constant integer := 10000;
  ids uuid[];
  read_count integer;
  last_id uuid := '00000000-0000-0000-0000-000000000000';
  expired bigint := 0;
begin
  if before is null then
    raise exception 'before is null' using errcode = 'invalid_parameter_value',
      hint = 'For the jobs that ended more than a day ago: select accepted.expire(now() - interval ''1 day'').';
  end if;
  if expire.operation is not null then
    perform accepted.find_operation(expire.operation);
  end if;
  loop
    -- With a condition on other columns, each batch could read all partitions in search of the first match.
    with read as materialized (
      select id, ended_at < before and expires_at > now()
        and (expire.operation is null or operation = expire.operation) as matches
      from accepted.job where id > last_id order by id limit batch_size
    )
    select array(select id from read where matches order by id), count(*), (select id from read order by id desc limit 1)
      into ids, read_count, last_id from read;
    update accepted.job set expires_at = now(), sequence = sequence + 1, updated_at = clock_timestamp()
      where id = any(ids) and id between ids[1] and ids[cardinality(ids)];
    expired := expired + cardinality(ids);
    exit when read_count < batch_size;
  end loop;
  perform accepted.record_action('expire', expire.operation);
  return expired;
end
$$;

comment on function accepted.expire is 'Expires the records of the jobs that ended before a time. Clients get 410 for them from now on. Returns the number of jobs. The rows stay until all jobs of their day have expired. Errors: undefined_object (42704) for an unknown operation, invalid_parameter_value (22023).';

create function accepted.deliver_webhook(endpoint_id uuid, job_id uuid default null) returns uuid
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_variable
declare
  new_id uuid := accepted.uuid7();
  endpoint accepted.webhook_endpoint;
  reported accepted.job;
begin
  select * into endpoint from accepted.webhook_endpoint e where e.id = endpoint_id;
  if not found then
    raise exception 'there is no webhook endpoint %', endpoint_id using errcode = 'no_data_found',
      hint = 'All endpoints: select id, url from accepted.webhook_endpoint.';
  end if;
  if job_id is not null then
    select * into reported from accepted.job j
      where j.id = job_id and j.operation <> 'webhook.deliver' and coalesce(endpoint.principal, j.principal) = j.principal;
    if not found then
      raise exception 'there is no job % that the endpoint may receive', job_id using errcode = 'no_data_found',
        hint = 'Its record may have expired, or it belongs to another principal than the endpoint.';
    elsif reported.ended_at is null then
      raise exception 'the job % has not ended', job_id using errcode = 'object_not_in_prerequisite_state',
        hint = 'When it ends, it is delivered.';
    end if;
  end if;
  perform accepted.insert_job(new_id, 'webhook.deliver',
    jsonb_strip_nulls(jsonb_build_object('endpointId', endpoint_id, 'jobId', job_id)), 'webhook:' || endpoint_id,
    group_id => endpoint_id::text, traceparent => reported.traceparent, tracestate => reported.tracestate);
  perform accepted.record_action(case when job_id is null then 'webhook.tested' else 'webhook.resent' end,
    endpoint_id::text);
  perform accepted.notify_workers('webhook.deliver');
  return new_id;
end
$$;

comment on function accepted.deliver_webhook is 'Delivers the outcome of a job to a webhook endpoint, once more if it was delivered before: with the same webhook-id. Without a job, delivers an event of the type accepted.test. Returns the job of the delivery. Errors: no_data_found (P0002), object_not_in_prerequisite_state (55000) if the job has not ended.';

create function accepted.lock_schedule(name text) returns accepted.schedule
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  found_schedule accepted.schedule;
begin
  select * into found_schedule from accepted.schedule where schedule.name = lock_schedule.name for update;
  if not found then
    raise exception 'there is no schedule %', coalesce(quote_literal(lock_schedule.name), 'null')
      using errcode = 'undefined_object', hint = coalesce(
        (select 'Schedules: ' || string_agg(schedule.name, ', ' order by schedule.name) from accepted.schedule),
        'No schedule is defined yet. A worker writes the schedules of its app when it starts.');
  end if;
  return found_schedule;
end
$$;

comment on function accepted.lock_schedule is 'Locks a schedule and returns its row. Raises undefined_object (42704) if there is none.';

create function accepted.pause_schedule(name text, reason text default null) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform accepted.lock_schedule(pause_schedule.name);
  update accepted.schedule set paused = true, paused_reason = coalesce(pause_schedule.reason, paused_reason)
    where schedule.name = pause_schedule.name;
end
$$;

comment on function accepted.pause_schedule is 'Pauses a schedule: its occurrences pass without a job until accepted.resume_schedule. accepted.backfill_schedule creates the missed jobs later. Errors: undefined_object (42704).';

create function accepted.resume_schedule(name text) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform accepted.lock_schedule(resume_schedule.name);
  update accepted.schedule set paused = false where schedule.name = resume_schedule.name;
end
$$;

comment on function accepted.resume_schedule is 'Lets the occurrences of a paused schedule become jobs again, from the next one. Errors: undefined_object (42704).';

create function accepted.run_schedule(name text) returns uuid
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  new_id uuid := accepted.uuid7();
begin
  perform accepted.lock_schedule(run_schedule.name);
  insert into accepted.schedule_request (id, schedule) values (new_id, run_schedule.name);
  perform accepted.record_action('schedule.run', run_schedule.name);
  return new_id;
end
$$;

comment on function accepted.run_schedule is 'Requests a job of a schedule now, also while the schedule is paused, and returns the id of this job. A worker that knows the schedule creates the job within about a second. The next occurrence stays as it is. Errors: undefined_object (42704).';

create function accepted.backfill_schedule(
  name text,
  since timestamptz,
  until timestamptz default now(),
  max_jobs integer default 1000
) returns uuid
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  new_id uuid := accepted.uuid7();
begin
  if not coalesce(isfinite(since) and isfinite(until) and since < until, false) then
    raise exception 'since is not a time before until' using errcode = 'invalid_parameter_value',
      hint = 'For example: select accepted.backfill_schedule(''name'', now() - interval ''7 days'', now())';
  elsif not coalesce(max_jobs between 1 and 10000, false) then
    raise exception 'max_jobs is not between 1 and 10,000' using errcode = 'invalid_parameter_value',
      hint = 'To create more jobs, call the function again: it goes on after the jobs that there are.';
  end if;
  perform accepted.lock_schedule(backfill_schedule.name);
  insert into accepted.schedule_request (id, schedule, since, until, max_jobs)
    values (new_id, backfill_schedule.name, backfill_schedule.since, backfill_schedule.until, backfill_schedule.max_jobs);
  perform accepted.record_action('schedule.backfilled', backfill_schedule.name);
  return new_id;
end
$$;

comment on function accepted.backfill_schedule is 'Requests the jobs of the occurrences from since to until that never became jobs, because the schedule was paused, did not exist yet, or no worker ran: one job for each occurrence, the oldest first, at most max_jobs. Returns the id of a batch, whose children are these jobs; to undo the backfill, cancel the batch. A worker that knows the schedule creates the batch within about a second. Occurrences that are still to come are left out. Errors: undefined_object (42704), invalid_parameter_value (22023).';

-- Guards

create function accepted.refuse_change() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    raise exception 'the id % is not a UUIDv7, so the job would go to the wrong partition', new.id
      using errcode = 'restrict_violation',
        hint = 'To enqueue a job: select accepted.enqueue(''operation'', ''{}''). It returns the id of the job.';
  end if;
  if tg_op = 'DELETE' then
    raise exception 'job % is %, and a pending job cannot be deleted', old.id, old.status
      using errcode = 'restrict_violation', hint = format('To end the job: select accepted.cancel(%L)', old.id);
  end if;
  if old.ended_at is not null and new.status <> old.status then
    raise exception 'job % has already %, and a final status never changes', old.id, old.status
      using errcode = 'restrict_violation', hint = format('To run the job again: select accepted.retry(%L)', old.id);
  end if;
  raise exception 'the % of job % cannot change', case
      when new.id <> old.id then 'id' when new.operation <> old.operation then 'operation' else 'time of creation' end,
      old.id
    using errcode = 'restrict_violation',
      hint = 'To enqueue other work: select accepted.enqueue(''operation'', ''{}''). To start a queued job at another time: select accepted.reschedule(''job'', ''time'').';
end
$$;

comment on function accepted.refuse_change is 'Trigger function: refuses changes of accepted.job that would damage it, and names the function to use instead.';

create trigger job_id_is_uuid7 before insert on accepted.job for each row
  when (new.id::text not like '______________7%')
  execute function accepted.refuse_change();

comment on trigger job_id_is_uuid7 on accepted.job is 'Refuses ids that are no UUIDv7.';

create trigger job_final before update on accepted.job for each row
  when (old.ended_at is not null and new.status <> old.status)
  execute function accepted.refuse_change();

comment on trigger job_final on accepted.job is 'Refuses changes of a final status.';

create trigger job_identity before update of id, operation, created_at on accepted.job for each row
  when (new.id <> old.id or new.operation <> old.operation or new.created_at <> old.created_at)
  execute function accepted.refuse_change();

comment on trigger job_identity on accepted.job is 'Refuses changes of the id, the operation and the time of creation.';

create trigger job_pending_not_deleted before delete on accepted.job for each row
  when (old.ended_at is null)
  execute function accepted.refuse_change();

comment on trigger job_pending_not_deleted on accepted.job is 'Refuses to delete a job that has not ended.';

create function accepted.refuse_direct_change() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the role % may not change %.% directly', current_user, tg_table_schema, tg_table_name
    using errcode = 'insufficient_privilege', hint = case tg_op
      when 'INSERT' then 'To enqueue a job: select accepted.enqueue(''operation'', ''{}'').'
      when 'DELETE' then 'To end a job: select accepted.cancel(''job''). To let records expire: select accepted.expire(''time''). To delete the jobs of a person: select accepted.forget(''principal'').'
      else 'Use accepted.cancel(job), accepted.retry(job), accepted.reschedule(job, time) or accepted.prioritize(job, priority).'
    end;
end
$$;

comment on function accepted.refuse_direct_change is 'Trigger function: tells an operator which function to use. Operators have privileges on columns of accepted.job and accepted_queue.job only so that they read this message and not "permission denied".';

-- Operators have INSERT and UPDATE only on columns, so a test of the whole table tells them from the API and the worker.
-- DELETE cannot be granted on columns, so its trigger tests UPDATE. The condition costs microseconds per statement.
create trigger job_not_inserted before insert on accepted.job for each statement
  when (not has_table_privilege('accepted.job'::regclass, 'insert'))
  execute function accepted.refuse_direct_change();

comment on trigger job_not_inserted on accepted.job is 'Refuses direct inserts by operators.';

create trigger job_not_changed before update on accepted.job for each statement
  when (not has_table_privilege('accepted.job'::regclass, 'update'))
  execute function accepted.refuse_direct_change();

comment on trigger job_not_changed on accepted.job is 'Refuses direct updates by operators.';

create trigger job_not_deleted before delete on accepted.job for each statement
  when (not has_table_privilege('accepted.job'::regclass, 'update'))
  execute function accepted.refuse_direct_change();

comment on trigger job_not_deleted on accepted.job is 'Refuses direct deletes by operators.';

create trigger accepted_not_inserted before insert on accepted_queue.job for each statement
  when (not has_table_privilege('accepted_queue.job'::regclass, 'insert'))
  execute function accepted.refuse_direct_change();

comment on trigger accepted_not_inserted on accepted_queue.job is 'Refuses direct inserts by operators.';

create function accepted.advance_sequence() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.sequence < old.sequence or (
    new.status, new.principal, new.resource, new.percent, new.message, new.attempt, new.max_attempts, new.result,
    new.error, new.coalesced, new.cancel_requested, new.retry_of, new.parent, new.children,
    new.waiting_for, new.started_at, new.ended_at, new.expires_at
  ) is distinct from (
    old.status, old.principal, old.resource, old.percent, old.message, old.attempt, old.max_attempts, old.result,
    old.error, old.coalesced, old.cancel_requested, old.retry_of, old.parent, old.children,
    old.waiting_for, old.started_at, old.ended_at, old.expires_at
  ) then
    new.sequence := greatest(new.sequence, old.sequence + 1);
    new.updated_at := clock_timestamp();
  end if;
  new.updated_at := greatest(new.updated_at, old.updated_at);
  return new;
end
$$;

comment on function accepted.advance_sequence is 'Trigger function: makes a change visible to clients that compare the sequence or the ETag.';

create trigger job_sequence before update on accepted.job for each row
  when (new.sequence <= old.sequence or new.updated_at < old.updated_at)
  execute function accepted.advance_sequence();

comment on trigger job_sequence on accepted.job is 'Increases the sequence and the time of the change when a statement changes what clients see, but not these two. Never lets them decrease.';

create function accepted.refuse_foreign_job() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  -- The jobs of pg-boss itself have no row in accepted.job.
  if new.name ~ '^__pgboss__' then
    return new;
  end if;
  -- pg-boss may enter a job that has failed once more under another id. The worker then retries it as a new job. In one
  -- condition, Postgres may convert the id before it compares its form.
  if new.data ->> 'job' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    if exists (
      select from accepted.job where job.id = (new.data ->> 'job')::uuid and job.operation = new.name and (
        job.ended_at is not null or not exists (
          select from accepted_queue.job queued
          where queued.name = new.name and queued.id = (new.data ->> 'job')::uuid and queued.state <= 'active'
        )
      )
    ) then
      return new;
    end if;
  end if;
  raise exception 'a job without a row of its own in accepted.job cannot enter the queue %', quote_literal(new.name)
    using errcode = 'restrict_violation',
      hint = format('To enqueue a job: select accepted.enqueue(%L, %L)', new.name, coalesce(new.data, '{}'));
end
$$;

comment on function accepted.refuse_foreign_job is 'Trigger function: refuses rows that another program inserts into the queue of an operation, for example with pg-boss. A worker would find no status for such a job.';

create trigger accepted_foreign_job before insert on accepted_queue.job for each row
  when (new.data ->> 'job' is distinct from new.id::text)
  execute function accepted.refuse_foreign_job();

comment on trigger accepted_foreign_job on accepted_queue.job is 'Refuses jobs that have no row in accepted.job.';

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
-- Only the owner of a table may create, attach and drop partitions.
security definer
set search_path = pg_catalog, pg_temp
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
    execute format('create table accepted.%I (like accepted.job including all) with (fillfactor = 45)', partition);
    -- The trigger refuses to delete pending jobs. No other transaction can delete any while this one holds the lock.
    alter table accepted.job_default disable trigger job_pending_not_deleted;
    execute format(
      'with moved as (delete from accepted.job_default where id >= %L and id < %L returning *) insert into accepted.%I select * from moved',
      lower_bound, upper_bound, partition);
    alter table accepted.job_default enable trigger job_pending_not_deleted;
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
security definer
set search_path = pg_catalog, pg_temp
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
  create table accepted.job_next (like accepted.job including all) with (fillfactor = 45);
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
  -- A parent counts its children when it ends.
  return not is_alive and not exists (
    select from accepted.parent cross join lateral (
      select from accepted.job
      where job.parent = parent.job_id and job.id >= place.first_id and job.id < place.end_id limit 1
    ) child
  );
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
comment on column accepted.expiry.next_page is 'The first page that has not been read yet, in the tables of keys, attempts and ended jobs.';

-- The record of a job is deleted with its partition. After that, only this table tells an id of such a job from one that
-- never existed.
create table accepted.deleted_day (
  day date not null,
  deleted_at timestamptz not null default now(),
  constraint deleted_day_pkey primary key (day)
);

comment on table accepted.deleted_day is 'One row per day whose jobs were deleted. Clients that ask for one of these jobs get 410 instead of 404.';
comment on column accepted.deleted_day.day is 'The day (UTC).';
comment on column accepted.deleted_day.deleted_at is 'When the jobs were deleted.';

create function accepted.may_be_deleted(id uuid) returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
begin atomic
  select accepted.uuid_time(id) < now() - make_interval(secs => coalesce(max(keep_seconds), 7 * 86400))
    or exists (select from accepted.deleted_day where day = accepted.uuid_time(id)::date)
  from accepted.operation;
end;

comment on function accepted.may_be_deleted is 'Whether a job with this id, which has no row, may have existed and was deleted: all jobs of its day were deleted, or no record is kept for so long.';

create function accepted.begin_expiry() returns date
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
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
security definer
set search_path = pg_catalog, pg_temp
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
  delete from accepted.coalesced_key
    where ctid >= first_row and ctid < next_row and job_id >= first_id and job_id < next_id;
  delete from accepted.attempt
    where ctid >= first_row and ctid < next_row and job_id >= first_id and job_id < next_id;
  delete from accepted.ended_job
    where ctid >= first_row and ctid < next_row and job_id >= first_id and job_id < next_id;
  return next_page * current_setting('block_size')::bigint < greatest(
    pg_relation_size('accepted.idempotency_key'),
    pg_relation_size('accepted.processed_key'),
    pg_relation_size('accepted.coalesced_key'),
    pg_relation_size('accepted.attempt'),
    pg_relation_size('accepted.ended_job')
  );
end
$$;

comment on function accepted.delete_keys_of_day is 'Deletes the keys, the attempts and the rows of accepted.ended_job of an expired day (UTC). Each call reads the next max_pages pages of the tables. Returns whether pages are left. Returns null when another worker is deleting, or has already deleted the day. The worker calls this function.';

create function accepted.delete_jobs_of_day(day date, max_jobs integer) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
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
    insert into accepted.deleted_day (day) values (day) on conflict do nothing;
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
    insert into accepted.deleted_day (day) values (day) on conflict do nothing;
  end if;
  return deleted = max_jobs;
end
$$;

comment on function accepted.delete_jobs_of_day is 'Drops the partition of an expired day (UTC). If the day never had a partition, deletes at most max_jobs jobs of the day. Returns whether jobs may be left. Returns null when another worker is deleting, or when a job of the day has changed, so that the day is no longer expired. The worker calls this function after it has deleted the keys of the day.';

-- Views for people
--
-- Each view reads a bounded number of rows, also of tables with millions of jobs. Its comment names the bound. A view
-- cannot have settings, so the views read large tables through functions that have. Without these settings, Postgres may
-- read and sort a whole queue if it has no statistics, and before Postgres 18 it may compile the query for seconds. The
-- functions return neither payloads nor results.

create function accepted.due_jobs(operation text, due_before timestamptz, max_jobs integer)
returns table (id uuid, due_at timestamptz)
language plpgsql
stable
security definer
rows 100
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
begin
  -- This order is that of the index in which jobs are claimed.
  return query
    select job.id, job.start_after from accepted_queue.job
    where job.name = due_jobs.operation and job.state < 'active' and not job.blocked and job.start_after <= due_before
    order by job.priority desc, job.created_on limit max_jobs;
end
$$;

comment on function accepted.due_jobs is 'The first max_jobs waiting jobs of an operation that have been due since due_before, in the order in which they are claimed. Views call this function.';

create function accepted.count_waiting(
  operation text, max_jobs integer, out ready bigint, out deferred bigint, out oldest_due_at timestamptz
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
begin
  -- Both statements read only an index, if the table was vacuumed recently.
  select count(*), min(start_after) into ready, oldest_due_at from (
    select start_after from accepted_queue.job
    where name = operation and state < 'active' and not blocked and start_after <= now()
    order by priority desc, created_on limit max_jobs
  ) due;
  select count(*) into deferred from (
    select from accepted_queue.job
    where name = operation and state < 'active' and not blocked and start_after > now()
    order by priority desc, created_on limit max_jobs
  ) later;
end
$$;

comment on function accepted.count_waiting is 'Counts up to max_jobs jobs of an operation that are due, and as many that are due later. Views call this function.';

create function accepted.principal_waits(
  operation text, max_principals integer, out principals integer, out longest interval, out shortest interval
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
-- These settings force scans of accepted_turn_idx in its order, like those of accepted.claim_in_turn.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_variable
declare
  level integer;
  next_from text := '';
  next_principal text;
  due timestamptz;
  first_due timestamptz;
  last_due timestamptz;
begin
  -- In the queue of an operation with a limit, keys take turns, not principals.
  if accepted.is_limited(operation) then
    return;
  end if;
  principals := 0;
  select job.priority into level from accepted_queue.job_common job
  where job.name = operation and job.state < 'active' and not job.blocked and job.start_after <= now()
  order by job.priority desc limit 1;
  while principals < max_principals and level is not null loop
    select coalesce(job.singleton_key, ''), job.start_after into next_principal, due
    from accepted_queue.job_common job
    where job.name = operation and job.priority = level and coalesce(job.singleton_key, '') collate "C" >= next_from
      and job.state < 'active' and not job.blocked and job.start_after <= now()
    order by coalesce(job.singleton_key, '') collate "C", job.start_after
    limit 1;
    exit when not found;
    principals := principals + 1;
    first_due := least(first_due, due);
    last_due := greatest(last_due, due);
    next_from := next_principal || chr(1);
  end loop;
  longest := now() - first_due;
  shortest := now() - last_due;
end
$$;

comment on function accepted.principal_waits is 'How many principals have due jobs of an operation, up to max_principals, and for how long the first due job of a principal has waited: of the principal that has waited longest, and of the one that has waited shortest. Reads one job of each principal, and only jobs of the highest priority that is due; before Postgres 18, also the index entries of deferred jobs, of which a million take a tenth of a second. Null for an operation with a limit.';

create function accepted.operation_metrics(
  operations text[],
  out operation text,
  out ready bigint,
  out oldest_seconds double precision,
  out workers bigint,
  out is_paused boolean,
  out limited_keys bigint,
  out waiting_principals integer,
  out longest_seconds double precision,
  out shortest_seconds double precision
)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_incremental_sort = off
set jit = off
as $$
  select
    named.name,
    case when due.jobs < 500 then due.jobs else greatest(queue.ready_count, due.jobs) end,
    coalesce(extract(epoch from now() - due.oldest_due_at), 0)::float8,
    accepted.count_workers(named.name),
    accepted.is_paused(named.name),
    case when accepted.is_limited(named.name) then (
      select count(*) from (
        select from accepted.limit_key held
        where held.operation = named.name and held.next_at > now() and held.next_at < 'infinity'
        limit 200
      ) held
    ) end,
    turn.principals,
    coalesce(extract(epoch from turn.longest), 0)::float8,
    coalesce(extract(epoch from turn.shortest), 0)::float8
  from unnest(operations) as named (name)
  left join accepted_queue.queue on queue.name = named.name
  cross join lateral (
    select count(*) as jobs, min(start_after) as oldest_due_at from (
      -- Reads only an index, if the table was vacuumed recently.
      select start_after from accepted_queue.job
      where job.name = named.name and state < 'active' and not blocked and start_after <= now()
      order by priority desc, created_on limit 500
    ) first
  ) due
  cross join lateral accepted.principal_waits(named.name, 200) turn;
$$;

comment on function accepted.operation_metrics is 'What the metrics show of each operation. ready is exact up to 500 jobs; above that, it is what pg-boss counted in the last 30 seconds. oldest_seconds is how long the oldest of the next 500 jobs has been due. limited_keys is how many keys wait for the limit of the operation, up to 200; null without a limit. The last three columns are those of accepted.principal_waits, up to 200 principals; null with a limit.';

create function accepted.database_metrics(
  out workers bigint,
  out draining_workers bigint,
  out silent_workers bigint,
  out oldest_transaction_seconds double precision,
  out xmin_age bigint,
  out hidden_sessions bigint,
  out partitions_ahead integer,
  out dead_rows jsonb,
  out enabled_endpoints bigint,
  out failing_endpoints bigint,
  out disabled_endpoints bigint
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
  with session as (
    select activity.xact_start, greatest(age(activity.backend_xid), age(activity.backend_xmin)) as held,
      -- Postgres shows these ids of all sessions, but it hides the rest of the sessions of other roles.
      activity.query = '<insufficient privilege>' as is_hidden
    from pg_stat_activity activity
    -- Sessions of other databases do not hold our rows. The snapshot of a VACUUM does not either.
    where (activity.datname = current_database() or activity.backend_type = 'walsender')
      and activity.pid <> pg_backend_pid()
      and not exists (select from pg_stat_progress_vacuum vacuum where vacuum.pid = activity.pid)
  ), holder as (
    select xact_start as since, held from session where held is not null
    union all
    select prepared, age(transaction) from pg_prepared_xacts where database = current_database()
    union all
    select null, greatest(age(xmin), age(catalog_xmin)) from pg_replication_slots
  ), day as (
    select ahead, accepted.has_partition(current_date + ahead) as has_partition from generate_series(0, 3) ahead
  )
  select
    count(*) filter (where w.status = 'ready' and not w.is_silent),
    count(*) filter (where w.status = 'draining' and not w.is_silent),
    count(*) filter (where w.is_silent),
    (select coalesce(max(extract(epoch from clock_timestamp() - since)), 0)::float8 from holder),
    (select coalesce(max(held), 0)::bigint from holder),
    (select count(*) from session where is_hidden),
    (select coalesce(min(ahead) filter (where not has_partition) - 1, 3) from day),
    (
      select jsonb_object_agg(name, dead) from (
        select
          case when part.partition is null then format('%s.%s', stats.schemaname, stats.relname) else 'accepted.job' end as name,
          sum(stats.n_dead_tup) as dead
        from pg_stat_all_tables stats
        left join accepted.job_partitions() part on part.partition = stats.relid
        where stats.schemaname = 'accepted' or stats.relid = 'accepted_queue.job_common'::regclass
        group by 1
      ) by_table
    ),
    (select count(*) from accepted.webhook_endpoint e where e.disabled_at is null and e.opened_at is null),
    (select count(*) from accepted.webhook_endpoint e where e.disabled_at is null and e.opened_at is not null),
    (select count(*) from accepted.webhook_endpoint e where e.disabled_at is not null)
  from (select status, accepted.is_overdue(heartbeat_at) as is_silent from accepted.worker) w;
$$;

comment on function accepted.database_metrics is 'What the metrics show of the database: live workers by status; how long the oldest transaction has been open, and how many transactions have begun since the oldest snapshot, among sessions, prepared transactions and replication slots; for how many days after today accepted.job has partitions (-1: not even for today); dead rows by table; webhook endpoints by state. hidden_sessions is the number of sessions whose transactions the owner of the function may not see: grant it pg_read_all_stats. Reads only statistics, catalogs and small tables.';

create function accepted.claimed_jobs(max_jobs integer)
returns table (
  job_id uuid,
  operation text,
  worker_id uuid,
  claimed_at timestamptz,
  heartbeat_at timestamptz,
  cancel_requested_at timestamptz
)
language plpgsql
stable
security definer
rows 100
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
  return query
    select job.id, job.operation, job.worker_id, queued.started_on, queued.heartbeat_on,
      case when job.cancel_requested then coalesce(job.cancel_requested_at, job.updated_at) end
    from (
      select * from accepted_queue.job active
      where active.state = 'active' and active.started_on is not null limit max_jobs
    ) queued
    -- With the offset, Postgres looks up each job.
    cross join lateral (select * from accepted.job where job.id = queued.id and job.ended_at is null offset 0) job;
end
$$;

comment on function accepted.claimed_jobs is 'Up to max_jobs jobs that workers have claimed and that have not ended. Views call this function.';

create function accepted.failed_jobs(max_jobs integer)
returns table (
  job_id uuid,
  operation text,
  ended_at timestamptz,
  error_code text,
  error_message text,
  is_retried boolean,
  has_payload boolean
)
language plpgsql
stable
security definer
rows 100
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
  return query
    with recent as materialized (
      select ended_job.job_id, ended_job.ended_at from accepted.ended_job
      where ended_job.ended_at >= now() - interval '24 hours' and ended_job.status = 'failed'
      order by ended_job.ended_at desc limit max_jobs
    ), retried as materialized (
      select distinct retry.retry_of as job_id from accepted.job retry
      -- A retry is newer than the failure. The hour is for clocks that differ. So Postgres opens no older partition.
      where retry.retry_of = any(array(select recent.job_id from recent))
        and retry.id >= accepted.uuid_floor(now() - interval '25 hours')
    )
    select job.id, job.operation, job.ended_at, job.error ->> 'code', job.error ->> 'message',
      job.id in (select retried.job_id from retried), job.payload is not null
    from recent
    -- With the offset, Postgres looks up each job.
    cross join lateral (
      select * from accepted.job
      where job.id = recent.job_id and job.ended_at = recent.ended_at and job.status = 'failed' offset 0
    ) job;
end
$$;

comment on function accepted.failed_jobs is 'The newest max_jobs failures of the last 24 hours. Views call this function.';

create function accepted.ended_jobs(
  max_jobs integer, since timestamptz default now() - interval '1 hour', before timestamptz default null
)
returns table (
  operation text,
  status accepted.job_status,
  ended_at timestamptz,
  wait_seconds double precision,
  run_seconds double precision
)
language plpgsql
stable
security definer
rows 1000
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
begin
  return query
    select job.operation, job.status, job.ended_at,
      extract(epoch from job.started_at - least(greatest(job.run_at, job.created_at), job.started_at))::float8,
      extract(epoch from job.ended_at - coalesce(job.attempt_started_at, job.started_at))::float8
    from (
      select recent.* from (
        select * from accepted.job
        -- Three hours from acceptance to the end, and one hour for clocks that differ.
        where job.id >= accepted.uuid_floor(since - interval '4 hours')
          and job.id < accepted.uuid_floor(coalesce(ended_jobs.before, now()) + interval '1 hour')
        order by job.id desc limit max_jobs
      ) recent
      where recent.ended_at >= since and (ended_jobs.before is null or recent.ended_at < ended_jobs.before)
        and recent.ended_at - recent.created_at <= interval '3 hours'
      union all
      select late.* from (
        select ended_job.job_id, ended_job.ended_at from accepted.ended_job
        where ended_job.ended_at >= since and (ended_jobs.before is null or ended_job.ended_at < ended_jobs.before)
        order by ended_job.ended_at desc limit max_jobs
      ) ended
      cross join lateral (
        select * from accepted.job
        where job.id = ended.job_id and job.ended_at = ended.ended_at
          and job.ended_at - job.created_at > interval '3 hours' offset 0
      ) late
    ) job;
end
$$;

comment on function accepted.ended_jobs is 'The jobs that ended since a time, by default in the last hour, and before another time. Reads the newest max_jobs jobs that were accepted up to four hours before the first time, and through accepted.ended_job as many that were accepted earlier. Views call this function.';

create function accepted.record_throughput() returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  this_hour timestamptz := date_trunc('hour', now());
  next_hour timestamptz;
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.record_throughput')) then
    return false;
  end if;
  select greatest(coalesce(max(hour), this_hour - interval '2 hours') + interval '1 hour', this_hour - interval '24 hours')
    into next_hour from accepted.throughput_hour;
  if next_hour >= this_hour then
    return false;
  end if;
  insert into accepted.throughput_hour (
    hour, operation, succeeded, failed, canceled, wait_p50, wait_p99, run_p50, run_p99
  )
  select next_hour, operation.name, coalesce(ended.succeeded, 0), coalesce(ended.failed, 0), coalesce(ended.canceled, 0),
    ended.wait_p50, ended.wait_p99, ended.run_p50, ended.run_p99
  from accepted.operation left join (
    select
      job.operation,
      count(*) filter (where job.status = 'succeeded') as succeeded,
      count(*) filter (where job.status = 'failed') as failed,
      count(*) filter (where job.status = 'canceled') as canceled,
      percentile_cont(0.5) within group (order by job.wait_seconds) as wait_p50,
      percentile_cont(0.99) within group (order by job.wait_seconds) as wait_p99,
      percentile_cont(0.5) within group (order by job.run_seconds) as run_p50,
      percentile_cont(0.99) within group (order by job.run_seconds) as run_p99
    from accepted.ended_jobs(1000000, next_hour, next_hour + interval '1 hour') job group by job.operation
  ) ended on ended.operation = operation.name;
  delete from accepted.throughput_hour where hour < this_hour - interval '8 days';
  return true;
end
$$;

comment on function accepted.record_throughput is 'Adds the next full hour to accepted.throughput_hour, at most 24 hours late, and deletes rows that are older than eight days. Returns whether it has added an hour; false also while another session does so. Reads the newest million jobs. The worker calls this function every minute.';

create view accepted.job_overview as
select
  job.id,
  job.operation,
  job.status,
  job.principal,
  job.percent,
  job.message,
  job.attempt,
  job.max_attempts,
  accepted.worker_name(job.worker_id) as worker,
  case when job.ended_at is null then queued.start_after end as due_at,
  coalesce(job.error, last.error) ->> 'code' as error_code,
  coalesce(job.error, last.error) ->> 'message' as error_message,
  job.resource,
  job.parent,
  job.created_at,
  job.started_at,
  job.ended_at,
  date_trunc('milliseconds', coalesce(job.ended_at, now()) - job.created_at) as age,
  date_trunc('milliseconds', coalesce(job.ended_at, now()) - job.started_at) as running_for,
  job.cancel_requested,
  operation.paused_at is not null as paused,
  operation.paused_reason,
  case when job.ended_at is null then queued.priority end as priority,
  job.group_id,
  case when job.ended_at is null and queued.policy = 'limited' then queued.singleton_key end as limit_key,
  job.idempotency_key,
  job.retry_of,
  job.children,
  job.waiting_for,
  job.coalesced,
  job.expires_at,
  queued.state::text as queue_state
from accepted.job
left join accepted_queue.job queued on queued.name = job.operation and queued.id = job.id
left join accepted.operation on operation.name = job.operation
left join lateral (
  select attempt.error from accepted.attempt where attempt.job_id = job.id order by attempt.attempt desc limit 1
) last on job.ended_at is null;

comment on view accepted.job_overview is 'All jobs at a glance. For the newest jobs: order by id desc limit 50. Reads the rows that the query selects, with up to four lookups each. The tables have indexes for conditions on id, on principal and on parent. To find failed jobs: accepted.failure and accepted.ended_job.';
comment on column accepted.job_overview.id is 'The job. Later jobs have higher ids.';
comment on column accepted.job_overview.operation is 'The kind of work.';
comment on column accepted.job_overview.status is 'The status that the client sees.';
comment on column accepted.job_overview.principal is 'The principal that submitted the job.';
comment on column accepted.job_overview.percent is 'Progress from 0 to 100.';
comment on column accepted.job_overview.message is 'The latest progress message.';
comment on column accepted.job_overview.attempt is 'Number of the current or last attempt. 0 before the first attempt.';
comment on column accepted.job_overview.max_attempts is 'The job fails after this many failed attempts.';
comment on column accepted.job_overview.worker is 'The host and process id of the worker that has the job, or last had it.';
comment on column accepted.job_overview.due_at is 'From this time on, workers may start the job, or its next attempt. Null once the job has ended.';
comment on column accepted.job_overview.error_code is 'Why the job failed, for programs. While the job has not ended: why its last attempt failed.';
comment on column accepted.job_overview.error_message is 'Why the job or its last attempt failed, for people.';
comment on column accepted.job_overview.resource is 'Path of the resource that the job creates.';
comment on column accepted.job_overview.parent is 'The job of which this job is a child.';
comment on column accepted.job_overview.created_at is 'When the request was accepted.';
comment on column accepted.job_overview.started_at is 'When the first attempt started.';
comment on column accepted.job_overview.ended_at is 'When the job ended.';
comment on column accepted.job_overview.age is 'Time from acceptance to the end of the job, or to now if the job has not ended.';
comment on column accepted.job_overview.running_for is 'Time from the start of the first attempt to the end of the job, or to now if the job has not ended.';
comment on column accepted.job_overview.cancel_requested is 'Whether cancellation has been requested.';
comment on column accepted.job_overview.paused is 'Whether the operation is paused, so that workers start none of its jobs.';
comment on column accepted.job_overview.paused_reason is 'Why the operation is paused.';
comment on column accepted.job_overview.priority is 'A job with a higher priority starts first. Null once the job has ended.';
comment on column accepted.job_overview.group_id is 'The group of the job, if its operation has groups.';
comment on column accepted.job_overview.limit_key is 'The key by which the limit of the operation counts the job; * if the limit has no keys. Null once the job has ended.';
comment on column accepted.job_overview.idempotency_key is 'The key by which the worker deduplicates jobs.';
comment on column accepted.job_overview.children is 'How many children the job has: {total, succeeded, failed, canceled}.';
comment on column accepted.job_overview.waiting_for is 'The jobs that must end before this job starts.';
comment on column accepted.job_overview.retry_of is 'The job that this job retries.';
comment on column accepted.job_overview.coalesced is 'Number of further requests that share the job.';
comment on column accepted.job_overview.expires_at is 'From this time on, the record counts as gone.';
comment on column accepted.job_overview.queue_state is 'The state of the job in accepted_queue.job, which pg-boss maintains. Null if that table has no row for the job.';

create function accepted.find_jobs(
  filter jsonb,
  before uuid default null,
  max_jobs integer default 50,
  max_read integer default 50000,
  out job_ids uuid[],
  out next_before uuid
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_sort = off
set jit = off
as $$
declare
  wanted record;
  condition text;
  -- Few jobs have a retry, and is_retried takes longer.
  is_not_retried constant text := 'job.payload is not null and not (
    exists (select from accepted.job retry where retry.retry_of = job.id and retry.id > job.id offset 0)
    and accepted.is_retried(job.id))';
  is_pending boolean;
  source text;
  bounds text;
  before_id uuid := coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
  unread integer := max_read;
  chunk integer;
  found_ids uuid[];
  read_count integer;
begin
  select * into wanted from jsonb_to_record(filter) as given (
    status text, operation text, principal text, error text, resource text, key text, parent uuid,
    "from" timestamptz, "to" timestamptz, retried boolean, can text, since uuid
  );
  is_pending := coalesce(wanted.status in ('queued', 'running'), false);
  before_id := least(before_id, accepted.uuid_floor(wanted."to"));
  bounds := format('%%1$s < $1 and %%1$s >= %L', coalesce(accepted.uuid_floor(wanted."from"),
    '00000000-0000-0000-0000-000000000000'));
  condition := concat_ws(' and ', 'true',
    'job.status = ' || quote_literal(wanted.status) || '::accepted.job_status',
    'job.operation = ' || quote_literal(wanted.operation),
    'job.principal = ' || quote_literal(wanted.principal),
    -- A job that has not ended has the error of its last attempt.
    case when is_pending then '(
        select attempt.error from accepted.attempt where attempt.job_id = job.id order by attempt.attempt desc limit 1
      )' else 'job.error' end || ' ->> ''code'' = ' || quote_literal(wanted.error),
    'job.resource = ' || quote_literal(wanted.resource),
    'job.parent = ' || quote_literal(wanted.parent) || '::uuid',
    'job.idempotency_key = ' || quote_literal(wanted.key),
    -- An undo has the filter of the job that made the retries.
    case when wanted.retried then '' else 'not ' end || case when wanted.retried is not null and wanted.since is null then
      'exists (select from accepted.job retry
        where retry.retry_of = job.id and retry.id > job.id and retry.status <> ''canceled'' offset 0)' end,
    case wanted.can
      when 'cancel' then 'job.ended_at is null and not job.cancel_requested'
      when 'retry' then 'job.status in (''failed'', ''canceled'') and ' || is_not_retried
      when 'redrive' then 'job.status = ''failed'' and ' || is_not_retried
      when 'undo' then format('retry.id > %L and retry.ended_at is null and not retry.cancel_requested', wanted.since)
    end,
    -- A job that changes other jobs leaves those like itself alone.
    case when wanted.can is not null then 'job.operation not in (''batch'', ''jobs.bulk'')' end);
  -- Reads the smallest index that has all jobs of the filter, in the order of their ids.
  if wanted.can = 'undo' then
    -- Reads the retries since the beginning of the day, so that Postgres opens no older partition. The index of a
    -- partition is not in the order of their ids.
    source := format('select retry.retry_of as id, job.matches from accepted.job retry
      left join lateral (select %s as matches from accepted.job where job.id = retry.retry_of offset 0) job on true
      where retry.id >= %L and %s order by retry.retry_of desc',
      condition, accepted.uuid_floor(date_trunc('day', accepted.uuid_time(wanted.since), 'UTC')),
      format(bounds, 'retry.retry_of'));
  elsif wanted.parent is not null then
    source := format('select job.id, %s as matches from accepted.job where parent = %L and %s order by parent desc, id desc',
      condition, wanted.parent, format(bounds, 'id'));
  elsif wanted.principal is not null then
    source := format('select job.id, %s as matches from accepted.job
      where principal >= %L and (principal, id) >= (%2$L, ''00000000-0000-0000-0000-000000000000''::uuid)
        and (principal, id) < (%2$L, $1) and %3$s order by principal desc, id desc',
      condition, wanted.principal, format(bounds, 'id'));
  elsif wanted.status = 'failed' or (wanted.error is not null and not is_pending) or wanted.can = 'redrive' then
    source := format('select ended.job_id as id, job.matches from accepted.ended_job ended
      cross join lateral (
        select %s as matches from accepted.job where job.id = ended.job_id and job.ended_at = ended.ended_at offset 0
      ) job
      where ended.status = ''failed'' and %s order by ended.job_id desc',
      condition, format(bounds, 'ended.job_id'));
  elsif wanted.status = 'running' then
    source := format('select pending.id, job.matches from (
        select id from (
          select job_id as id from accepted.claimed_jobs(10000) union select job_id from accepted.parent
          union select job_id from accepted.ending
        ) pending where %s order by id desc
      ) pending
      cross join lateral (select %s as matches from accepted.job where job.id = pending.id offset 0) job
      order by pending.id desc',
      format(bounds, 'id'), condition);
  elsif wanted.status = 'queued' and wanted.operation <> 'batch' then
    source := format('select queued.id, job.matches from accepted_queue.job_common queued
      cross join lateral (select %s as matches from accepted.job where job.id = queued.id offset 0) job
      where queued.name = %L and queued.state < ''active'' and %s order by queued.name desc, queued.id desc',
      condition, wanted.operation, format(bounds, 'queued.id'));
  else
    source := format('select job.id, %s as matches from accepted.job where %s order by id desc',
      condition, format(bounds, 'id'));
  end if;
  -- Looking up a job takes several times as long as reading the next one.
  if source ~ 'join lateral|accepted\.attempt' or wanted.retried is not null then
    unread := greatest(unread / 5, 1);
  end if;
  job_ids := '{}';
  chunk := max_jobs;
  loop
    chunk := least(chunk, unread);
    execute format('with read as materialized (%s limit %s)
      select array(select distinct id from read where matches order by id desc limit $2), count(*),
        (select id from read order by id limit 1)
      from read', source, chunk)
    into found_ids, read_count, next_before using before_id, max_jobs - cardinality(job_ids);
    job_ids := job_ids || found_ids;
    unread := unread - read_count;
    before_id := next_before;
    if cardinality(job_ids) = max_jobs then
      next_before := job_ids[max_jobs];
      return;
    elsif read_count < chunk then
      next_before := null;
      return;
    elsif unread <= 0 then
      return;
    end if;
    chunk := least(4 * chunk, 10000);
  end loop;
end
$$;

comment on function accepted.find_jobs is 'Finds jobs, the newest first: up to max_jobs ids that match all members of the filter, which are status, operation, principal, error (the code; with the status queued or running, that of the last attempt), resource, key (the idempotency key), parent, from and to (times of acceptance), retried (whether it has a retry that was not canceled), can (cancel, retry or redrive: the jobs with which accepted.bulk would do so; undo with since: the jobs whose retries are newer than that job and have not ended). Reads up to max_read jobs older than the id before, or a fifth of them through another index than those of accepted.job. next_before is the value of before for the next call; null when there are no more jobs. The console and accepted.bulk call this function.';

create function accepted.bulk(action text, filter jsonb default '{}', principal text default 'anonymous') returns uuid
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  new_id uuid := accepted.uuid7();
  unknown text;
begin
  if action is null or action not in ('cancel', 'retry', 'redrive', 'undo') then
    raise exception 'the action % is unknown', coalesce(quote_literal(action), 'null')
      using errcode = 'invalid_parameter_value', hint = 'The actions are cancel, retry, redrive and undo.';
  elsif coalesce(jsonb_typeof(filter), 'null') <> 'object' then
    raise exception 'the filter is no object' using errcode = 'invalid_parameter_value',
      hint = 'For example: {"operation": "todo.create", "status": "failed"}';
  end if;
  select name into unknown from jsonb_object_keys(filter) name
    where name <> all('{status,operation,principal,error,resource,key,parent,from,to,retried,since}'::text[]) limit 1;
  if unknown is not null or (action = 'undo') <> (filter ? 'since') then
    raise exception 'the filter has %', coalesce('an unknown member: ' || unknown,
        case when action = 'undo' then 'no member since' else 'a member since' end)
      using errcode = 'invalid_parameter_value',
        hint = 'The members are status, operation, principal, error, resource, key, parent, from, to and retried; for undo also since, the id of the job to undo.';
  end if;
  perform accepted.assert_principal(principal);
  -- Raises an error if a value does not have the type of its member.
  perform accepted.find_jobs(filter || jsonb_build_object('can', action), max_jobs => 1, max_read => 1);
  perform accepted.insert_job(new_id, 'jobs.bulk', jsonb_build_object('action', action, 'filter', filter), principal,
    is_bulk => true);
  perform accepted.record_action('bulk.' || action, new_id::text);
  perform accepted.notify_watchers(new_id);
  perform accepted.notify_workers('jobs.bulk');
  return new_id;
end
$$;

comment on function accepted.bulk is 'Enqueues a job that cancels, retries or redrives all jobs that a filter finds, and returns its id. Its progress says how far it is. Canceling it stops it; what it has done until then stays done. retry: failed and canceled jobs. redrive: failed jobs. Both leave out jobs that have a retry. undo: cancels the retries that such a job has made and that have not ended; the filter is that of the job, with since, its id. See accepted.find_jobs for the filter. Errors: invalid_parameter_value (22023).';

create function accepted.change_jobs(action text, job_ids uuid[], since uuid default null) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_variable
declare
  job_id uuid;
  changed integer := 0;
begin
  foreach job_id in array job_ids loop
    begin
      if action = 'cancel' then
        perform accepted.cancel(job_id);
      elsif action = 'undo' then
        perform accepted.cancel(retry.id) from accepted.job retry
          where retry.retry_of = job_id and retry.id > since and retry.ended_at is null;
      elsif not accepted.is_retried(job_id) then
        perform accepted.retry(job_id);
      else
        continue;
      end if;
      changed := changed + 1;
    exception
      -- The job has changed since it was found.
      when object_not_in_prerequisite_state or no_data_found then
        null;
    end;
  end loop;
  return changed;
end
$$;

comment on function accepted.change_jobs is 'Cancels or retries jobs, or cancels their retries that are newer than since, and returns how many. Leaves out jobs to which this can no longer be done. Pass up to 50 ids: each takes a subtransaction. The worker calls this function for accepted.bulk.';

create view accepted.timeline as
select job.id as job_id, event.at, event.event, event.attempt, event.worker, event.detail
from accepted.job
left join accepted_queue.job queued on queued.name = job.operation and queued.id = job.id
cross join (values ('released before it ended; the attempt does not count')) release (detail)
cross join lateral (
  select
    job.created_at as at, 'accepted' as event, null::integer as attempt, null::text as worker,
    concat_ws(', ', 'by ' || job.principal, 'a retry of ' || job.retry_of, 'to run at ' || job.run_at) as detail
  union all
  select
    queued.start_after as at, 'due' as event, null::integer as attempt, null::text as worker,
    case
      when accepted.is_paused(job.operation) then 'the operation is paused'
      when job.waiting_for is not null then 'waits for other jobs: ' || array_to_string(job.waiting_for, ', ')
      when queued.blocked then 'waits to run in quarantine'
      when queued.start_after > now() and job.attempt > 0 then 'waits for its next attempt'
      when queued.start_after > now() then 'deferred'
      when queued.policy = 'limited' and exists (
        select from accepted.limit_key k
        where k.operation = job.operation and k.key = queued.singleton_key and k.next_at > now() and k.next_at < 'infinity'
      ) then 'waits for the limit of its operation'
      else 'waits for a worker'
    end as detail
  where queued.state < 'active'
  union all
  select job.run_at as at, 'due' as event, null::integer as attempt, null::text as worker, null::text as detail
  where job.run_at is not null and not coalesce(queued.state < 'active', false)
  union all
  select
    attempt.started_at as at, 'started' as event, attempt.attempt as attempt,
    accepted.worker_name(attempt.worker_id) as worker, null::text as detail
  from accepted.attempt where attempt.job_id = job.id and attempt.started_at is not null
  union all
  select
    attempt.failed_at as at, 'attempt failed' as event, attempt.attempt as attempt,
    accepted.worker_name(attempt.worker_id) as worker,
    (attempt.error ->> 'code') || ': ' || (attempt.error ->> 'message') as detail
  from accepted.attempt where attempt.job_id = job.id
  union all
  select
    coalesce(job.attempt_started_at, job.started_at) as at, 'started' as event, nullif(job.attempt, 0) as attempt,
    accepted.worker_name(job.worker_id) as worker, case when job.status = 'queued' then release.detail end as detail
  where job.started_at is not null
    and not exists (select from accepted.attempt where attempt.job_id = job.id and attempt.attempt = job.attempt)
  union all
  -- The first run, if it was released and the job has started again. The row of the job has the worker of the last run.
  select job.started_at as at, 'started' as event, 1 as attempt, null::text as worker, release.detail as detail
  where job.started_at < job.attempt_started_at and not exists (
    select from accepted.attempt
    where attempt.job_id = job.id and (
      -- Workers keep milliseconds.
      attempt.started_at between job.started_at - interval '1 millisecond' and job.started_at
      -- An attempt that failed before it started has set started_at to the time of its failure.
      or attempt.failed_at = job.started_at
    )
  )
  union all
  select
    job.progress_at as at, 'progress' as event, nullif(job.attempt, 0) as attempt,
    accepted.worker_name(job.worker_id) as worker,
    concat_ws(' ', job.percent || '%', job.message) as detail
  where job.progress_at is not null
  union all
  select
    queued.heartbeat_on as at, 'heartbeat' as event, queued.retry_count + 1 as attempt,
    accepted.worker_name(job.worker_id) as worker, null::text as detail
  where queued.state = 'active' and queued.heartbeat_on is not null
  union all
  select
    job.cancel_requested_at as at, 'cancel requested' as event, null::integer as attempt, null::text as worker,
    null::text as detail
  where job.cancel_requested_at is not null
  union all
  select
    ending.decided_at as at, 'end decided' as event, null::integer as attempt, null::text as worker,
    concat_ws(', ', ending.status || ' when abandon has committed', case when ending.failures > 0 then
      format('abandon has failed %s times: %s', ending.failures, ending.last_error) end) as detail
  from accepted.ending where ending.job_id = job.id
  union all
  select
    quarantine.crashed_at as at, 'quarantined' as event, null::integer as attempt, null::text as worker,
    format('workers that died while they held the job: %s; of these, count as crashes of the job: %s',
      quarantine.rescues, quarantine.crashes) as detail
  from accepted.quarantine where quarantine.job_id = job.id
  union all
  select
    job.ended_at as at, job.status::text as event, nullif(job.attempt, 0) as attempt,
    accepted.worker_name(job.worker_id) as worker, (job.error ->> 'code') || ': ' || (job.error ->> 'message') as detail
  where job.ended_at is not null
  union all
  select
    retry.created_at as at, 'retried' as event, null::integer as attempt, null::text as worker,
    format('as job %s, which is %s', retry.id, retry.status) as detail
  from accepted.job retry where retry.retry_of = job.id
  union all
  select
    child.created_at as at, 'child' as event, null::integer as attempt, null::text as worker,
    format('job %s, which is %s', child.id, child.status) as detail
  from accepted.job child where child.parent = job.id
) event;

comment on view accepted.timeline is 'The life of one job: where job_id = … order by at. Reads the rows of this job, of its attempts, retries and children. Of the runs that were released, it has the first one and the last one.';
comment on column accepted.timeline.job_id is 'The job. Use this column as the condition.';
comment on column accepted.timeline.at is 'When it happened. For due: from this time on, workers may start the job.';
comment on column accepted.timeline.event is 'accepted, due, started, attempt failed, progress (the latest), heartbeat (the latest), cancel requested, end decided, quarantined, the final status, retried, child.';
comment on column accepted.timeline.attempt is 'Number of the attempt.';
comment on column accepted.timeline.worker is 'The host and process id of the worker.';
comment on column accepted.timeline.detail is 'The principal, the error, the progress message, or the other job.';

create view accepted.backlog as
select
  operation.name as operation,
  greatest(waiting.ready, case when waiting.ready = 10000 then queue.ready_count end) as ready,
  greatest(waiting.deferred, case when waiting.deferred = 10000 then queue.deferred_count end) as deferred,
  (
    select count(*) from accepted_queue.job
    where job.name = operation.name and job.state = 'active' and job.started_on is not null
  ) as running,
  date_trunc('seconds', now() - waiting.oldest_due_at) as oldest,
  operation.paused_at is not null as paused,
  operation.paused_at,
  operation.paused_reason,
  accepted.count_workers(operation.name) as workers,
  (select count(*) from accepted.quarantine where quarantine.operation = operation.name) as quarantined,
  (
    select count(*) from (
      select from accepted.limit_key
      where limit_key.operation = operation.name and limit_key.next_at > now() and limit_key.next_at < 'infinity'
      limit 10000
    ) held
  ) as held_keys
from accepted.operation
left join accepted_queue.queue on queue.name = operation.name
cross join lateral accepted.count_waiting(operation.name, 10000) waiting
order by operation.name;

comment on view accepted.backlog is 'How many jobs wait and run, per operation. Counts up to 10,000 jobs of an operation that are ready, and 10,000 that are deferred. Above that, the numbers are those that pg-boss counts every 30 seconds while a worker runs.';
comment on column accepted.backlog.operation is 'The operation.';
comment on column accepted.backlog.ready is 'Jobs that are due. They could start now, unless they wait for the limit of the operation.';
comment on column accepted.backlog.deferred is 'Jobs that are due later: deferred, or waiting for their retry.';
comment on column accepted.backlog.running is 'Jobs that workers have claimed.';
comment on column accepted.backlog.oldest is 'For how long the oldest ready job has been due. Of more than 10,000 ready jobs, only the next 10,000 count.';
comment on column accepted.backlog.paused is 'Whether the operation is paused.';
comment on column accepted.backlog.paused_at is 'When it was paused.';
comment on column accepted.backlog.paused_reason is 'Why it is paused.';
comment on column accepted.backlog.workers is 'Number of live workers that claim jobs of the operation.';
comment on column accepted.backlog.quarantined is 'Jobs that a worker held when it died. They run again apart from other jobs.';
comment on column accepted.backlog.held_keys is 'Keys whose jobs wait for the limit of the operation, up to 10,000.';

create view accepted.stuck as
select
  held.job_id,
  held.operation,
  problem.why,
  problem.what_to_do,
  problem.since,
  problem.code
from accepted.claimed_jobs(10000) held
join accepted.operation on operation.name = held.operation
left join accepted.worker on worker.id = held.worker_id
cross join lateral (
  select
    accepted.worker_name(held.worker_id) as worker,
    held.heartbeat_at < now() - make_interval(secs => operation.heartbeat_seconds) as is_silent
) known
cross join lateral (
  select
    concat_ws(': ', 'its worker is silent', known.worker) as why,
    case
      when accepted.count_workers(operation.name) > 0 then 'Nothing: another worker rescues the job within seconds. If this row stays, read the logs of the workers.'
      else format('Start a worker that claims %s. It rescues the job.', operation.name)
    end as what_to_do,
    held.heartbeat_at as since,
    'worker-silent' as code
  where known.is_silent
  union all
  select
    'its handler still runs although cancellation was requested' as why,
    concat_ws(' ', 'Let the handler watch job.signal. To end the job now, restart its worker', known.worker) as what_to_do,
    held.cancel_requested_at as since,
    'cancel-ignored' as code
  -- Workers find a cancel request within two seconds.
  where not known.is_silent and held.cancel_requested_at < now() - interval '10 seconds'
  union all
  select
    format('it has run for longer than its timeout of %s s', operation.timeout_seconds) as why,
    format(
      'Find out what its worker %s waits for: select * from pg_stat_activity where application_name like ''accepted worker%%''. Or cancel the job: select accepted.cancel(%L)',
      coalesce(known.worker, ''), held.job_id
    ) as what_to_do,
    held.claimed_at + make_interval(secs => operation.timeout_seconds) as since,
    'timed-out' as code
  -- A job has this time once to perform and once to settle.
  where not known.is_silent and held.cancel_requested_at is null
    and held.claimed_at < now() - make_interval(secs => 2 * operation.timeout_seconds + 5)
) problem
union all
select
  quarantine.job_id,
  quarantine.operation,
  case
    when quarantine.rescues = 1 then 'a worker died while it held the job; the job waits to run in quarantine'
    else format('%s workers died while they held the job; the job waits to run in quarantine', quarantine.rescues)
  end as why,
  format('Read the logs of the worker that died. If the job crashes workers, cancel it: select accepted.cancel(%L)',
    quarantine.job_id) as what_to_do,
  quarantine.crashed_at as since,
  'quarantined' as code
from (select * from accepted.quarantine order by quarantine.crashed_at limit 1000) quarantine
-- A job that was canceled stays in this table for some minutes.
where exists (select from accepted.job where job.id = quarantine.job_id and job.ended_at is null offset 0)
union all
select
  ending.job_id,
  ending.operation,
  case
    when ending.failures > 0 then format('abandon has failed %s times: %s', ending.failures, ending.last_error)
    else 'its end is decided, but no process runs abandon'
  end as why,
  case
    when ending.failures > 0 then format('Mend the abandon function of %s, or what it needs. It runs again by itself, next at %s.', ending.operation, ending.due_at)
    else format('Start a worker or an API that has the operation %s.', ending.operation)
  end as what_to_do,
  ending.decided_at as since,
  case when ending.failures > 0 then 'abandon-failed' else 'abandon-waits' end as code
from (
  select * from accepted.ending where failures > 0 or decided_at < now() - interval '10 seconds'
  order by decided_at limit 1000
) ending
union all
select
  waiting.id as job_id,
  operation.name as operation,
  case
    when operation.paused_at is null then 'it has been due for more than an hour, and no worker claims ' || operation.name
    else concat_ws(': ', 'its operation is paused, and jobs wait', operation.paused_reason)
  end as why,
  case
    when operation.paused_at is null then format('Start a worker that claims %s.', operation.name)
    else format('When the reason is gone: select accepted.resume(%L)', operation.name)
  end as what_to_do,
  case when operation.paused_at is null then waiting.due_at else operation.paused_at end as since,
  case when operation.paused_at is null then 'no-worker' else 'paused' end as code
from accepted.operation
cross join lateral (
  select * from accepted.due_jobs(
    operation.name, case when operation.paused_at is null then now() - interval '1 hour' else now() end, 10000
  ) due
  order by due.due_at limit case when operation.paused_at is null then 100 else 1 end
) waiting
where operation.paused_at is not null or accepted.count_workers(operation.name) = 0
order by since;

comment on view accepted.stuck is 'Jobs and operations that need intervention. Reads up to 10,000 running jobs, 1,000 jobs in quarantine, all jobs whose end is decided, and 10,000 due jobs of each operation that is paused or has no worker. Returns up to 100 due jobs of an operation without workers, and one of a paused operation.';
comment on column accepted.stuck.job_id is 'The job. For a paused operation, the job that has been due for the longest time.';
comment on column accepted.stuck.operation is 'The operation.';
comment on column accepted.stuck.why is 'What is wrong.';
comment on column accepted.stuck.what_to_do is 'What a person can do about it.';
comment on column accepted.stuck.code is 'What is wrong, for programs: worker-silent, cancel-ignored, timed-out, quarantined, abandon-failed, abandon-waits, no-worker or paused.';
comment on column accepted.stuck.since is 'When the problem began.';

create view accepted.failure as
select
  failed.operation,
  failed.error_code,
  count(*) as jobs,
  count(*) filter (where failed.is_retried) as retried,
  count(*) filter (where not failed.has_payload) as not_retryable,
  min(failed.ended_at) as first_at,
  max(failed.ended_at) as last_at,
  (array_agg(failed.job_id order by failed.ended_at desc))[1] as example_id,
  (array_agg(failed.error_message order by failed.ended_at desc))[1] as example_message
from accepted.failed_jobs(10000) failed
group by failed.operation, failed.error_code
order by jobs desc, last_at desc;

comment on view accepted.failure is 'The failures of the last 24 hours, by operation and error code. Reads the newest 10,000 failures. To run them again: select accepted.redrive(operation, error_code).';
comment on column accepted.failure.operation is 'The operation.';
comment on column accepted.failure.error_code is 'The code of the error, for example handler-error.';
comment on column accepted.failure.jobs is 'Number of jobs that failed.';
comment on column accepted.failure.retried is 'How many of the jobs have a retry, also a canceled one. accepted.redrive retries a job again if its retry was canceled.';
comment on column accepted.failure.not_retryable is 'How many of the jobs have lost their payload, so that they cannot be retried.';
comment on column accepted.failure.first_at is 'When the first of them failed.';
comment on column accepted.failure.last_at is 'When the last of them failed.';
comment on column accepted.failure.example_id is 'The job that failed last.';
comment on column accepted.failure.example_message is 'The message of its error.';

create view accepted.throughput as
select
  date_trunc('minute', ended.ended_at) as minute,
  ended.operation,
  count(*) filter (where ended.status = 'succeeded') as succeeded,
  count(*) filter (where ended.status = 'failed') as failed,
  count(*) filter (where ended.status = 'canceled') as canceled,
  round(percentile_cont(0.5) within group (order by ended.wait_seconds)::numeric, 3)::float8 as wait_p50,
  round(percentile_cont(0.99) within group (order by ended.wait_seconds)::numeric, 3)::float8 as wait_p99,
  round(percentile_cont(0.5) within group (order by ended.run_seconds)::numeric, 3)::float8 as run_p50,
  round(percentile_cont(0.99) within group (order by ended.run_seconds)::numeric, 3)::float8 as run_p99
from accepted.ended_jobs(100000) ended
group by 1, 2
order by minute desc, operation;

comment on view accepted.throughput is 'What has ended in the last hour, per minute and operation. Reads the newest 100,000 jobs of the last five hours, and the newest 100,000 ends of jobs that were accepted earlier. If there are more, the numbers of the first minutes are too low.';
comment on column accepted.throughput.minute is 'The minute.';
comment on column accepted.throughput.operation is 'The operation.';
comment on column accepted.throughput.succeeded is 'Number of jobs that succeeded in this minute.';
comment on column accepted.throughput.failed is 'Number of jobs that failed.';
comment on column accepted.throughput.canceled is 'Number of jobs that were canceled.';
comment on column accepted.throughput.wait_p50 is 'The median time from when a job was due to the start of its first attempt, in seconds. Null if none of the jobs started.';
comment on column accepted.throughput.wait_p99 is 'The 99th percentile of this time, in seconds.';
comment on column accepted.throughput.run_p50 is 'The median time from the start of the last attempt to the end of the job, in seconds. Null if none of the jobs started.';
comment on column accepted.throughput.run_p99 is 'The 99th percentile of this time, in seconds.';

create view accepted.storage as
select
  relation.oid::regclass::text as relation,
  (accepted.uuid_time(part.first_id) at time zone 'UTC')::date as day,
  coalesce(nullif(stats.n_live_tup, 0), greatest(relation.reltuples, 0)::bigint) as rows,
  pg_table_size(relation.oid) as heap_bytes,
  pg_indexes_size(relation.oid) as index_bytes,
  stats.n_dead_tup as dead_rows,
  greatest(stats.last_vacuum, stats.last_autovacuum) as last_vacuum,
  accepted.uuid_time(part.end_id) + make_interval(secs => (select max(keep_seconds) from accepted.operation)) as drops_after
from pg_class relation
join pg_stat_all_tables stats on stats.relid = relation.oid
left join accepted.job_partitions() part on part.partition = relation.oid
where relation.relkind = 'r' and (
  relation.relnamespace = 'accepted'::regnamespace or relation.oid = 'accepted_queue.job_common'::regclass
)
order by day, relation;

comment on view accepted.storage is 'The tables with their sizes: a partition of accepted.job per day, and the others. Reads only the catalog and the statistics.';
comment on column accepted.storage.relation is 'The table.';
comment on column accepted.storage.day is 'The first day (UTC) whose jobs are in the partition. Null for other tables.';
comment on column accepted.storage.rows is 'Number of rows, as estimated by Postgres.';
comment on column accepted.storage.heap_bytes is 'Size of the rows, with long values that are stored separately.';
comment on column accepted.storage.index_bytes is 'Size of the indexes.';
comment on column accepted.storage.dead_rows is 'Number of rows that vacuum has not removed yet.';
comment on column accepted.storage.last_vacuum is 'When the table was last vacuumed.';
comment on column accepted.storage.drops_after is 'An estimate: the end of the last day of the partition, plus the longest time for which an operation keeps records. The partition is dropped when all its jobs have ended and expired.';

create view accepted.worker_overview as
select
  worker.id,
  accepted.worker_name(worker.id) as worker,
  worker.status,
  accepted.is_overdue(worker.heartbeat_at) as silent,
  coalesce(held.running, 0) as running,
  held.oldest_since,
  held.job_ids,
  worker.operations,
  worker.version,
  worker.started_at,
  worker.heartbeat_at
from accepted.worker
left join (
  select
    worker_id,
    count(*) as running,
    min(claimed_at) as oldest_since,
    (array_agg(job_id order by claimed_at))[1:10] as job_ids
  from accepted.claimed_jobs(10000)
  group by worker_id
) held on held.worker_id = worker.id
order by worker;

comment on view accepted.worker_overview is 'The worker processes, and what each holds. Reads up to 10,000 running jobs. A job without perform is not counted: it is running only while its transaction is open.';
comment on column accepted.worker_overview.id is 'The id of the process.';
comment on column accepted.worker_overview.worker is 'Its host and process id.';
comment on column accepted.worker_overview.status is 'ready, or draining: it claims no more jobs.';
comment on column accepted.worker_overview.silent is 'Whether its heartbeat is overdue.';
comment on column accepted.worker_overview.running is 'Number of jobs that it runs.';
comment on column accepted.worker_overview.oldest_since is 'When the first of these jobs was claimed.';
comment on column accepted.worker_overview.job_ids is 'The ten jobs that it has held for the longest time.';
comment on column accepted.worker_overview.operations is 'The operations whose jobs it claims.';
comment on column accepted.worker_overview.version is 'Its version of Accepted.';
comment on column accepted.worker_overview.started_at is 'When it started.';
comment on column accepted.worker_overview.heartbeat_at is 'Its last heartbeat.';

create view accepted.held_key as
select
  held.principal,
  held.key,
  held.job_id,
  job.operation,
  job.status,
  held.created_at,
  case when job.id is null then held.created_at when job.ended_at is null then null else job.expires_at end as free_at
from accepted.idempotency_key held
left join accepted.job on job.id = held.job_id;

comment on view accepted.held_key is 'The idempotency keys that clients have sent: where principal = … and key = …. Reads the rows that the query selects, with one lookup each.';
comment on column accepted.held_key.principal is 'The principal that sent the key.';
comment on column accepted.held_key.key is 'The key.';
comment on column accepted.held_key.job_id is 'The job that the key belongs to.';
comment on column accepted.held_key.operation is 'The operation of the job.';
comment on column accepted.held_key.status is 'The status of the job. Null if its record is gone.';
comment on column accepted.held_key.created_at is 'When the job took the key.';
comment on column accepted.held_key.free_at is 'From this time on, the key may be used for another request. Null while the job has not ended.';

create function accepted.newest_deliveries(endpoint_id uuid, max_jobs integer)
returns table (id uuid, status accepted.job_status, attempt integer, ended_at timestamptz, report jsonb)
language plpgsql
stable
security definer
rows 100
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
declare
  owner text := 'webhook:' || newest_deliveries.endpoint_id;
begin
  return query
    select job.id, job.status, job.attempt, job.ended_at, job.result from accepted.job
    -- Only one index has this order and these conditions.
    where principal >= owner and (principal, job.id) >= (owner, '00000000-0000-0000-0000-000000000000'::uuid)
      and (principal, job.id) <= (owner, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid) and operation = 'webhook.deliver'
    order by principal desc, job.id desc limit max_jobs;
end
$$;

comment on function accepted.newest_deliveries is 'The newest max_jobs jobs that deliver to a webhook endpoint. The report of an ended delivery is what accepted.delivery_log shows. Views call this function.';

create view accepted.delivery_log as
select
  endpoint.id as endpoint_id,
  delivery.id as delivery_id,
  (ended.report ->> 'jobId')::uuid as job_id,
  ended.attempt,
  ended.at,
  (ended.report ->> 'status')::integer as http_status,
  ended.error ->> 'code' as error_code,
  ended.error ->> 'message' as error_message,
  (ended.report ->> 'durationMs')::integer as duration_ms,
  ended.report ->> 'answer' as answer
from accepted.webhook_endpoint endpoint
cross join lateral accepted.newest_deliveries(endpoint.id, 100) delivery
cross join lateral (
  select failed.attempt, failed.failed_at as at, failed.error, failed.error -> 'details' -> 0 as report
  from accepted.attempt failed where failed.job_id = delivery.id
  union all
  select delivery.attempt, delivery.ended_at as at, null::jsonb as error, delivery.report
  where delivery.status = 'succeeded'
) ended;

comment on view accepted.delivery_log is 'The attempts to deliver webhooks that have ended: where endpoint_id = … order by at desc. Has the newest 100 deliveries of each endpoint, for as long as their records are kept.';
comment on column accepted.delivery_log.endpoint_id is 'The webhook endpoint.';
comment on column accepted.delivery_log.delivery_id is 'The job of the delivery.';
comment on column accepted.delivery_log.job_id is 'The job that was reported. Null: a test, or the worker died.';
comment on column accepted.delivery_log.attempt is 'Number of the attempt, from 1.';
comment on column accepted.delivery_log.at is 'When the attempt ended.';
comment on column accepted.delivery_log.http_status is 'The HTTP status of the answer. Null: there was none.';
comment on column accepted.delivery_log.error_code is 'Why the attempt failed. Null: it succeeded.';
comment on column accepted.delivery_log.error_message is 'Why the attempt failed, for people.';
comment on column accepted.delivery_log.duration_ms is 'How long the request took, in milliseconds.';
comment on column accepted.delivery_log.answer is 'The first 1,024 bytes of the answer, without control characters and credentials.';

create view accepted.schedule_overview as
select
  schedule.name,
  schedule.operation,
  schedule.expression,
  schedule.timezone,
  schedule.next_at,
  array_remove(schedule.next_at || array(
    select later from unnest(schedule.later_at) later where later > schedule.next_at order by later
  ), null) as next_fires,
  schedule.paused_at,
  schedule.paused_reason,
  schedule.last_at,
  schedule.last_job_id,
  (select job.status from accepted.job where job.id = schedule.last_job_id) as last_status,
  (select count(*) from accepted.schedule_request request where request.schedule = schedule.name) as requests
from accepted.schedule
order by schedule.name;

comment on view accepted.schedule_overview is 'The schedules at a glance. Reads the few rows of accepted.schedule and accepted.schedule_request, and one job for each schedule.';
comment on column accepted.schedule_overview.name is 'The name of the schedule.';
comment on column accepted.schedule_overview.operation is 'The operation of its jobs.';
comment on column accepted.schedule_overview.expression is 'A cron expression, or a recurrence rule (RFC 5545).';
comment on column accepted.schedule_overview.timezone is 'The time zone of the expression.';
comment on column accepted.schedule_overview.next_at is 'The next occurrence. While the schedule is paused, it passes without a job.';
comment on column accepted.schedule_overview.next_fires is 'The next five occurrences, or fewer if the rule ends.';
comment on column accepted.schedule_overview.paused_at is 'When it was paused. Null if it is not paused.';
comment on column accepted.schedule_overview.paused_reason is 'Why it is paused.';
comment on column accepted.schedule_overview.last_at is 'The last occurrence that became a job, or the last accepted.run_schedule.';
comment on column accepted.schedule_overview.last_job_id is 'That job.';
comment on column accepted.schedule_overview.last_status is 'The status of that job. Null if there is none, or if its record is gone.';
comment on column accepted.schedule_overview.requests is 'How often accepted.run_schedule and accepted.backfill_schedule were called without a worker having taken the request yet. While this number stays above 0, no worker that knows the schedule is running, or the payload of the schedule fails: its log says why.';

-- First partitions

select accepted.create_job_partitions();
