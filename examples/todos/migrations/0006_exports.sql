create table todo_export (
  id uuid not null,
  format text not null,
  status text not null default 'pending',
  writer text,
  constraint todo_export_pkey primary key (id),
  constraint todo_export_format_known check (format in ('ndjson', 'csv')),
  constraint todo_export_status_known check (status in ('pending', 'ready', 'failed', 'canceled'))
);

comment on table todo_export is 'Files into which clients export todos.';
comment on column todo_export.status is 'pending while the todo.export job is pending; then ready, or failed or canceled like the job.';
comment on column todo_export.writer is 'The job, the attempt and the worker whose parts are the file. Null until it is ready.';

create table todo_export_part (
  export_id uuid not null,
  writer text not null,
  position integer not null,
  content text not null,
  constraint todo_export_part_pkey primary key (export_id, writer, position)
);

comment on table todo_export_part is 'The parts of exported files, of 1,000 todos each.';

do $$
begin
  if to_regrole('accepted_api') is not null and to_regrole('accepted_worker') is not null then
    grant select, insert, update (status) on todo_export to accepted_api;
    grant select, delete on todo_export_part to accepted_api;
    grant select, update on todo_export to accepted_worker;
    grant select, insert, delete on todo_export_part to accepted_worker;
  end if;
end
$$;
