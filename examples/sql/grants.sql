-- Creates the role of a program that places orders and enqueues jobs:
-- psql --set role=shop --set password=secret --file grants.sql
create role :"role" login password :'password';
grant select, insert on orders to :"role";
grant usage on schema accepted to :"role";
grant execute on function accepted.enqueue to :"role";
