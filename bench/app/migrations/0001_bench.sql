create table note (
  id uuid not null,
  text text not null,
  constraint note_pkey primary key (id)
);

comment on table note is 'The domain table: one row per accepted request.';
comment on column note.id is 'The id of the job.';
comment on column note.text is 'The text that the client sent.';

create table effect (
  job_id uuid not null,
  constraint effect_pkey primary key (job_id)
);

comment on table effect is 'One row per settled job of effect.write.';
comment on column effect.job_id is 'The id of the job.';
