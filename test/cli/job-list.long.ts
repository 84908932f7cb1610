import t from 'tap'
import { fillJobs } from './many-jobs.ts'

const count = 1_100_000

t.test('a list searches at most a million jobs, and says how to search the older ones', async (t) => {
  const { pool, list } = await fillJobs(t, count)
  for (const [args, expected] of [
    [['--resource', '/todos/1'], '/todos/1'],
    [['--key', 'key 4'], '/todos/4'],
    [['--operation', 'none'], undefined],
    // An index finds the failed jobs: a lookup of a job counts as much as five rows that are read in order.
    [['--error', 'none'], undefined],
  ] as const) {
    let { jobs, err, reads } = await list(...args)
    t.same(jobs, [], args.join(' '))
    t.ok(reads <= 3_000_000, `${reads} rows and index entries were read`)
    const [, before = ''] = err.match(/^Older jobs were not searched\. To search them, add: --before (\S+)\n$/) ?? []
    const { rows } = await pool.query('select substr(resource, 8)::integer as number from accepted.job where id = $1', [
      before,
    ])
    t.ok(rows[0].number > 99_000, `the search ended at about the job ${rows[0].number}`)
    ;({ jobs, err } = await list(...args, '--before', before))
    t.same([jobs[0]?.resource, err], [expected, ''])
  }
  for (const args of [
    [],
    ['--status', 'failed'],
    ['--principal', 'p7'],
    ['--status', 'queued', '--operation', 'todo.create'],
  ]) {
    const { reads } = await list(...args)
    t.ok(reads <= 1_000, `jobs list ${args.join(' ')}: ${reads} rows and index entries were read`)
  }
})
