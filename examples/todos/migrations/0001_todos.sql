create table todo (
  id uuid not null,
  title text not null,
  due_by date,
  status text not null default 'pending',
  created_at timestamptz not null default now(),
  constraint todo_pkey primary key (id),
  constraint todo_status_known check (status in ('pending', 'ready'))
);

comment on table todo is 'The todos.';
comment on column todo.status is 'pending until the worker has settled the todo.create job; then ready.';

create table reminder (
  id uuid not null,
  todo_id uuid not null,
  email text not null,
  message_id text,
  sent_at timestamptz,
  constraint reminder_pkey primary key (id),
  constraint reminder_todo_id_fkey foreign key (todo_id) references todo (id)
);

comment on table reminder is 'E-mail reminders for todos.';
comment on column reminder.message_id is 'Message-ID of the e-mail. Null until it is sent.';

-- API and worker may run under roles of their own (see "Roles" in the docs). Without these roles, this does nothing.
do $$
begin
  if to_regrole('accepted_api') is not null and to_regrole('accepted_worker') is not null then
    grant select, insert on todo, reminder to accepted_api;
    grant select, insert, update on todo, reminder to accepted_worker;
  end if;
end
$$;
