comment on index accepted.job_principal_id_idx is 'GET /jobs: those of a principal, the newest first.';
comment on index accepted.job_retry_of_idx is 'accepted jobs redrive: whether a failed job has been retried.';
comment on index accepted.job_updated_at_idx is 'Events and waiting requests: what has changed since a time.';
comment on index accepted.suspect_operation_crashed_at_idx is 'Workers: which suspect is next to run alone.';
