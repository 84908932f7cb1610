create table domain (
  job_id uuid not null,
  token text not null,
  state text not null default 'pending'
);

create index domain_token_idx on domain (token);

comment on table domain is 'What accept writes: one row per accepted request.';
comment on column domain.job_id is 'The job of the request.';
comment on column domain.token is 'The token of the intent.';
comment on column domain.state is 'pending, or the status with which the job ended. settle and abandon set it.';
comment on index domain_token_idx is 'settle and abandon: finds the row of a job. A retry finds the row of the job that it retries.';

create table effect (
  job_id uuid not null,
  token text not null
);

comment on table effect is 'What settle writes: one row per effect. There is no unique constraint, so that a duplicate effect becomes visible.';
comment on column effect.job_id is 'The job that had the effect.';
comment on column effect.token is 'The token of the intent.';

create table permission (
  token text not null
);

comment on table permission is 'The jobs of intent.fail that may succeed.';
comment on column permission.token is 'The token of the intent.';

create table unawaited_write (
  job_id uuid not null
);

comment on table unawaited_write is 'What settle writes without awaiting it. A row must commit in the transaction of the effect, or not at all.';
comment on column unawaited_write.job_id is 'The job that wrote the row.';

create table counter (
  id integer not null,
  count integer not null default 0,
  constraint counter_pkey primary key (id)
);

comment on table counter is 'Rows that concurrent transactions update in different orders.';
comment on column counter.id is 'The number of the counter.';
comment on column counter.count is 'How often the row was updated.';

insert into counter (id) select generate_series(1, 3);

grant select, insert, update, delete on domain, effect, permission, unawaited_write, counter
  to accepted_api, accepted_worker;
