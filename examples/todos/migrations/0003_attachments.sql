create table attachment (
  id uuid not null,
  todo_id uuid not null,
  name text not null,
  media_type text not null,
  content bytea not null,
  status text not null default 'pending',
  constraint attachment_pkey primary key (id),
  constraint attachment_status_known check (status in ('pending', 'ready', 'failed', 'canceled')),
  constraint attachment_todo_id_fkey foreign key (todo_id) references todo (id)
);

comment on table attachment is 'Files that are attached to todos.';
comment on column attachment.status is 'pending while the attachment.add job is pending; then ready, or failed or canceled like the job.';

-- Images and documents are compressed already.
alter table attachment alter column content set storage external;

create table thumbnail (
  attachment_id uuid not null,
  content bytea,
  status text not null default 'pending',
  constraint thumbnail_pkey primary key (attachment_id),
  constraint thumbnail_status_known check (status in ('pending', 'ready', 'failed', 'canceled')),
  constraint thumbnail_attachment_id_fkey foreign key (attachment_id) references attachment (id)
);

comment on table thumbnail is 'Thumbnails of the attachments that are images.';
comment on column thumbnail.content is 'A WebP image.';
comment on column thumbnail.status is 'pending while the thumbnail.make job is pending; then ready, or failed or canceled like the job.';

do $$
begin
  if to_regrole('accepted_api') is not null and to_regrole('accepted_worker') is not null then
    grant select, insert, update (status) on attachment to accepted_api;
    grant select, update (status, content) on thumbnail to accepted_api;
    grant select, update on attachment to accepted_worker;
    grant select, insert, update on thumbnail to accepted_worker;
  end if;
end
$$;
