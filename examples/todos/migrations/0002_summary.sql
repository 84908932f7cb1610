alter table todo add column completed_at timestamptz;

comment on column todo.completed_at is 'When the todo was completed. Null until then.';

create table todo_summary (
  id boolean not null default true,
  todos integer not null default 0,
  completed integer not null default 0,
  overdue integer not null default 0,
  average_completion_seconds double precision,
  refreshed_at timestamptz not null default now(),
  stale_since timestamptz,
  constraint todo_summary_pkey primary key (id),
  constraint todo_summary_has_one_row check (id)
);

comment on table todo_summary is 'Read model: a summary of all todos, which summary.refresh computes. It has one row.';
comment on column todo_summary.stale_since is 'When a todo changed for which a refresh is waiting. Null while no refresh is waiting.';

insert into todo_summary default values;

do $$
begin
  if to_regrole('accepted_api') is not null and to_regrole('accepted_worker') is not null then
    grant select, update (stale_since) on todo_summary to accepted_api;
    grant select, update on todo_summary to accepted_worker;
  end if;
end
$$;
