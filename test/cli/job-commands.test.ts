import t from 'tap'
import { post } from '../support/client.ts'
import { run as spawnCommand } from '../support/command.ts'
import { openTestDatabase } from '../support/database.ts'
import { run } from '../support/in-process.ts'
import { start, todosConfig } from '../support/program.ts'

const config = ['--config', todosConfig]

t.test('`jobs list` and `jobs redrive` print text or JSON', async (t) => {
  const database = await openTestDatabase(t)
  const DATABASE_URL = database.options.url
  const jobs = (...args: string[]) => run(['jobs', ...args], { DATABASE_URL })
  t.match(await jobs('list'), { code: 0, out: 'No jobs found.\n' })

  const api = await start(t, 'api', { databaseUrl: DATABASE_URL })
  const titles = ['a', 'b', 'c', 'd', 'e']
  const ids: string[] = []
  for (const title of titles) ids.push((await post(`${api.url}/todos`, { title })).body.id)
  // Marks all jobs as failed, as after an outage. Redrive must skip three of them: the operation of `gone` no longer
  // exists, `bare` has no payload, and `retried` has already been retried.
  await database.pool.query(`
    update accepted.job set
      status = 'failed', error = '{"code": "handler-error", "message": "No luck"}', attempt = 4, ended_at = now(),
      payload = jsonb_build_object('todoId', id);
    delete from accepted_queue.job`)
  const [gone, bare, retried, ...good] = ids as [string, string, string, string, string]
  await database.pool.query(
    `with gone as (delete from accepted.job where id = $1 returning *)
    insert into accepted.job
    select (jsonb_populate_record(null::accepted.job, to_jsonb(gone) || '{"operation": "todo.gone"}')).* from gone`,
    [gone],
  )
  await database.pool.query('update accepted.job set payload = null where id = $1', [bare])
  t.equal((await post(`${api.url}/jobs/${retried}/retry`, undefined)).status, 202)

  const listed = await jobs('list', '--status', 'failed', '--operation', 'todo.create', '--limit', '1')
  t.match(
    listed.out,
    new RegExp(
      `^ID +OPERATION +STATUS +CREATED +ENDED +PRINCIPAL +ATTEMPT +ERROR\\n` +
        `${good[1]}  todo\\.create  failed  \\S+Z  \\S+Z  anonymous  4 of 4   handler-error: No luck\\n$`,
    ),
  )
  const [retry, ...others] = JSON.parse((await jobs('list', '--status', 'queued', '--json')).out)
  t.match([retry, others], [{ status: 'queued', retry_of: retried, retried: false }, []])
  const failed = async (...args: string[]) =>
    JSON.parse((await jobs('list', '--status', 'failed', '--json', ...args)).out).map(
      ({ id, retried }: { id: string; retried: boolean }) => [id, retried],
    )
  const notRetried = [...good.toReversed(), bare, gone].map((id) => [id, false])
  t.same(await failed('--not-retried'), notRetried)
  t.same((await failed()).toSorted(), [...notRetried, [retried, true]].toSorted())
  t.match((await jobs('list')).out, new RegExp(`\\n${retried} .* \\(retried\\) handler-error: `))
  await database.pool.query(
    "begin; set local session_replication_role = replica; update accepted.job set status = 'canceled', ended_at = now() where retry_of is not null; commit",
  )
  t.same((await failed('--not-retried')).length, 5, 'a canceled retry does not count')
  await database.pool.query(
    "begin; set local session_replication_role = replica; update accepted.job set status = 'queued', ended_at = null where retry_of is not null; commit",
  )
  t.equal(JSON.parse((await jobs('list', '--json')).out).length, 6)

  const skipped = `Skipped 1 job: already retried.
Skipped 1 job of todo.gone: the operation no longer exists.
Skipped 1 job: the payload was not kept (${bare}).
`
  t.match(await jobs('redrive', ...config, '--dry-run'), { code: 0, out: `Would redrive 2 jobs.\n${skipped}` })
  t.equal((await jobs('redrive', ...config, '--since', '1h', '--error', 'none')).out, 'Redrove 0 jobs.\n')
  t.equal((await jobs('redrive', ...config, '--since', '2127-01-01')).out, 'Redrove 0 jobs.\n')
  const one = await jobs('redrive', ...config, '--limit', '1', '--operation', 'todo.create', '--since', '1h')
  t.match(one.out, /^Redrove 1 job\.\n/)
  const json = await jobs('redrive', ...config, '--json')
  t.same(JSON.parse(json.out), {
    redriven: 1,
    alreadyRetried: 2,
    unknownOperation: { 'todo.gone': 1 },
    missingPayload: [bare],
    dryRun: false,
  })
  t.match(await jobs('redrive', ...config), { code: 0, out: /^Redrove 0 jobs\.\nSkipped 3 jobs: already retried\./ })
  const { rows } = await database.pool.query('select retry_of from accepted.job where retry_of is not null order by 1')
  t.same(
    rows.map(({ retry_of }) => retry_of),
    [retried, ...good],
  )
  const { rows: queued } = await database.pool.query(
    `select data -> 'payload' ->> 'todoId' as id from accepted_queue.job order by 1`,
  )
  t.same(
    queued.map(({ id }) => id),
    [retried, ...good],
    'the queue contains the retries with the payloads of the failed jobs',
  )
})

t.test(
  'two simultaneous redrives create only one retry of each job, even if a redrive needs several transactions',
  async (t) => {
    const database = await openTestDatabase(t)
    const DATABASE_URL = database.options.url
    await database.pool.query(`
    insert into accepted.job (id, operation, principal, status, error, max_attempts, payload, ended_at, expires_at)
    select accepted.uuid7(), 'todo.create', 'ann', 'failed', '{"code": "x", "message": "x"}', 1,
      '{"todoId": "x"}', now(), now() + interval '1 day'
    from generate_series(1, 250)`)
    const both = await Promise.all(
      [1, 2].map(() => spawnCommand(['jobs', 'redrive', ...config, '--json'], { DATABASE_URL })),
    )
    const counts = both.map(({ out }) => JSON.parse(out) as { redriven: number })
    t.equal(
      counts.reduce((sum, { redriven }) => sum + redriven, 0),
      250,
    )
    const { rows } = await database.pool.query(`
    select count(*)::int as retries, count(distinct retry_of)::int as of from accepted.job where retry_of is not null`)
    t.same(rows, [{ retries: 250, of: 250 }])
  },
)

t.test('if an option is invalid, the command prints one error line', async (t) => {
  const { options } = await openTestDatabase(t)
  for (const [args, sentence] of [
    [['list', '--status', 'lost'], /^error: --status must be one of queued, running, .*, not 'lost'\.\n$/],
    [['list', '--limit', '0'], /^error: --limit must be an integer from 1 to 2147483647, not '0'\.\n$/],
    [['redrive', ...config, '--since', 'noon'], /^error: --since must be a duration like 24h .*, not 'noon'\.\n$/],
    [
      ['redrive', ...config, '--operation', 'todo.crate'],
      /^error: There is no operation todo\.crate\. Choose one of these: .*\btodo\.create, .*\n$/,
    ],
  ] as const) {
    const ran = await run(['jobs', ...args], { DATABASE_URL: options.url })
    t.equal(ran.code, 1)
    t.match(ran.err, sentence)
  }
})

t.test('expire and forget remove jobs, and say how many', async (t) => {
  const database = await openTestDatabase(t)
  const jobs = (...args: string[]) => run(['jobs', ...args], { DATABASE_URL: database.options.url })
  await run(['migrate', ...config], { DATABASE_URL: database.options.url })
  await database.pool.query(`
    insert into accepted.job (id, operation, principal, status, max_attempts, started_at, ended_at, expires_at)
    select accepted.uuid7(), 'todo.create', 'ann', 'succeeded', 1, now(), now() - make_interval(days => day), now() + interval '9 days'
    from generate_series(0, 4) day`)
  const expired = async () => (await database.pool.query('select from accepted.job where expires_at <= now()')).rowCount
  t.match(await jobs('expire', '--before', '36h', '--dry-run'), { code: 0, out: 'Would expire 3 jobs.\n' })
  t.equal(await expired(), 0)
  t.match(await jobs('expire', '--before', '36h', '--json'), { code: 0, out: '{"expired":3,"dryRun":false}\n' })
  t.equal(await expired(), 3)
  t.match(await jobs('expire', '--before', '36h'), { code: 0, out: 'Expired 0 jobs.\n' })
  t.match(await jobs('expire'), { code: 1, err: /^error: --before is missing\./ })
  t.match(await jobs('expire', '--before', '36h', '--operation', 'none'), {
    code: 1,
    err: /^error: There is no operation 'none'/,
  })

  await database.pool.query(`select accepted.enqueue('webhook.deliver', principal => 'ann')`)
  t.match(await jobs('forget', 'ann'), { code: 1, err: /^error: 1 job of 'ann' has not ended\./ })
  t.match(await jobs('forget', 'ann', '--cancel-pending'), { code: 0, out: 'Deleted 6 jobs.\n' })
  t.match(await jobs('forget', 'ann', '--json'), { code: 0, out: '{"forgotten":0}\n' })
})
