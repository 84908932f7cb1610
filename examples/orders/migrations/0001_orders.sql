create table product (
  sku text,
  name text not null,
  price_cents integer not null,
  stock integer not null,
  constraint product_pkey primary key (sku),
  constraint product_price_positive check (price_cents > 0),
  constraint product_stock_not_negative check (stock >= 0)
);

comment on table product is 'What the shop sells.';
comment on column product.stock is 'The pieces that are neither sold nor reserved by a pending order.';

create table orders (
  id uuid,
  customer text not null,
  request_key text not null,
  sku text not null,
  quantity integer not null,
  total_cents integer not null,
  card text not null,
  status text not null default 'pending',
  payment_key uuid not null,
  job_id uuid not null,
  created_at timestamptz not null default now(),
  constraint orders_pkey primary key (id),
  constraint orders_request_unique unique (customer, request_key),
  constraint orders_sku_fkey foreign key (sku) references product (sku),
  constraint orders_quantity_positive check (quantity > 0),
  constraint orders_status_known check (status in ('pending', 'paid', 'declined', 'failed', 'canceled'))
);

comment on table orders is 'The orders. A pending order has reserved its pieces.';
comment on column orders.request_key is 'The Idempotency-Key of the request. The same customer gets the same order for it.';
comment on column orders.card is 'The name of the card at the payment service, never its number.';
comment on column orders.status is 'pending until its job has ended; then paid, or declined, failed or canceled.';
comment on column orders.payment_key is 'The name of the payment at the payment service, which charges it at most once.';
comment on column orders.job_id is 'The order.pay job.';

insert into product (sku, name, price_cents, stock) values
  ('lamp', 'A lamp', 4900, 1000),
  ('chair', 'A chair', 12900, 20);

-- API and worker may run under roles of their own (see "Roles" in the docs). Without these roles, this does nothing.
do $$
begin
  if to_regrole('accepted_api') is not null and to_regrole('accepted_worker') is not null then
    -- abandon closes the order. The API runs it when a request or SQL cancels a job.
    grant select, insert, update on orders to accepted_api;
    grant select, update on orders to accepted_worker;
    grant select, update on product to accepted_api, accepted_worker;
  end if;
end
$$;
