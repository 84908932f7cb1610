/**
 * Citus is not available to the tests: a row in pg_extension, and a table and functions with the names of those of Citus,
 * stand for it. So the tests show what is sent to Citus, and not what Citus does.
 */
export const fakeCitus = `
  insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
  values (4294900000, 'citus', 10, 'pg_catalog'::regnamespace, false, '13.2-1');
  set allow_system_table_mods = on;
  create table pg_catalog.pg_dist_partition (
    logicalrelid regclass, partmethod "char" default 'n', colocationid int default 0, repmodel "char" default 's');
  grant select on pg_catalog.pg_dist_partition to public;
  reset allow_system_table_mods;
  create table public.managed (name text);
  create function pg_catalog.citus_add_local_table_to_metadata(table_name regclass, boolean default false)
    returns void language sql security definer
    as $$ insert into public.managed values (table_name::text); insert into pg_dist_partition values (table_name) $$;
  create table public.health (from_nodename text, to_nodename text, result boolean, seconds float default 0);
  insert into public.health values ('one', 'one', true), ('one', 'two', true), ('two', 'one', true), ('two', 'two', true);
  create function pg_catalog.citus_check_cluster_node_health(
    out from_nodename text, out from_nodeport int, out to_nodename text, out to_nodeport int, out result bool)
    returns setof record language plpgsql security definer as $$
    begin
      perform pg_sleep(max(seconds)) from public.health;
      return query select h.from_nodename, 5432, h.to_nodename, 5432, h.result from public.health h;
    end $$;`
