import t from 'tap'
import { openTestDatabase } from '../support/database.ts'
import { run } from '../support/in-process.ts'

t.test('the commands list, pause, resume, run and backfill schedules', async (t) => {
  const database = await openTestDatabase(t)
  const DATABASE_URL = database.options.url
  const schedules = (...args: string[]) => run(['schedules', ...args], { DATABASE_URL })
  t.match(await schedules('list'), { code: 0, out: /^No schedules are defined\./ })
  await database.pool.query(`
    insert into accepted.schedule (name, operation, expression, timezone, next_at)
    values ('nightly', 'digest.send', '0 3 * * *', 'UTC', '2127-02-14T03:00:00Z')`)

  t.match(await schedules('pause', 'nightly', '--reason', 'a holiday'), {
    ...{ code: 0, out: 'Paused nightly. To resume it: accepted schedules resume nightly\n' },
  })
  const { out } = await schedules('list')
  t.match(out, /^NAME +OPERATION +EXPRESSION +TIME ZONE +NEXT +LAST +LAST STATUS +REQUESTS +PAUSED +REASON\n/)
  t.match(out, /\nnightly +digest\.send +0 3 \* \* \* +UTC +2127-02-14T03:00:00\.000Z +0 +\d{4}-\S+Z +a holiday\n$/)
  t.match(await schedules('resume', 'nightly'), { code: 0, out: 'Resumed nightly.\n' })
  const { id } = JSON.parse((await schedules('run', 'nightly', '--json')).out)
  const backfilled = await schedules('backfill', 'nightly', '--since', '7d', '--until', '24h', '--limit', '5')
  t.match(backfilled, {
    code: 0,
    out: /^[0-9a-f-]{36}\n$/,
    err: /^A worker creates this batch .* accepted batches watch [0-9a-f-]{36}\n$/,
  })
  const { rows } = await database.pool.query(`
    select id, max_jobs, round(extract(epoch from until - since) / 86400)::integer as days
    from accepted.schedule_request order by id`)
  t.same(rows, [
    { id, max_jobs: null, days: null },
    { id: backfilled.out.split('\n')[0], max_jobs: 5, days: 6 },
  ])
  t.match(JSON.parse((await schedules('list', '--json')).out), [{ name: 'nightly', paused_at: null, requests: 2 }])

  for (const [args, err] of [
    [['pause', 'weekly'], /^error: There is no schedule 'weekly'\. .*nightly/],
    [['backfill', 'nightly'], /^error: --since is missing\./],
    [['backfill', 'nightly', '--since', 'noon'], /^error: --since must be a duration like 24h .*, not 'noon'\.\n$/],
    [['backfill', 'nightly', '--since', '1h', '--until', '2h'], /^error: Since is not a time before until\./],
  ] as const) {
    t.match(await schedules(...args), { code: 1, out: '', err })
  }
})
