import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { run as spawnCommand } from '../support/command.ts'
import { openTestDatabase } from '../support/database.ts'
import { run } from '../support/in-process.ts'
import { todosConfig } from '../support/program.ts'

const main = join(import.meta.dirname, '../../src/cli/main.ts')
const config = ['--config', todosConfig]
const todo = (title: string) => ({ operation: 'todo.create', input: { title } })

const database = await openTestDatabase(t)
const DATABASE_URL = database.options.url
const directory = await mkdtemp(join(tmpdir(), 'accepted-batches-'))
t.teardown(() => rm(directory, { recursive: true }))

const batches = (args: string[], input?: string) =>
  input === undefined
    ? run(['batches', ...args], { DATABASE_URL })
    : spawnCommand(['batches', ...args], { DATABASE_URL }, input)
const query = async (text: string, ...values: unknown[]) => (await database.pool.query(text, values)).rows

async function write(name: string, text: string): Promise<string> {
  await writeFile(join(directory, name), text)
  return join(directory, name)
}

/** Ends children of a batch, as a worker does. */
const end = (id: string, status: 'succeeded' | 'failed', count: number) =>
  query(
    `with ended as (
      update accepted.job set status = $2::accepted.job_status, ended_at = now(),
        error = case $2::text when 'failed' then '{"code": "handler-error", "message": "No luck"}'::jsonb end
      where id in (select id from accepted.job where parent = $1 and ended_at is null order by id limit $3) returning id
    )
    select array_agg(id) as ids from ended`,
    ...[id, status, count],
  ).then(([{ ids }]) => query('select accepted.resolve_ends($1)', ids))

t.test('submit enqueues JSON and NDJSON like the API, and prints the id', async (t) => {
  const pretty = await write('batch', JSON.stringify({ items: [todo('a'), todo('b')] }, null, 2))
  const submitted = await batches(['submit', pretty, ...config, '--principal', 'ann'])
  t.match(submitted, { code: 0, err: '', out: /^[0-9a-f-]{36}\n$/ })
  const id = submitted.out.trim()
  t.match(await query('select operation, status, principal, children from accepted.job where id = $1', id), [
    { operation: 'batch', status: 'running', principal: 'ann', children: { total: 2 } },
  ])
  t.same(
    await query(
      `select title, todo.status, job.principal from todo join accepted.job on job.id = todo.id where parent = $1
      order by job.id`,
      id,
    ),
    ['a', 'b'].map((title) => ({ title, status: 'pending', principal: 'ann' })),
    'accept has written the domain rows',
  )
  const lines = [{ allowFailures: true }, todo('c')].map((line) => JSON.stringify(line)).join('\n')
  const twice = ['submit', '-', ...config, '--json', '--key', 'k']
  const first = JSON.parse((await batches(twice, lines)).out)
  t.same(JSON.parse((await batches(twice, lines)).out), first)
  t.match(await batches(twice, `${lines}\n${JSON.stringify(todo('d'))}`), {
    ...{ code: 1, err: /^error: The standard input: The Idempotency-Key was used for a different request\./ },
  })
  t.match(await query('select principal, children from accepted.job where id = $1', first.id), [
    { principal: 'anonymous', children: { total: 1 } },
  ])
})

t.test('submit says what is wrong with a batch, and enqueues nothing', async (t) => {
  const [before] = await query('select count(*) from accepted.job')
  const file = await write('wrong.ndjson', `${JSON.stringify(todo('a'))}\n${JSON.stringify(todo(''))}\n{"oper`)
  const reminder = {
    operation: 'reminder.send',
    params: { id: '0199b5f0-0000-7000-8000-000000000000' },
    input: { email: 'ann@example.com' },
  }
  for (const [args, input, err] of [
    [['-'], '', /standard input: The body does not match the schema\..*\n {2}\/items must have at least one item\n$/],
    [
      [file],
      '',
      /wrong\.ndjson: The body is not valid JSON\. Nothing was enqueued\.\n {2}\/items\/2 is not valid JSON\n$/,
    ],
    [['-'], JSON.stringify({ items: [todo('a'), todo('')] }), /\n {2}\/items\/1\/input\/title must not have fewer/],
    [['-'], JSON.stringify({ items: [{ operation: 'none' }] }), /\n {2}\/items\/0\/operation must be the name of an/],
    [['-'], JSON.stringify({ items: [todo('a'), reminder] }), /There is no todo .*\n {2}\/items\/1 There is no todo/],
    [[join(directory, 'none')], '', /The file \S+none does not exist\. Pass a file/],
    [['-', '--principal', ''], '', /--principal must not be empty/],
  ] as [string[], string, RegExp][]) {
    const { code, out, err: printed } = await batches(['submit', ...args, ...config], input)
    t.match({ code, out, printed }, { code: 1, out: '', printed: err })
  }
  t.same(await query('select count(*) from accepted.job'), [before])
})

t.test('show prints the counts and the failed jobs, and watch ends with the batch', async (t) => {
  const items = { items: ['a', 'b', 'c', 'd'].map(todo) }
  const { out } = await batches(['submit', '-', ...config], JSON.stringify(items))
  const id = out.trim()
  await end(id, 'failed', 1)
  await query('select accepted.report_children()')
  const [failed] = await query("select id from accepted.job where parent = $1 and status = 'failed'", id)
  const shown = await batches(['show', id])
  t.match(shown.out, /^ID +STATUS +PERCENT +TOTAL +SUCCEEDED +FAILED +CANCELED +CREATED +ENDED\n/)
  t.match(shown.out, new RegExp(`\\n${id} +running +25 +4 +0 +1 +0 +\\S+Z\\n`))
  t.match(shown.out, new RegExp(`\\n\\nID .*\\n${failed.id}  todo.create  handler-error: No luck\\n$`))
  t.match(JSON.parse((await batches(['show', id, '--json'])).out), {
    ...{ id, status: 'running', children: { total: 4, failed: 1 }, failures: [{ id: failed.id }] },
  })
  const watching = batches(['watch', id])
  await end(id, 'succeeded', 3)
  const watched = await watching
  t.equal(watched.code, 1, 'the batch has failed')
  const last = /^failed {2}\d+ % {2}4 of 4 \(1 failed\): children-failed: 1 of 4 children failed or were canceled$/
  t.match(watched.out.trimEnd().split('\n').at(-1), last)
  t.match((await batches(['show', id])).out, /\n\nchildren-failed: 1 of 4/)
  for (const command of ['show', 'watch']) {
    t.match(await batches([command, 'none']), {
      code: 1,
      err: /^error: There is no batch none\. `accepted batches list/,
    })
    t.match(await batches([command, failed.id]), { code: 1, err: /^error: The job \S+ of todo\.create has no child/ })
  }
})

const exec = promisify(execFile)
const hasScript = await exec('script', ['--version']).then(
  () => true,
  () => false,
)

t.test('on a terminal, watch shows a progress bar', { skip: !hasScript }, async (t) => {
  const { out } = await batches(['submit', '-', ...config], JSON.stringify(todo('a')))
  const id = out.trim()
  await end(id, 'succeeded', 1)
  const command = [process.execPath, '--conditions=accepted-source', main, 'batches', 'watch', id].join(' ')
  // `script` gives the command a terminal, and exits with its code.
  const { stdout } = await exec('script', ['-qefc', command, '/dev/null'], { env: { ...process.env, DATABASE_URL } })
  t.ok(stdout.includes('\r\u001b[K[#'), 'the line is replaced')
  t.match(stdout, /\[#+\] succeeded {2}100 % {2}1 of 1\r?\n$/)
  const piped = await batches(['watch', id])
  t.match(piped, { code: 0, out: 'succeeded  100 %  1 of 1\n' })
  t.match(JSON.parse((await batches(['watch', id, '--json'])).out), { status: 'succeeded', children: { succeeded: 1 } })
})
