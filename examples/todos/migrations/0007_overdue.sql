create table overdue_report (
  batch_id uuid not null,
  email text not null,
  sent integer not null,
  failed integer not null,
  constraint overdue_report_pkey primary key (batch_id)
);

comment on table overdue_report is 'The outcomes of batches of reminders.';

do $$
begin
  if to_regrole('accepted_api') is not null and to_regrole('accepted_worker') is not null then
    grant select on overdue_report to accepted_api;
    grant insert on overdue_report to accepted_worker;
  end if;
end
$$;
