create table if not exists accepted.sweep (
  operation text not null,
  swept_at timestamptz not null default '-infinity',
  constraint sweep_pkey primary key (operation)
);

comment on table accepted.sweep is 'One row per operation: when its queue was last looked over for jobs of workers that fell silent. The workers take turns at it.';
comment on column accepted.sweep.operation is 'The operation, and the name of its queue.';
comment on column accepted.sweep.swept_at is 'When somebody last began to.';

alter table accepted.suspect add column if not exists falls integer not null default 1;

comment on column accepted.suspect.falls is 'How many workers fell silent with it, those included that are no crash of its making: another worker fell silent at the same time, so that it was something else.';

create index if not exists suspect_operation_crashed_at_idx on accepted.suspect (operation, crashed_at);

alter table accepted.reconciliation add column if not exists horizon timestamptz not null default now();

comment on column accepted.reconciliation.horizon is 'What has ended in the queue before then has been compared.';
