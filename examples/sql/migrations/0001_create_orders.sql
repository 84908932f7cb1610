create table orders (
  id bigint generated always as identity,
  customer text not null,
  total numeric not null,
  card text,
  status text not null default 'pending',
  created_at timestamptz not null default now(),
  confirmed_at timestamptz,
  constraint orders_pkey primary key (id),
  constraint orders_status_known check (status in ('pending', 'confirmed', 'declined', 'failed', 'canceled'))
);

comment on table orders is 'The orders.';
comment on column orders.card is 'The card to charge, as the payment service names it.';
comment on column orders.status is 'pending while the order.confirm job is pending; then confirmed, or declined, failed or canceled.';
comment on column orders.confirmed_at is 'Null until the worker has settled the order.confirm job.';

create table invoice (
  order_id bigint not null,
  created_at timestamptz not null default now(),
  constraint invoice_pkey primary key (order_id),
  constraint invoice_order_id_fkey foreign key (order_id) references orders (id)
);

comment on table invoice is 'The invoices.';

create function enqueue_confirmation() returns trigger
language plpgsql
-- A role that inserts orders needs no privileges on the schema accepted.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform accepted.enqueue('order.confirm', jsonb_build_object('orderId', new.id),
    principal => new.customer, resource => '/orders/' || new.id);
  return null;
end
$$;

comment on function enqueue_confirmation is 'Trigger function: enqueues the confirmation of a new order.';

create trigger order_placed after insert on orders for each row execute function enqueue_confirmation();

-- API and worker may run under roles of their own (see "Roles" in the docs). Without these roles, this does nothing.
do $$
begin
  if to_regrole('accepted_api') is not null and to_regrole('accepted_worker') is not null then
    -- abandon updates the status. The API runs it when a request or SQL cancels a job.
    grant select, update (status) on orders to accepted_api;
    grant select, update on orders to accepted_worker;
    grant insert on invoice to accepted_worker;
  end if;
end
$$;
