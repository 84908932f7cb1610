import t from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { post } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'

const todoCount = 1_000
const connectionCount = 50

t.test(
  `when ${connectionCount} connections create ${todoCount} todos, two workers update each todo once`,
  async (t) => {
    const databaseUrl = await createDatabase(t)
    const database = openDatabase({ url: databaseUrl })
    t.teardown(() => database.close())
    // A trigger counts the updates. The row alone would not show a repeated update.
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

    const startedAt = performance.now()
    const statuses: number[] = []
    let next = 0
    const runConnection = async () => {
      while (next < todoCount) {
        const { status } = await post(`${api.url}/todos`, { title: `todo ${next++}` })
        statuses.push(status)
      }
    }
    await Promise.all(Array.from({ length: connectionCount }, runConnection))
    const acceptedAt = performance.now()
    await until(async () => {
      const { rows } = await database.pool.query(
        "select from accepted.job where operation = 'todo.create' and status = 'succeeded'",
      )
      return rows.length === todoCount
    })
    const settledAt = performance.now()

    t.same(new Set(statuses), new Set([202]))
    const { rows } = await database.pool.query(`
      select
        (select count(*)::int from todo where status = 'ready') as ready,
        (select count(*)::int from made_ready) as effects,
        (select count(distinct todo_id)::int from made_ready) as todos,
        (select count(*)::int from accepted.job
          where operation = 'todo.create' and status = 'succeeded' and attempt = 1) as succeeded,
        (select count(*)::int from accepted.attempt) as failures`)
    const all = todoCount
    t.same(rows[0], { ready: all, effects: all, todos: all, succeeded: all, failures: 0 })
    const rate = (endedAt: number) => Math.round((todoCount / (endedAt - startedAt)) * 1000)
    t.comment(
      `accepted ${rate(acceptedAt)} todos/s; ${rate(settledAt)} todos/s from the first request to the last effect`,
    )
  },
)
