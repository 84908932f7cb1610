/** Plays a DBA who has nothing but psql, first as a reader and then as an operator, while an API and a worker run. */
import { execFile } from 'node:child_process'
import { hostname } from 'node:os'
import { promisify } from 'node:util'
import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed } from 'accepted/worker'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { roles } from '../../src/migrate/grants.ts'
import { serve } from '../support/api.ts'
import { get, post } from '../support/client.ts'
import { adminUrlVariable, queryOnce } from '../support/database.ts'
import { hasProgram, installPackage } from '../support/debian-package.ts'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

const input = Type.Object({ word: Type.String() })
const importRows = defineOperation({
  ...{ name: 'import.run', input, route: { method: 'POST', url: '/imports' } },
  retry: { limit: 1, delaySeconds: 0, backoff: false },
})

/** The handler waits for a bank. While the bank is down, jobs fail. */
const bank = { isDown: true }

const handlers = defineHandlers(
  { importRows },
  {
    'import.run': {
      async perform({ payload, signal, attempt }) {
        if (payload.word === 'hang' && attempt === 2) {
          await new Promise((resolve) => signal.addEventListener('abort', resolve))
        } else if (payload.word === 'hang') throw new Error('The bank hung up')
        else if (bank.isDown) throw new JobFailed('bank-down', 'The bank is down')
      },
    },
  },
)

/** Runs a script with psql. Returns one line per row, with `|` between columns; after an error, also what psql printed. */
async function runPsql(url: string, script: string): Promise<string> {
  const args = ['--no-psqlrc', '--quiet', '--no-align', '--tuples-only', '--set=ON_ERROR_STOP=1', '--dbname', url]
  const running = promisify(execFile)('psql', [...args, '--file=-'])
  running.child.stdin?.end(script)
  const { stdout, stderr } = await running.catch((error) => error)
  return `${stdout}${stderr}`.trim()
}

/** Creates a login role in a group role. Returns a function that runs psql as this role. */
async function psqlAs(t: Test, url: string, group: string) {
  const login = new URL(url)
  login.username = `${group}_${login.pathname.slice(1)}`
  login.password = 'secret'
  await queryOnce(url, `create role ${login.username} login password 'secret' in role ${group}`)
  t.teardown(() => queryOnce(url, `drop owned by ${login.username}; drop role ${login.username}`))
  return { name: login.username, psql: (script: string) => runPsql(login.href, script) }
}

async function setUp(t: Test) {
  installPackage('postgresql-client', () => hasProgram('psql'))
  const api = await serve(t, {
    operations: [importRows],
    authenticate: (request) => String(request.headers['x-user']),
  })
  const url = new URL(process.env[adminUrlVariable] as string)
  url.pathname = `/${(await api.database.pool.query('select current_database() as name')).rows[0].name}`
  const jobs = await openJobs(t, [importRows], url.href)
  await jobs.work(handlers)
  return {
    jobs,
    reader: await psqlAs(t, url.href, roles.reader),
    operator: await psqlAs(t, url.href, roles.operator),
    submit: async (word: string, user = 'ann'): Promise<string> =>
      (await post(`${api.url}/imports`, { word }, { 'x-user': user })).body.id,
    monitor: (id: string, user = 'ann') => get(`${api.url}/jobs/${id}`, { 'x-user': user }),
  }
}

t.test('a DBA finds out what is wrong, and mends it, with psql alone', async (t) => {
  const { jobs, reader, operator, submit, monitor } = await setUp(t)
  const statusOf = async (id: string) => (await monitor(id)).body.status

  const id = await submit('hang')
  await until(async () => (await jobs.read(id)).attempt === 2 && (await jobs.read(id)).status === 'running')
  await jobs.query(`update accepted_queue.job set started_on = now() - interval '1 hour' where id = $1`, [id])

  const stuck = await reader.psql('select job_id, why from accepted.stuck')
  t.equal(stuck, `${id}|it has run for longer than its timeout of 60 s`)
  t.equal(
    await reader.psql(
      `select worker, attempt, error_code, error_message from accepted.job_overview where id = '${id}'`,
    ),
    `${hostname()}:${process.pid}|2|handler-error|The bank hung up`,
  )
  t.match(
    await reader.psql(`select event, attempt from accepted.timeline where job_id = '${id}' order by at`),
    /^accepted\|\nstarted\|1\nattempt failed\|1\n(started|heartbeat)\|2/,
  )
  t.match(await reader.psql(`select accepted.cancel('${id}')`), /ERROR: {2}permission denied for function cancel/)
  t.match(await reader.psql('select payload from accepted.job'), /ERROR: {2}permission denied for table job/)

  // \gexec runs the statement that a query has returned.
  await operator.psql(`select substring(what_to_do from 'select accepted.*$') from accepted.stuck \\gexec`)
  await jobs.ended(id)
  t.equal(await statusOf(id), 'canceled')
  t.equal(await reader.psql('select * from accepted.stuck'), '')

  const failed = await submit('x')
  const others = [await submit('x'), await submit('x'), await submit('x')]
  for (const one of [failed, ...others]) await jobs.ended(one)
  bank.isDown = false
  const retry = await operator.psql(`select accepted.retry('${failed}')`)
  await jobs.ended(retry)
  t.equal(await statusOf(retry), 'succeeded')
  const failure = 'select operation, error_code, jobs, retried from accepted.failure'
  t.equal(await operator.psql(failure), 'import.run|bank-down|4|1')
  const redriven = (await operator.psql(`select accepted.redrive('import.run', 'bank-down')`)).split('\n')
  t.equal(redriven.length, others.length)
  for (const one of redriven) t.match(await jobs.ended(one), { status: 'succeeded' })
  t.equal(await operator.psql(failure), 'import.run|bank-down|4|4')

  await operator.psql(`select accepted.pause('import.run', 'the bank asked for it')`)
  const [first, urgent] = [await submit('x'), await submit('x')]
  const backlog = `select ready, running, paused, paused_reason, workers from accepted.backlog where operation = 'import.run'`
  t.equal(await operator.psql(backlog), '2|0|t|the bank asked for it|1')
  await operator.psql(`select accepted.prioritize('${urgent}', 10)`)
  const waiting = 'select id, priority, paused from accepted.job_overview where ended_at is null order by priority desc'
  t.equal(await operator.psql(waiting), `${urgent}|10|t\n${first}|0|t`)
  await operator.psql(`select accepted.resume('import.run')`)
  for (const one of [first, urgent]) await jobs.ended(one)

  await operator.psql(`
    create temporary table placed (customer text);
    create function pg_temp.confirm() returns trigger language plpgsql as $$
    begin
      perform accepted.enqueue('import.run', '{"word": "x"}', principal => new.customer);
      return null;
    end $$;
    create trigger confirm after insert on placed for each row execute function pg_temp.confirm();
    begin; insert into placed values ('eve'); rollback;
    insert into placed values ('eve');`)
  const ofEve = await operator.psql(`select id from accepted.job_overview where principal = 'eve'`)
  await jobs.ended(ofEve)
  t.match((await monitor(ofEve, 'eve')).body, { status: 'succeeded' })

  t.equal(await operator.psql(`select accepted.forget('ann')`), '11')
  t.equal((await monitor(id)).status, 404)
  t.equal((await monitor(ofEve, 'eve')).status, 200)
  t.equal(
    await reader.psql(`select string_agg(action, ' ' order by id) from accepted.audit where role = '${operator.name}'`),
    'cancel retry redrive retry retry retry pause prioritize resume forget',
  )
})

t.test('each wrong move of an operator is refused with a sentence that names the right one', async (t) => {
  const { jobs, operator, submit } = await setUp(t)
  bank.isDown = true
  const failed = await submit('x')
  await jobs.ended(failed)
  bank.isDown = false
  const succeeded = await submit('x')
  await jobs.ended(succeeded)
  await operator.psql(`select accepted.pause('import.run')`)
  const queued = await submit('x')
  const rows = () => jobs.query('select * from accepted.job order by id')
  const before = await rows()
  const set = (change: string) => `update accepted.job set ${change} where id = '${failed}'`
  const insert = (id: string) => `insert into accepted.job (id, operation) values (${id}, 'import.run')`
  for (const [statement, sentence] of [
    [set("status = 'queued'"), /accepted\.retry\(/],
    [set("id = '01a00000-0000-7000-8000-000000000000'"), /accepted\.retry\(/],
    [set("operation = 'import.other'"), /accepted\.retry\(/],
    [set('created_at = now()'), /accepted\.reschedule\(/],
    [`delete from accepted.job where id = '${queued}'`, /accepted\.cancel\(.*accepted\.forget\(/],
    [insert("'01a00000-0000-7000-8000-000000000000'"), /accepted\.enqueue\(/],
    [insert('gen_random_uuid()'), /accepted\.enqueue\(/],
    ["insert into accepted_queue.job (name, data) values ('import.run', '{}')", /accepted\.enqueue\(/],
    [`select accepted.cancel('${failed}')`, new RegExp(`accepted\\.retry\\('${failed}'\\)`)],
    [`select accepted.cancel('${succeeded}')`, /enqueue a job/],
    [`select accepted.retry('${succeeded}')`, /accepted\.enqueue\('import\.run'/],
    [`select accepted.retry('${queued}')`, /retries by itself/],
    [`select accepted.reschedule('${failed}', now())`, /accepted\.timeline/],
    [`select accepted.prioritize('${failed}', 1)`, /accepted\.timeline/],
    ["select accepted.forget('ann')", /accepted\.forget\('ann', cancel_pending => true\)/],
    ["select accepted.enqueue('import.runs')", /Operations: import\.run/],
    ["select accepted.cancel('01a00000-0000-7000-8000-000000000000')", /accepted\.job_overview/],
  ] as const) {
    const printed = await operator.psql(statement)
    t.match(printed, /ERROR: {2}/, statement)
    t.match(printed, sentence, statement)
  }
  t.same(await rows(), before)
})
