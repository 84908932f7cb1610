create table todo_import (
  id uuid not null,
  media_type text not null,
  bytes integer not null,
  status text not null default 'pending',
  job_id uuid,
  next_byte integer not null default 0,
  next_line integer not null default 1,
  accepted integer not null default 0,
  rejected integer not null default 0,
  constraint todo_import_pkey primary key (id),
  constraint todo_import_status_known check (status in ('pending', 'ready', 'failed', 'canceled'))
);

comment on table todo_import is 'Files of todos that clients import.';
comment on column todo_import.status is 'pending while the todo.import job is pending; then ready, or failed or canceled like the job.';
comment on column todo_import.job_id is 'The job that may continue the import.';
comment on column todo_import.next_byte is 'Where the next attempt continues. It commits together with the rows of the lines before it.';

create table todo_import_file (
  import_id uuid not null,
  content bytea not null,
  constraint todo_import_file_pkey primary key (import_id),
  constraint todo_import_file_import_id_fkey foreign key (import_id) references todo_import (id)
);

comment on table todo_import_file is 'The bytes of files whose import has not succeeded.';

-- Uncompressed, because only then Postgres reads a slice without reading all.
alter table todo_import_file alter column content set storage external;

create table todo_import_row (
  import_id uuid not null,
  line integer not null,
  todo_id uuid not null,
  title text not null,
  due_by date,
  -- No line becomes two todos.
  constraint todo_import_row_pkey primary key (import_id, line)
);

comment on table todo_import_row is 'Lines that become todos when their import succeeds.';

create table todo_import_error (
  import_id uuid not null,
  line integer not null,
  message text not null,
  text text not null,
  constraint todo_import_error_pkey primary key (import_id, line)
);

comment on table todo_import_error is 'Lines that are not imported.';

do $$
begin
  if to_regrole('accepted_api') is not null and to_regrole('accepted_worker') is not null then
    grant select, insert, update on todo_import to accepted_api;
    grant insert on todo_import_file to accepted_api;
    -- abandon deletes the rows, and a condition of a delete reads.
    grant select, delete on todo_import_row, todo_import_error to accepted_api;
    grant select, insert, update, delete on todo_import, todo_import_file, todo_import_row, todo_import_error
      to accepted_worker;
    grant insert on todo to accepted_worker;
  end if;
end
$$;
