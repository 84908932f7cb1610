alter table accepted.job
  add column attempt_started_at timestamptz,
  add column progress_at timestamptz,
  add column webhook_endpoint_id uuid;

comment on column accepted.job.attempt_started_at is 'When the attempt that runs, or ran last, began.';
comment on column accepted.job.progress_at is 'When that attempt last reported the percent of the job; null: it has not, and percent is from an earlier one.';
comment on column accepted.job.webhook_endpoint_id is 'The one webhook endpoint to tell the end to, when the request named one; null: all that match.';

-- For the list of a principal's jobs. Neither column ever changes, so updates stay HOT.
create index job_principal_id_idx on accepted.job (principal, id);

-- For what has changed lately. Of all kinds of index only this one leaves updates HOT (from PostgreSQL 16 on).
create index job_updated_at_idx on accepted.job using brin (updated_at) with (pages_per_range = 16, autosummarize = on);

create table accepted.run_time (
  operation text not null,
  seconds double precision not null,
  updated_at timestamptz not null default now(),
  constraint run_time_pkey primary key (operation),
  constraint run_time_seconds_range check (seconds >= 0)
);

comment on table accepted.run_time is 'How long jobs of an operation have run lately, from the begin of their last attempt to their end. The workers write it; estimates are made from it.';
comment on column accepted.run_time.operation is 'The operation.';
comment on column accepted.run_time.seconds is 'Moving average over the jobs that succeeded lately, in seconds.';
comment on column accepted.run_time.updated_at is 'When it was last written.';

alter table accepted.api_key
  add column scopes text[] not null default '{}',
  add constraint api_key_scopes_known check (scopes <@ '{admin}');

comment on column accepted.api_key.scopes is 'What the key may do besides its principal''s own jobs: admin registers webhooks.';

alter table accepted.webhook_endpoint
  add column secret_rotated_at timestamptz;

comment on column accepted.webhook_endpoint.secrets is 'Signing secrets (whsec_ and base64), newest first; two while one is being rotated.';
comment on column accepted.webhook_endpoint.secret_rotated_at is 'When the newest secret took the place of the one before, which still signs for a day.';
