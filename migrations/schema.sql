-- What the migrations add up to, read back from the catalog of a database. Generated: npm run schema

create type accepted.job_state as enum ('queued', 'running', 'succeeded', 'failed', 'canceled');

create table accepted.api_key (
  id uuid not null,
  name text not null,
  principal text not null,
  hash bytea not null,
  created_at timestamp with time zone default now() not null,
  revoked_at timestamp with time zone,
  scopes text[] default '{}'::text[] not null,
  constraint api_key_hash_key UNIQUE (hash),
  constraint api_key_pkey PRIMARY KEY (id),
  constraint api_key_hash_sha256 CHECK ((octet_length(hash) = 32)),
  constraint api_key_scopes_known CHECK ((scopes <@ '{admin}'::text[]))
);
comment on table accepted.api_key is 'Keys that clients send as Authorization: Bearer. As long as there is none, and the app brings no authentication of its own, everybody is anonymous.';
comment on column accepted.api_key.id is 'UUIDv7.';
comment on column accepted.api_key.name is 'What the key is for, for people.';
comment on column accepted.api_key.principal is 'Who a request with this key is.';
comment on column accepted.api_key.hash is 'SHA-256 of the key. The key itself is shown once and stored nowhere.';
comment on column accepted.api_key.created_at is 'When the key was made.';
comment on column accepted.api_key.revoked_at is 'From then on the key is refused.';
comment on column accepted.api_key.scopes is 'What the key may do besides its principal''s own jobs: admin registers webhooks.';

create table accepted.attempt (
  job_id uuid not null,
  attempt integer not null,
  error jsonb not null,
  started_at timestamp with time zone,
  failed_at timestamp with time zone default now() not null,
  constraint attempt_pkey PRIMARY KEY (job_id, attempt)
);
comment on table accepted.attempt is 'One row per failed attempt of a job.';
comment on column accepted.attempt.job_id is 'The job.';
comment on column accepted.attempt.attempt is 'Which attempt failed, from 1.';
comment on column accepted.attempt.error is 'Why: {code, message, details?}, without secrets.';
comment on column accepted.attempt.started_at is 'When the attempt began.';
comment on column accepted.attempt.failed_at is 'When it failed.';

create table accepted.expiry (
  day date not null,
  next_page bigint not null,
  constraint expiry_pkey PRIMARY KEY (day)
);
comment on table accepted.expiry is 'One row per day whose jobs have all expired, and are being deleted.';
comment on column accepted.expiry.day is 'The day (UTC).';
comment on column accepted.expiry.next_page is 'The first page of the tables of keys and attempts that has not been looked through yet.';

create table accepted.idempotency_key (
  principal text not null,
  key text not null,
  fingerprint bytea not null,
  job_id uuid not null,
  created_at timestamp with time zone default now() not null,
  constraint idempotency_key_pkey PRIMARY KEY (principal, key),
  constraint idempotency_key_fingerprint_sha256 CHECK ((octet_length(fingerprint) = 32)),
  constraint idempotency_key_length CHECK (((length(key) >= 1) AND (length(key) <= 255)))
);
comment on table accepted.idempotency_key is 'One row per Idempotency-Key a client sent, committed with its job. Goes when the job''s record goes.';
comment on column accepted.idempotency_key.principal is 'Whose key it is; others may use the same key.';
comment on column accepted.idempotency_key.key is 'The Idempotency-Key, without quotes.';
comment on column accepted.idempotency_key.fingerprint is 'SHA-256 of the request; another request under the same key is refused with 422.';
comment on column accepted.idempotency_key.job_id is 'The job that the first request with this key became.';
comment on column accepted.idempotency_key.created_at is 'When the key was first used.';

create table accepted.job (
  id uuid not null,
  operation text not null,
  state accepted.job_state default 'queued'::accepted.job_state not null,
  principal text not null,
  idempotency_key text,
  resource text,
  percent smallint,
  message text,
  attempt integer default 0 not null,
  max_attempts integer not null,
  sequence bigint default 1 not null,
  result jsonb,
  error jsonb,
  payload jsonb,
  cancel_requested boolean default false not null,
  retry_of uuid,
  trace text,
  created_at timestamp with time zone default now() not null,
  started_at timestamp with time zone,
  updated_at timestamp with time zone default now() not null,
  ended_at timestamp with time zone,
  expires_at timestamp with time zone not null,
  attempt_started_at timestamp with time zone,
  progress_at timestamp with time zone,
  webhook_endpoint_id uuid,
  constraint job_pkey PRIMARY KEY (id),
  constraint job_attempt_range CHECK ((attempt >= 0)),
  constraint job_ended_at_when_final CHECK (((state = ANY (ARRAY['succeeded'::accepted.job_state, 'failed'::accepted.job_state, 'canceled'::accepted.job_state])) = (ended_at IS NOT NULL))),
  constraint job_error_when_failed CHECK (((state = 'failed'::accepted.job_state) = (error IS NOT NULL))),
  constraint job_percent_range CHECK (((percent >= 0) AND (percent <= 100)))
) partition by RANGE (id);
CREATE INDEX job_principal_id_idx ON ONLY accepted.job USING btree (principal, id);
comment on index accepted.job_principal_id_idx is 'GET /jobs: those of a principal, the newest first.';
CREATE INDEX job_retry_of_idx ON ONLY accepted.job USING btree (retry_of) WHERE (retry_of IS NOT NULL);
comment on index accepted.job_retry_of_idx is 'accepted jobs redrive: whether a failed job has been retried.';
CREATE INDEX job_updated_at_idx ON ONLY accepted.job USING brin (updated_at) WITH (pages_per_range='16', autosummarize='on');
comment on index accepted.job_updated_at_idx is 'Events and waiting requests: what has changed since a time.';
comment on table accepted.job is 'The status table: one row per accepted request, committed with it. What the status route shows is read from here.';
comment on column accepted.job.id is 'UUIDv7, so ordered by creation; also the id of the row in pgboss.job. The partitions are days of its time.';
comment on column accepted.job.operation is 'The kind of work, for example todo.create; also the name of its queue in pgboss.queue.';
comment on column accepted.job.state is 'queued, running, succeeded, failed or canceled. A job that waits for its retry is queued.';
comment on column accepted.job.principal is 'Who asked. Nobody else sees the job over HTTP.';
comment on column accepted.job.idempotency_key is 'The key the worker de-duplicates by, and hands on to services outside; none: the job''s own id serves outside.';
comment on column accepted.job.resource is 'Path of what the job makes, for example /todos/1; the client is sent there once it has succeeded.';
comment on column accepted.job.percent is 'Progress from 0 to 100 as the handler reports it; never decreases.';
comment on column accepted.job.message is 'The handler''s last word on its progress, for people.';
comment on column accepted.job.attempt is 'The attempt that runs or ran last, from 1; 0 until first claimed.';
comment on column accepted.job.max_attempts is 'After this many failed attempts the job has failed.';
comment on column accepted.job.sequence is 'Grows with every visible change; the ETag of the status.';
comment on column accepted.job.result is 'What the handler returned, when the operation declares a result.';
comment on column accepted.job.error is 'Why the job failed: {code, message, status?, details?}, without secrets. Only once failed.';
comment on column accepted.job.payload is 'What the worker got; kept for failed and canceled jobs only, so that they can be retried.';
comment on column accepted.job.cancel_requested is 'Somebody asked to cancel while the job was running.';
comment on column accepted.job.retry_of is 'The job this one is a retry of.';
comment on column accepted.job.trace is 'W3C traceparent of the request.';
comment on column accepted.job.created_at is 'When the request was accepted.';
comment on column accepted.job.started_at is 'When the first attempt began.';
comment on column accepted.job.updated_at is 'When sequence last grew.';
comment on column accepted.job.ended_at is 'When the job reached its final state.';
comment on column accepted.job.expires_at is 'From then on the record counts as gone (410) and its partition may be dropped; set anew when the job ends.';
comment on column accepted.job.attempt_started_at is 'When the attempt that runs, or ran last, began.';
comment on column accepted.job.progress_at is 'When that attempt last reported the percent of the job; null: it has not, and percent is from an earlier one.';
comment on column accepted.job.webhook_endpoint_id is 'The one webhook endpoint to tell the end to, when the request named one; null: all that match.';

create table accepted.processed_key (
  operation text not null,
  principal text not null,
  key text not null,
  job_id uuid not null,
  processed_at timestamp with time zone default now() not null,
  constraint processed_key_pkey PRIMARY KEY (operation, principal, key)
);
comment on table accepted.processed_key is 'The worker''s dedup table: a row is inserted in the transaction that settles a job with a key. A second job with the key changes nothing and ends like the first.';
comment on column accepted.processed_key.operation is 'The operation that was processed under the key.';
comment on column accepted.processed_key.principal is 'Whose key it is.';
comment on column accepted.processed_key.key is 'The idempotency key the job carried.';
comment on column accepted.processed_key.job_id is 'The job that had the effect.';
comment on column accepted.processed_key.processed_at is 'When that job settled.';

create table accepted.reconciliation (
  only_row boolean default true not null,
  ended_up_to uuid default '00000000-0000-0000-0000-000000000000'::uuid not null,
  "position" uuid default '00000000-0000-0000-0000-000000000000'::uuid not null,
  looked_at timestamp with time zone default '-infinity'::timestamp with time zone not null,
  horizon timestamp with time zone default now() not null,
  constraint reconciliation_pkey PRIMARY KEY (only_row),
  constraint reconciliation_only_row CHECK (only_row)
);
comment on table accepted.reconciliation is 'One row: how far the workers have compared accepted.job with pgboss.job. They take turns at it, a piece each five seconds, round and round.';
comment on column accepted.reconciliation.only_row is 'True; there is no other row.';
comment on column accepted.reconciliation.ended_up_to is 'Every job up to this id has ended, and final is final: a round begins after it.';
comment on column accepted.reconciliation."position" is 'The id up to which this round has come.';
comment on column accepted.reconciliation.looked_at is 'When the last piece was looked at.';
comment on column accepted.reconciliation.horizon is 'What has ended in the queue before then has been compared.';

create table accepted.run_time (
  operation text not null,
  seconds double precision not null,
  updated_at timestamp with time zone default now() not null,
  constraint run_time_pkey PRIMARY KEY (operation),
  constraint run_time_seconds_range CHECK ((seconds >= (0)::double precision))
);
comment on table accepted.run_time is 'How long jobs of an operation have run lately, from the begin of their last attempt to their end. The workers write it; estimates are made from it.';
comment on column accepted.run_time.operation is 'The operation.';
comment on column accepted.run_time.seconds is 'Moving average over the jobs that succeeded lately, in seconds.';
comment on column accepted.run_time.updated_at is 'When it was last written.';

create table accepted.schedule (
  name text not null,
  operation text not null,
  expression text not null,
  timezone text not null,
  next_at timestamp with time zone,
  last_at timestamp with time zone,
  last_job_id uuid,
  paused boolean default false not null,
  updated_at timestamp with time zone default now() not null,
  constraint schedule_pkey PRIMARY KEY (name)
);
comment on table accepted.schedule is 'One row per schedule that the app defines: when it fires next, and what it did last. The worker keeps it in line with the definitions. To pause one: update accepted.schedule set paused = true where name = ''…''.';
comment on column accepted.schedule.name is 'The name in its definition.';
comment on column accepted.schedule.operation is 'What it enqueues.';
comment on column accepted.schedule.expression is 'A cron expression, or a recurrence rule (RFC 5545, section 3.3.10).';
comment on column accepted.schedule.timezone is 'The time zone the expression is read in, for example Europe/Berlin.';
comment on column accepted.schedule.next_at is 'The next occurrence; null when a finite rule has none left. Its job commits together with the move to the one after it, so each occurrence becomes one job. Set it to now() to have one at once.';
comment on column accepted.schedule.last_at is 'The last occurrence that became a job.';
comment on column accepted.schedule.last_job_id is 'That job.';
comment on column accepted.schedule.paused is 'While true, occurrences pass without a job; set by people only.';
comment on column accepted.schedule.updated_at is 'When the definition last changed.';

create table accepted.suspect (
  job_id uuid not null,
  operation text not null,
  queue_id uuid not null,
  crashes integer not null,
  crashed_at timestamp with time zone default now() not null,
  reserved_until timestamp with time zone default now() not null,
  falls integer default 1 not null,
  constraint suspect_pkey PRIMARY KEY (job_id),
  constraint suspect_crashes_range CHECK ((crashes >= 1))
);
CREATE INDEX suspect_operation_crashed_at_idx ON accepted.suspect USING btree (operation, crashed_at);
comment on index accepted.suspect_operation_crashed_at_idx is 'Workers: which suspect is next to run alone.';
comment on table accepted.suspect is 'Jobs that a worker held when it fell silent: one of them may have killed it. Each runs again alone, in a process that holds nothing else, and leaves this table when that has ended, whichever way. A handful of rows, or none.';
comment on column accepted.suspect.job_id is 'The job. Until it is its turn its row in pgboss.job is blocked, so that nobody claims it beside others.';
comment on column accepted.suspect.operation is 'Its operation, and the name of its queue.';
comment on column accepted.suspect.queue_id is 'The id of its row in pgboss.job; the job''s own, but for rows that pg-boss has made anew.';
comment on column accepted.suspect.crashes is 'How many workers fell silent with it: the first beside others, the next alone. After the second one alone it has failed.';
comment on column accepted.suspect.crashed_at is 'When that was noticed last.';
comment on column accepted.suspect.reserved_until is 'Until then one process stands back for it, and the others need not.';
comment on column accepted.suspect.falls is 'How many workers fell silent with it, those included that are no crash of its making: another worker fell silent at the same time, so that it was something else.';

create table accepted.sweep (
  operation text not null,
  swept_at timestamp with time zone default '-infinity'::timestamp with time zone not null,
  constraint sweep_pkey PRIMARY KEY (operation)
);
comment on table accepted.sweep is 'One row per operation: when its queue was last looked over for jobs of workers that fell silent. The workers take turns at it.';
comment on column accepted.sweep.operation is 'The operation, and the name of its queue.';
comment on column accepted.sweep.swept_at is 'When somebody last began to.';

create table accepted.webhook_endpoint (
  id uuid not null,
  url text not null,
  event_types text[] default '{job.succeeded,job.failed,job.canceled}'::text[] not null,
  operations text[],
  secrets text[] not null,
  created_at timestamp with time zone default now() not null,
  disabled_at timestamp with time zone,
  disabled_reason text,
  secret_rotated_at timestamp with time zone,
  constraint webhook_endpoint_pkey PRIMARY KEY (id),
  constraint webhook_endpoint_event_types_known CHECK ((event_types <@ '{job.succeeded,job.failed,job.canceled}'::text[])),
  constraint webhook_endpoint_secrets_present CHECK (((cardinality(secrets) >= 1) AND (cardinality(secrets) <= 2))),
  constraint webhook_endpoint_url_http CHECK ((url ~ '^https?://'::text))
);
comment on table accepted.webhook_endpoint is 'Where the end of a job is told to, signed per Standard Webhooks.';
comment on column accepted.webhook_endpoint.id is 'UUIDv7.';
comment on column accepted.webhook_endpoint.url is 'Where deliveries are posted.';
comment on column accepted.webhook_endpoint.event_types is 'Which ends are told: job.succeeded, job.failed, job.canceled.';
comment on column accepted.webhook_endpoint.operations is 'Which operations are told; null: all.';
comment on column accepted.webhook_endpoint.secrets is 'Signing secrets (whsec_ and base64), newest first; two while one is being rotated.';
comment on column accepted.webhook_endpoint.created_at is 'When the endpoint was registered.';
comment on column accepted.webhook_endpoint.disabled_at is 'From then on nothing is delivered.';
comment on column accepted.webhook_endpoint.disabled_reason is 'Why it was disabled, for example the endpoint answered 410.';
comment on column accepted.webhook_endpoint.secret_rotated_at is 'When the newest secret took the place of the one before, which still signs for a day.';

create view accepted.backlog as
 SELECT q.name AS operation,
    count(j.id) FILTER (WHERE j.state < 'active'::pgboss.job_state AND j.start_after <= now()) AS ready,
    count(j.id) FILTER (WHERE j.state < 'active'::pgboss.job_state AND j.start_after > now()) AS deferred,
    count(j.id) FILTER (WHERE j.state = 'active'::pgboss.job_state) AS running,
    now() - min(j.start_after) FILTER (WHERE j.state < 'active'::pgboss.job_state AND j.start_after <= now()) AS oldest
   FROM pgboss.queue q
     LEFT JOIN pgboss.job j ON j.name = q.name AND j.state <= 'active'::pgboss.job_state
  WHERE q.name !~ '^__pgboss__'::text
  GROUP BY q.name;
comment on view accepted.backlog is 'What waits and what runs, per operation.';
comment on column accepted.backlog.operation is 'The operation.';
comment on column accepted.backlog.ready is 'Jobs that could start now.';
comment on column accepted.backlog.deferred is 'Jobs that are due later: deferred, or waiting for their retry.';
comment on column accepted.backlog.running is 'Jobs a worker holds.';
comment on column accepted.backlog.oldest is 'How long the oldest ready job has been waiting.';

create view accepted.job_overview as
 SELECT j.id,
    j.operation,
    j.state,
    j.principal,
    j.percent,
    j.message,
    (j.attempt || ' of '::text) || j.max_attempts AS attempt,
    COALESCE(j.ended_at, now()) - j.created_at AS age,
    COALESCE(j.ended_at, now()) - j.started_at AS running_for,
    j.error ->> 'code'::text AS error_code,
    j.error ->> 'message'::text AS error_message,
    j.resource,
    j.created_at,
    j.ended_at,
    q.state::text AS queue_state,
    q.start_after AS due_at
   FROM accepted.job j
     LEFT JOIN pgboss.job q ON q.name = j.operation AND q.id = j.id;
comment on view accepted.job_overview is 'Every job at a glance, with its place in the queue. Newest first: order by id desc.';
comment on column accepted.job_overview.id is 'The job.';
comment on column accepted.job_overview.operation is 'The kind of work.';
comment on column accepted.job_overview.state is 'What the client sees.';
comment on column accepted.job_overview.principal is 'Who asked.';
comment on column accepted.job_overview.percent is 'Progress.';
comment on column accepted.job_overview.message is 'Progress in words.';
comment on column accepted.job_overview.attempt is 'For example 1 of 4; 0 before the first.';
comment on column accepted.job_overview.age is 'From acceptance to the end, or to now.';
comment on column accepted.job_overview.running_for is 'From the first attempt to the end, or to now.';
comment on column accepted.job_overview.error_code is 'Why it failed, for programs.';
comment on column accepted.job_overview.error_message is 'Why it failed, for people.';
comment on column accepted.job_overview.resource is 'What it makes.';
comment on column accepted.job_overview.created_at is 'When it was accepted.';
comment on column accepted.job_overview.ended_at is 'When it ended.';
comment on column accepted.job_overview.queue_state is 'The state in pgboss.job; null once the queue has forgotten it.';
comment on column accepted.job_overview.due_at is 'When the queue hands it out, or handed it out, at the earliest.';

CREATE OR REPLACE FUNCTION accepted.begin_expiry()
 RETURNS date
 LANGUAGE plpgsql
 SET "TimeZone" TO 'UTC'
AS $function$
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
      insert into accepted.expiry values (day, 0);
      return day;
    end if;
  end loop;
  return null;
end
$function$;
comment on function accepted.begin_expiry() is 'The day (UTC) whose jobs are being deleted; when there is none, begins with the oldest of which every job has ended and expired. Null when there is no such day, or somebody else is at it. The worker calls it.';

CREATE OR REPLACE FUNCTION accepted.claim(queue text, most integer, created_from timestamp with time zone)
 RETURNS TABLE(id uuid, retry_count integer, data jsonb, waited double precision, floor text)
 LANGUAGE plpgsql
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
begin
  return query
  with next as materialized (
    select job.id from pgboss.job
    where job.name = queue and job.state < 'active' and not job.blocked and job.start_after <= now()
      and job.created_on >= created_from
    order by job.priority desc, job.created_on
    limit most
    for update skip locked
  ), claimed as (
    update pgboss.job set
      state = 'active', started_on = now(), heartbeat_on = now(),
      retry_count = job.retry_count + case when job.started_on is null then 0 else 1 end
    where job.name = queue and job.id = any(array(select next.id from next))
    returning job.id, job.retry_count, job.data, job.created_on, job.start_after
  )
  select
    claimed.id, claimed.retry_count, claimed.data, extract(epoch from now() - claimed.start_after)::float8,
    to_char((min(claimed.created_on) over ()) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  from claimed;
end
$function$;
comment on function accepted.claim(text,integer,timestamp with time zone) is 'Claims jobs that are due, at most so many, that were created at a time or later: those of higher priority first, and of these the oldest. floor is when the oldest of them was created. While an old snapshot is held, everything that has been claimed since is still in the index: who claims from the floor on does not read it again.';

CREATE OR REPLACE FUNCTION accepted.create_job_partitions(days_ahead integer DEFAULT 3)
 RETURNS SETOF text
 LANGUAGE plpgsql
 SET lock_timeout TO '100ms'
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  day date;
  lower_bound uuid;
  upper_bound uuid;
  partition text;
begin
  for day in select current_date + n from generate_series(0, days_ahead) n loop
    partition := 'job_' || to_char(day, 'YYYYMMDD');
    continue when to_regclass('accepted.' || partition) is not null;
    -- One maker at a time; whoever comes second finds the partition there.
    perform pg_advisory_xact_lock(hashtext('accepted.create_job_partitions'));
    continue when to_regclass('accepted.' || partition) is not null;
    lower_bound := accepted.uuid_floor(day::timestamptz);
    upper_bound := accepted.uuid_floor((day + 1)::timestamptz);
    -- Rows that came while no worker ran are in the default partition and must move, or attaching fails.
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
$function$;
comment on function accepted.create_job_partitions(integer) is 'Makes the partitions of accepted.job for today and the days ahead (UTC); returns the names of the new ones. The worker calls it.';

CREATE OR REPLACE FUNCTION accepted.delete_jobs_of_day(day date, most integer)
 RETURNS boolean
 LANGUAGE plpgsql
 SET lock_timeout TO '100ms'
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  partition regclass := accepted.partition_of_day(day);
  deleted bigint;
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.expired_day')) then
    return null;
  end if;
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
    order by id limit most
  );
  get diagnostics deleted = row_count;
  if deleted < most then
    delete from accepted.expiry where expiry.day = $1;
  end if;
  return deleted = most;
end
$function$;
comment on function accepted.delete_jobs_of_day(date,integer) is 'Drops the partition of a day (UTC) that has expired; of a day that never had one, deletes the jobs, at most so many. Returns whether there may be more, or null when somebody else is at it, or has brought a job back to life. The worker calls it when their keys are gone.';

CREATE OR REPLACE FUNCTION accepted.delete_keys_of_day(day date, pages integer)
 RETURNS boolean
 LANGUAGE plpgsql
 SET "TimeZone" TO 'UTC'
 SET enable_seqscan TO 'off'
 SET enable_indexscan TO 'off'
 SET enable_bitmapscan TO 'off'
AS $function$
declare
  first_id uuid := accepted.uuid_floor(day::timestamptz);
  next_id uuid := accepted.uuid_floor((day + 1)::timestamptz);
  next_page bigint;
  first_row tid;
  next_row tid;
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.expired_day')) then
    return null;
  end if;
  update accepted.expiry set next_page = expiry.next_page + pages where expiry.day = $1
    returning expiry.next_page into next_page;
  if not found then
    return null;
  end if;
  first_row := format('(%s,0)', next_page - pages);
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
$function$;
comment on function accepted.delete_keys_of_day(date,integer) is 'Deletes the keys and attempts of the jobs of a day (UTC) that has expired, from the next so many pages of their tables. Returns whether there are pages left, or null when somebody else is at it, or has done it. The worker calls it.';

CREATE OR REPLACE FUNCTION accepted.has_expired(day date)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  is_alive boolean;
begin
  -- A pending row, a deferred one for example, keeps its day alive.
  execute format(
    'select exists (select from %s where id >= $1 and id < $2 and (ended_at is null or expires_at > now()))',
    coalesce(accepted.partition_of_day(day), 'accepted.job_default'))
    into is_alive using accepted.uuid_floor(day::timestamptz), accepted.uuid_floor((day + 1)::timestamptz);
  return not is_alive;
end
$function$;
comment on function accepted.has_expired(date) is 'Whether every job that was accepted on a day (UTC) has ended and expired.';

CREATE OR REPLACE FUNCTION accepted.partition_of_day(day date)
 RETURNS regclass
 LANGUAGE sql
 STABLE
RETURN (SELECT (c.oid)::regclass AS oid FROM (pg_inherits i JOIN pg_class c ON ((c.oid = i.inhrelid))) WHERE ((i.inhparent = ('accepted.job'::regclass)::oid) AND (c.relname = ('job_'::text || to_char((partition_of_day.day)::timestamp with time zone, 'YYYYMMDD'::text)))));
comment on function accepted.partition_of_day(date) is 'The partition of accepted.job for a day (UTC); null when its jobs are in the default partition, or the partition has been detached.';

CREATE OR REPLACE FUNCTION accepted.uuid_floor(at timestamp with time zone)
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
RETURN ((lpad(to_hex((floor((EXTRACT(epoch FROM at) * (1000)::numeric)))::bigint), 12, '0'::text) || '00000000000000000000'::text))::uuid;
comment on function accepted.uuid_floor(timestamp with time zone) is 'The smallest UUIDv7-ordered id of that millisecond (RFC 9562, section 5.7), for conditions on accepted.job.id.';

CREATE OR REPLACE FUNCTION accepted.uuid_time(id uuid)
 RETURNS timestamp with time zone
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
RETURN to_timestamp((((((('x'::text || lpad("left"(replace((id)::text, '-'::text, ''::text), 12), 16, '0'::text)))::bit(64))::bigint)::numeric / 1000.0))::double precision);
comment on function accepted.uuid_time(uuid) is 'When a UUIDv7 was made, to the millisecond.';
