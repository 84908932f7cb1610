import t from 'tap'
import { fillJobs } from './many-jobs.ts'

const { pool, list } = await fillJobs(t, 30_000)

t.test('a page of a list reads few of many jobs, even with generic plans', async (t) => {
  const [{ parent }] = (await pool.query('select parent from accepted.job where parent is not null limit 1')).rows
  for (const args of [
    [],
    ['--since', '1h'],
    ['--until', '0s'],
    ['--status', 'succeeded'],
    ['--status', 'failed'],
    ['--status', 'running'],
    ['--status', 'queued', '--operation', 'todo.create'],
    ['--operation', 'todo.create'],
    ['--principal', 'p7'],
    ['--principal', 'none'],
    ['--error', 'handler-error'],
    ['--error', 'handler-error', '--status', 'running'],
    ['--parent', parent],
    ['--resource', '/todos/30000'],
    ['--key', 'key 29990'],
  ]) {
    const { reads, err } = await list(
      ...args,
      ...(args[0] === '--resource' || args[0] === '--key' ? ['--limit', '1'] : []),
    )
    t.ok(reads <= 1_000, `jobs list ${args.join(' ')}: ${reads} rows and index entries were read`)
    t.equal(err, '')
  }
})

t.test('pages follow each other with --before', async (t) => {
  const first = await list('--limit', '30')
  const second = await list('--limit', '30', '--before', `${first.jobs.at(-1)?.id}`)
  const { rows } = await pool.query('select id from accepted.job order by id desc limit 60')
  t.same(
    [...first.jobs, ...second.jobs].map(({ id }) => id),
    rows.map(({ id }) => id),
  )
})
