create materialized view title_word as
  select word, count(distinct id)::integer as todos
  from todo, regexp_split_to_table(lower(title), '\W+') as word
  where status = 'ready' and word <> ''
  group by word;

comment on materialized view title_word is 'Cache: in how many titles each word occurs. words.rebuild refreshes it.';

-- With a unique index it is refreshed concurrently, so that readers do not wait.
create unique index title_word_word_key on title_word (word);

create function rebuild_title_word() returns void
language sql
-- Only its owner may refresh a materialized view, and the worker has another role.
security definer
set search_path = public, pg_temp
as 'refresh materialized view concurrently title_word';

comment on function rebuild_title_word is 'Refreshes title_word.';

revoke all on function rebuild_title_word from public;

do $$
begin
  if to_regrole('accepted_api') is not null and to_regrole('accepted_worker') is not null then
    grant select on title_word to accepted_api;
    grant execute on function rebuild_title_word to accepted_worker;
  end if;
end
$$;
