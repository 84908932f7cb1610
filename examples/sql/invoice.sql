-- Places an order, and enqueues its invoice in the same transaction. Prints the id of the job:
-- psql --quiet --set customer=ann --set total=9.90 --file invoice.sql
\set ON_ERROR_STOP on
begin;
insert into orders (customer, total) values (:'customer', :'total') returning id \gset
select accepted.enqueue('invoice.create', jsonb_build_object('orderId', :id),
  principal => :'customer', idempotency_key => 'invoice-' || :id) as job_id \gset
commit;
\echo :job_id
