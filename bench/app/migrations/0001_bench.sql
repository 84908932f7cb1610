create table note (
  id uuid not null,
  text text not null,
  constraint note_pkey primary key (id)
);

comment on table note is 'The domain: one row per accepted request.';
comment on column note.id is 'That of the job as well.';
comment on column note.text is 'What the client sent.';

create table effect (
  job_id uuid not null,
  constraint effect_pkey primary key (job_id)
);

comment on table effect is 'One row per job that writes.';
comment on column effect.job_id is 'The job.';
