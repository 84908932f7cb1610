-- Each job leaves two dead rows in the queue, which claims step over and for which the table grows until a vacuum. With
-- the rests that autovacuum takes as it comes, and the budget that it shares among tables, one takes up to a minute at
-- 5,500 jobs a second; without, less than 20 s.
alter table pgboss.job_common set (autovacuum_vacuum_cost_delay = 0);
