import t from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { post } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'

const todos = 1_000
const connections = 50

t.test(`${todos} todos from ${connections} connections with two workers: as many effects, none twice`, async (t) => {
  const databaseUrl = await createDatabase(t)
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  // Counts every effect, for an update that is done twice leaves the same row.
  await database.pool.query(`
    create table made_ready (todo_id uuid not null);
    create function count_effect() returns trigger language plpgsql as $$
      begin insert into made_ready values (new.id); return new; end $$;
    create trigger count_effect after update on todo for each row execute function count_effect();`)
  const [api] = await Promise.all([
    start(t, 'api', { databaseUrl }),
    start(t, 'worker', { databaseUrl }),
    start(t, 'worker', { databaseUrl }),
  ])

  const started = performance.now()
  const statuses: number[] = []
  let next = 0
  const connection = async () => {
    while (next < todos) {
      const { status } = await post(`${api.url}/todos`, { title: `todo ${next++}` })
      statuses.push(status)
    }
  }
  await Promise.all(Array.from({ length: connections }, connection))
  const posted = performance.now()
  await until(async () => {
    const { rows } = await database.pool.query("select from accepted.job where state = 'succeeded'")
    return rows.length === todos
  })
  const settled = performance.now()

  t.same(new Set(statuses), new Set([202]))
  const { rows } = await database.pool.query(`
    select
      (select count(*)::int from todo where status = 'ready') as ready,
      (select count(*)::int from made_ready) as effects,
      (select count(distinct todo_id)::int from made_ready) as todos,
      (select count(*)::int from accepted.job where state = 'succeeded' and attempt = 1) as succeeded,
      (select count(*)::int from accepted.attempt) as failures`)
  t.same(rows[0], { ready: todos, effects: todos, todos, succeeded: todos, failures: 0 })
  const rate = (until: number) => Math.round((todos / (until - started)) * 1000)
  t.comment(`${rate(posted)} todos a second accepted, ${rate(settled)} a second from the first post to the last effect`)
})
