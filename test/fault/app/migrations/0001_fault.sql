create table domain (
  job_id uuid not null,
  token text not null
);

comment on table domain is 'What a request writes within accept: one row per accepted request.';
comment on column domain.job_id is 'The job.';
comment on column domain.token is 'What the client calls its intent.';

create table effect (
  job_id uuid not null,
  token text not null
);

comment on table effect is 'What a job writes within settle: one row per effect. No unique constraint, so that a second effect shows.';
comment on column effect.job_id is 'The job.';
comment on column effect.token is 'What the client calls its intent.';

create table permission (
  token text not null
);

comment on table permission is 'Intents that may succeed, of those that fail otherwise.';
comment on column permission.token is 'What the client calls its intent.';

create table stray (
  job_id uuid not null
);

comment on table stray is 'What a careless handler writes without waiting for it: it belongs to the transaction of the effect, or nowhere.';
comment on column stray.job_id is 'The job.';

create table counter (
  id integer not null,
  count integer not null default 0,
  constraint counter_pkey primary key (id)
);

comment on table counter is 'Rows that transactions fight over.';
comment on column counter.id is 'Which.';
comment on column counter.count is 'How often it was changed.';

insert into counter (id) select generate_series(1, 3);
