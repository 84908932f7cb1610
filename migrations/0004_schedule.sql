create table accepted.schedule (
  name text not null,
  operation text not null,
  expression text not null,
  timezone text not null,
  next_at timestamptz,
  last_at timestamptz,
  last_job_id uuid,
  paused boolean not null default false,
  updated_at timestamptz not null default now(),
  constraint schedule_pkey primary key (name)
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

-- Whether a failed job has been retried is asked for each that is redriven. Most jobs are no retries, and have no entry.
create index job_retry_of_idx on accepted.job (retry_of) where retry_of is not null;
