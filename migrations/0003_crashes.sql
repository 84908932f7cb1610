create table accepted.suspect (
  job_id uuid not null,
  operation text not null,
  queue_id uuid not null,
  crashes integer not null,
  crashed_at timestamptz not null default now(),
  reserved_until timestamptz not null default now(),
  constraint suspect_pkey primary key (job_id),
  constraint suspect_crashes_range check (crashes >= 1)
);

comment on table accepted.suspect is 'Jobs that a worker held when it fell silent: one of them may have killed it. Each runs again alone, in a process that holds nothing else, and leaves this table when that has ended, whichever way. A handful of rows, or none.';
comment on column accepted.suspect.job_id is 'The job. Until it is its turn its row in pgboss.job is blocked, so that nobody claims it beside others.';
comment on column accepted.suspect.operation is 'Its operation, and the name of its queue.';
comment on column accepted.suspect.queue_id is 'The id of its row in pgboss.job; the job''s own, but for rows that pg-boss has made anew.';
comment on column accepted.suspect.crashes is 'How many workers fell silent with it: the first beside others, the next alone. After the second one alone it has failed.';
comment on column accepted.suspect.crashed_at is 'When that was noticed last.';
comment on column accepted.suspect.reserved_until is 'Until then one process stands back for it, and the others need not.';

create table accepted.reconciliation (
  only_row boolean not null default true,
  ended_up_to uuid not null default '00000000-0000-0000-0000-000000000000',
  position uuid not null default '00000000-0000-0000-0000-000000000000',
  looked_at timestamptz not null default '-infinity',
  constraint reconciliation_pkey primary key (only_row),
  constraint reconciliation_only_row check (only_row)
);

insert into accepted.reconciliation default values;

comment on table accepted.reconciliation is 'One row: how far the workers have compared accepted.job with pgboss.job. They take turns at it, a piece a second, round and round.';
comment on column accepted.reconciliation.only_row is 'True; there is no other row.';
comment on column accepted.reconciliation.ended_up_to is 'Every job up to this id has ended, and final is final: a round begins after it.';
comment on column accepted.reconciliation.position is 'The id up to which this round has come.';
comment on column accepted.reconciliation.looked_at is 'When the last piece was looked at.';

-- For the few rows that somebody holds, or that ended otherwise than well; those that wait or are completed, nearly all
-- of them, are not in it.
create index accepted_held_idx on pgboss.job (state, completed_on) where state in ('active', 'cancelled', 'failed');
