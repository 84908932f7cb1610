alter table todo_export add column created_at timestamptz not null default now();
alter table todo_import add column created_at timestamptz not null default now();

comment on column todo_export.created_at is 'files.delete-old deletes exports a week later.';
comment on column todo_import.created_at is 'files.delete-old deletes imports, with their reports, a week later.';

do $$
begin
  if to_regrole('accepted_worker') is not null then
    grant delete on todo_export to accepted_worker;
  end if;
end
$$;
