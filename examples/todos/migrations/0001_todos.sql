create table todo (
  id uuid not null,
  title text not null,
  due_by date,
  status text not null default 'pending',
  created_at timestamptz not null default now(),
  constraint todo_pkey primary key (id),
  constraint todo_status_known check (status in ('pending', 'ready', 'failed', 'canceled'))
);

comment on table todo is 'The todos.';
comment on column todo.status is 'pending while the todo.create job is pending; then ready, or failed or canceled like the job.';

create table reminder (
  id uuid not null,
  todo_id uuid not null,
  email text not null,
  status text not null default 'pending',
  message_id text,
  sent_at timestamptz,
  constraint reminder_pkey primary key (id),
  constraint reminder_status_known check (status in ('pending', 'sent', 'failed', 'canceled')),
  constraint reminder_todo_id_fkey foreign key (todo_id) references todo (id)
);

comment on table reminder is 'E-mail reminders for todos.';
comment on column reminder.status is 'pending while the reminder.send job is pending; then sent, or failed or canceled like the job.';
comment on column reminder.message_id is 'Message-ID of the e-mail. Null until it is sent.';

-- API and worker may run under roles of their own (see "Roles" in the docs). Without these roles, this does nothing.
do $$
begin
  if to_regrole('accepted_api') is not null and to_regrole('accepted_worker') is not null then
    -- abandon updates the status. The API runs it when a request cancels a job.
    grant select, insert, update (status) on todo, reminder to accepted_api;
    grant select, insert, update on todo, reminder to accepted_worker;
  end if;
end
$$;
