import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { buffer } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import PostalMime, { type Email } from 'postal-mime'
import sharp from 'sharp'
import { SMTPServer } from 'smtp-server'
import t from 'tap'
import { startBrowser } from '../clients/browser.ts'
import { ended, get, type JsonResponse, post } from '../support/client.ts'
import { openTestDatabase } from '../support/database.ts'
import { run } from '../support/in-process.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'

// One subtest for each pattern of the example. They share the processes and the database.

const received: Email[] = []
/** The replies to the next recipients, instead of 250. */
const replies: number[] = []
const smtp = new SMTPServer({
  ...{ authOptional: true, disabledCommands: ['STARTTLS'] },
  onRcptTo: (_address, _session, done) => {
    const responseCode = replies.shift()
    done(responseCode ? Object.assign(new Error('not now'), { responseCode }) : null)
  },
  onData: async (stream, _session, done) => {
    received.push(await PostalMime.parse(await buffer(stream)))
    done()
  },
})
smtp.listen(0, '127.0.0.1')
await once(smtp.server, 'listening')
t.teardown(() => new Promise<void>((resolve) => smtp.close(resolve)))
const { port } = smtp.server.address() as { port: number }

const axe = await readFile(fileURLToPath(import.meta.resolve('axe-core/axe.min.js')), 'utf8')
const database = await openTestDatabase(t)
const databaseUrl = database.options.url
const env = { SMTP_URL: `smtp://127.0.0.1:${port}`, SMTP_RETRY_SECONDS: '1', DIGEST_TO: 'team@example.com' }
const [{ url }] = await Promise.all([start(t, 'api', { databaseUrl }), start(t, 'worker', { databaseUrl, env })])

// biome-ignore lint/suspicious/noExplicitAny: rows of any shape
const query = async (text: string, values?: unknown[]): Promise<any[]> => (await database.pool.query(text, values)).rows
const day = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10)
const submit = async (path: string, body: unknown = {}) => ended((await post(`${url}${path}`, body)).body.links.self)
const create = async (todo: object) => (await submit('/todos', todo)).id as string

async function send(path: string, body: string | Buffer, type: string): Promise<JsonResponse> {
  const response = await fetch(`${url}${path}`, { method: 'POST', headers: { 'content-type': type }, body })
  return { status: response.status, headers: response.headers, body: await response.json() }
}

/** The summary, when it contains all changes. */
async function freshSummary() {
  await until(async () => (await query('select stale_since from todo_summary'))[0].stale_since === null)
  return (await get(`${url}/summary`)).body
}

t.test('the summary follows todos that are created and completed, with one refresh for all', async (t) => {
  const titles = Array.from({ length: 20 }, (_, index) => ({ title: `todo ${index}`, dueBy: day(-2) }))
  const ids = await Promise.all(titles.map(create))
  const completed = await submit(`/todos/${ids[0]}/complete`)
  t.equal(completed.resourceLocation, `${url}/todos/${ids[0]}`)
  t.match((await get(completed.resourceLocation)).body, { status: 'ready', completedAt: /Z$/ })
  const summary = await freshSummary()
  t.match(summary, { todos: 20, completed: 1, overdue: 19 })
  t.ok(summary.averageCompletionSeconds > 0)
  const [{ refreshes }] = await query(
    `select count(*)::integer as refreshes from accepted.job where operation = 'summary.refresh'`,
  )
  t.ok(refreshes < 10, `${refreshes} refreshes`)
  const unknown = `${url}/todos/0199a0a0-0000-7000-8000-000000000000/complete`
  t.match(await post(unknown, {}), { status: 404, body: { error: { code: 'todo-not-found' } } })
})

t.test('the summary is refreshed again after a refresh was canceled', async (t) => {
  await query(`select accepted.pause('summary.refresh')`)
  await create({ title: 'first' })
  const [{ id }] = await query(`select id from accepted.job where operation = 'summary.refresh' and ended_at is null`)
  await query('select accepted.cancel($1)', [id])
  await until(async () => (await query('select stale_since from todo_summary'))[0].stale_since === null)
  await query(`select accepted.resume('summary.refresh')`)
  await create({ title: 'second' })
  t.match(await freshSummary(), { todos: 22 })
})

t.test('a reminder waits for the due day, and is sent once even if the server first refuses it for now', async (t) => {
  const noDay = await post(`${url}/todos`, { title: 'x', remind: 'ann@example.com' })
  t.match(noDay, { status: 400, body: { error: { code: 'due-date-missing' } } })
  const dueBy = day(30)
  const id = await create({ title: 'Pay the rent', dueBy, remind: 'ann@example.com' })
  const findJob = async (todoId: string) => {
    const [row] = await query(
      `select job.id, job.status, job.attempt, job.run_at, reminder.id as reminder from reminder
      join accepted.job on payload ->> 'reminderId' = reminder.id::text and operation = 'reminder.send'
      where todo_id = $1`,
      [todoId],
    )
    return row
  }
  const job = await findJob(id)
  t.match(job, { status: 'queued', run_at: new Date(`${dueBy}T09:00:00Z`) })
  replies.push(451)
  await query('select accepted.reschedule($1, now())', [job.id])
  t.match(await ended(`${url}/jobs/${job.id}`), { status: 'succeeded', attempt: 1 })
  t.match(
    received.map(({ messageId, to }) => [messageId, to?.[0]?.address]),
    [[`<${job.reminder}@todos.example.com>`, 'ann@example.com']],
  )

  const completed = await create({ title: 'Call', dueBy: day(30), remind: 'ann@example.com' })
  await submit(`/todos/${completed}/complete`)
  const needless = await findJob(completed)
  await query('select accepted.reschedule($1, now())', [needless.id])
  t.match(await ended(`${url}/jobs/${needless.id}`), { status: 'succeeded', result: {} })
  t.match(await query('select status from reminder where id = $1', [needless.reminder]), [{ status: 'canceled' }])
  t.equal(received.length, 1)
})

t.test('a todo that is canceled takes its reminder with it', async (t) => {
  await query(`select accepted.pause('todo.create')`)
  const { body } = await post(`${url}/todos`, { title: 'x', dueBy: day(1), remind: 'ann@example.com' })
  await post(body.links.cancel, {})
  t.match(await query('select status from reminder where todo_id = $1', [body.id]), [{ status: 'canceled' }])
  await query(`select accepted.resume('todo.create')`)
  const { body: retry } = await post(body.links.retry ?? `${body.links.self}/retry`, {})
  t.match(await ended(retry.links.self), { status: 'succeeded' })
  t.match(await query('select status from reminder where todo_id = $1', [body.id]), [{ status: 'pending' }])
})

t.test('an image is attached, and its thumbnail follows; a damaged image is attached without one', async (t) => {
  const todo = await create({ title: 'Hang up the picture' })
  const plain = { width: 640, height: 320, channels: 3 as const, background: 'teal' }
  const image = await sharp({ create: plain }).png().toBuffer()
  const upload = (body: Buffer, type = 'image/png') => send(`/todos/${todo}/attachments?name=a.png`, body, type)
  const { status, body } = await upload(image)
  t.equal(status, 202)
  const { resourceLocation } = await ended(body.links.self)
  const attachment = await until(async () => {
    const { body: found } = await get(resourceLocation)
    return found.thumbnail && found
  })
  t.match(attachment, { name: 'a.png', mediaType: 'image/png', status: 'ready' })
  const download = async (path: string) => Buffer.from(await (await fetch(`${url}${path}`)).arrayBuffer())
  t.ok((await download(attachment.content)).equals(image))
  t.match(await sharp(await download(attachment.thumbnail)).metadata(), { format: 'webp', width: 160, height: 80 })

  const damaged = await upload(image.subarray(0, 100))
  t.match(await ended(damaged.body.links.self), { status: 'succeeded' })
  const failure = await until(async () => {
    const [job] = await query(`select error from accepted.job where operation = 'thumbnail.make' and status = 'failed'`)
    return job
  })
  t.match(failure, { error: { code: 'image-invalid' } })
  t.match(await upload(Buffer.from('x'), 'text/html'), { status: 415 })
  t.match(await upload(Buffer.alloc(0)), { status: 400, body: { detail: 'The file is empty' } })
  t.match(await send(`/todos/${crypto.randomUUID()}/attachments?name=x`, image, 'image/png'), { status: 404 })
})

t.test('requests to rebuild the cache share a job, and the cache has the new words', async (t) => {
  await create({ title: 'Xylophone, xylophone!' })
  const requests = await Promise.all(Array.from({ length: 5 }, () => post(`${url}/words/rebuild`, {})))
  const ids = new Set(requests.map(({ body }) => body.id))
  t.equal(ids.size, 1)
  await query('select accepted.reschedule($1, now())', [[...ids][0]])
  t.match(await ended(`${url}/jobs/${[...ids][0]}`), { status: 'succeeded', resourceLocation: `${url}/words` })
  const { body: words } = await get(`${url}/words`)
  t.equal(words[0].word, 'todo')
  t.match(await query(`select todos from title_word where word = 'xylophone'`), [{ todos: 1 }])
})

t.test('the nightly digest lists what is overdue', async (t) => {
  received.length = 0
  const [{ id }] = await query(`select accepted.run_schedule('nightly-digest') as id`)
  const job = await until(
    async () => (await query('select * from accepted.job where id = $1 and ended_at is not null', [id]))[0],
  )
  t.match(job, { operation: 'digest.send', status: 'succeeded' })
  t.match(received, [{ to: [{ address: 'team@example.com' }], subject: /^\d+ overdue todos on / }])
  t.match(received[0]?.text, '- todo 1\n')
  t.notMatch(received[0]?.text, '- todo 0\n', 'it is completed')
})

t.test('a batch reminds of all overdue todos, and reports at its end', async (t) => {
  received.length = 0
  replies.push(550)
  const { body } = await post(`${url}/overdue/reminders`, { email: 'bob@example.com' })
  t.equal(body.operation, 'batch')
  const { status, children } = await ended(body.links.self)
  t.match({ status, children }, { status: 'failed', children: { failed: 1 } })
  const report = await until(async () => {
    const answer = await get(`${url}/overdue/reports/${body.id}`)
    return answer.status === 200 && answer.body
  })
  t.same(report, { email: 'bob@example.com', sent: children.total - 1, failed: 1 })
  t.equal(received.length, children.total - 1)
  t.equal(new Set(received.map(({ messageId }) => messageId)).size, received.length)
})

t.test('an import reports bad lines by their number, and an export is a file that can be imported', async (t) => {
  const before = await query('select count(*)::integer from todo')
  const lines = Array.from({ length: 2_500 }, (_, index) => JSON.stringify({ title: `line ${index + 1} "ü"` }))
  lines[4] = '{ "title": '
  lines[1_999] = '{ "title": "x", "dueBy": "2027-02-30" }'
  lines[2_000] = '{ "title": "\\u0000" }'
  lines[2_001] = ''
  const { status, body } = await send('/imports', lines.join('\n'), 'application/x-ndjson')
  t.equal(status, 202)
  const job = await ended(body.links.self)
  t.match(job, { status: 'succeeded', percentComplete: 100, result: { accepted: 2_496, rejected: 3 } })
  const { body: report } = await get(job.resourceLocation)
  t.match(report, {
    ...{ status: 'ready', accepted: 2_496, rejected: 3 },
    errors: [
      { line: 5, message: 'The line is not JSON', text: '{ "title": ' },
      { line: 2_000, message: /dueBy/ },
      { line: 2_001, message: /NUL/ },
    ],
  })
  t.match((await get(`${job.resourceLocation}/rejected?after=5`)).body, [{ line: 2_000 }, { line: 2_001 }])
  t.match(await query('select count(*)::integer from todo'), [{ count: before[0].count + 2_496 }])

  for (const [format, type] of [
    ['ndjson', 'application/x-ndjson'],
    ['csv', 'text/csv'],
  ] as const) {
    const { body: accepted } = await post(`${url}/exports`, { format })
    await ended(accepted.links.self)
    const response = await fetch(accepted.links.result)
    t.match(response.url, /\/exports\//, 'the result redirects to the file')
    t.match(response.headers.get('content-type'), type)
    const file = await response.text()
    const [{ count }] = await query(`select count(*)::integer from todo where status = 'ready'`)
    const again = await send('/imports', file, type)
    const { status, result } = await ended(again.body.links.self)
    t.match({ status, result }, { status: 'succeeded', result: { accepted: count, rejected: 0 } }, format)
  }
  t.match(await query(`select count(*)::integer from todo where title = 'line 1 "ü"'`), [{ count: 4 }])
})

t.test('a file that cannot be imported fails with a reason, and leaves nothing', async (t) => {
  const before = await query('select count(*)::integer from todo')
  for (const [file = '', type = '', code] of [
    ['name\nx\n', 'text/csv', 'columns-unknown'],
    [`title\n"${'x\n'.repeat(40_000)}`, 'text/csv', 'line-too-long'],
  ]) {
    const { body } = await send('/imports', file, type)
    t.match(await ended(body.links.self), { status: 'failed', error: { code } })
    t.equal((await get(body.links.result)).status, 422)
  }
  t.same(await query('select from todo_import_row'), [])
  t.same(await query('select count(*)::integer from todo'), before)
  t.match(await send('/imports', '', 'text/csv'), { status: 400 })
  t.match(await send('/imports', '{}', 'application/json'), { status: 415 })

  const csv = 'dueBy,title\r\n2027-02-14,"two\nlines, ""quoted"""\r\n,plain\r\n2027-02-14,too,many\r\n'
  const { body } = await send('/imports', csv, 'text/csv')
  const job = await ended(body.links.self)
  t.match(job, { status: 'succeeded', result: { accepted: 2, rejected: 1 } })
  t.match((await get(job.resourceLocation)).body.errors, [{ line: 5, message: /CSV/ }])
  t.match(await query(`select title from todo where title like 'two%'`), [{ title: 'two\nlines, "quoted"' }])
})

t.test('an import or export that is canceled leaves nothing, and its retry succeeds', async (t) => {
  for (const [operation, submitted] of [
    ['todo.import', () => send('/imports', 'title\nCanceled before\n', 'text/csv')],
    ['todo.export', () => post(`${url}/exports`, { format: 'ndjson' })],
  ] as const) {
    await query('select accepted.pause($1)', [operation])
    const { body } = await submitted()
    t.match((await post(body.links.cancel, {})).body, { status: 'canceled' })
    const left = 'select from todo_import_row union all select from todo_export_part where export_id = $1'
    t.same(await query(left, [body.id]), [])
    await query('select accepted.resume($1)', [operation])
    const { body: retry } = await post(body.links.retry, {})
    const job = await ended(retry.links.self)
    t.match(job, { operation, status: 'succeeded' })
    t.equal((await fetch(job.resourceLocation)).status, 200)
  }
  t.equal((await query(`select from todo where title = 'Canceled before'`)).length, 1)
})

t.test('the nightly cleanup deletes files of the week before the last, and no others', async (t) => {
  const old = async (table: string) =>
    (
      await query(`update ${table} set created_at = now() - interval '8 days' where id in
      (select id from ${table} where status = 'ready' limit 1) returning id`)
    )[0].id
  const [oldExport, oldImport] = [await old('todo_export'), await old('todo_import')]
  const [{ exports, imports }] = await query(
    'select (select count(*)::integer from todo_export) as exports, (select count(*)::integer from todo_import) as imports',
  )
  const [{ id }] = await query(`select accepted.run_schedule('nightly-cleanup') as id`)
  const job = await until(
    async () => (await query('select * from accepted.job where id = $1 and ended_at is not null', [id]))[0],
  )
  t.match(job, { status: 'succeeded', result: { exports: 1, imports: 1 } })
  t.equal((await get(`${url}/exports/${oldExport}`)).status, 404)
  t.equal((await get(`${url}/imports/${oldImport}`)).status, 404)
  t.match(
    await query(
      'select (select count(*)::integer from todo_export) as exports, (select count(*)::integer from todo_import) as imports',
    ),
    [{ exports: exports - 1, imports: imports - 1 }],
  )
})

t.test('a person creates, imports and completes todos on the page', async (t) => {
  const open = await startBrowser(t)
  for (const colorScheme of ['light', 'dark'] as const) {
    const { page, problems } = await open(t, { colorScheme, width: 360 })
    await page.goto(url)
    const title = `On the page, ${colorScheme} <b>`
    await page.getByLabel('Title').fill(title)
    await page.getByRole('button', { name: 'Create' }).click()
    const item = page.locator('#todos li', { hasText: title })
    await item.getByRole('button', { name: 'Complete' }).click()
    await item.getByText('completed').waitFor()
    await page.getByLabel('File of todos').setInputFiles({
      ...{ name: 'todos.csv', mimeType: 'text/csv' },
      buffer: Buffer.from(`title\nImported ${colorScheme}\n`),
    })
    await page.getByRole('button', { name: 'Import' }).click()
    await page.locator('#todos li', { hasText: `Imported ${colorScheme}` }).waitFor()
    await page.evaluate(axe)
    const { violations } = await page.evaluate<{ violations: { id: string; nodes: { html: string }[] }[] }>('axe.run()')
    t.same(
      violations.map(({ id, nodes }) => [id, nodes[0]?.html]),
      [],
      'axe finds no barriers',
    )
    const isScrolling = await page.evaluate('document.documentElement.scrollWidth > innerWidth')
    t.notOk(isScrolling, 'it fits into 360 pixels')
    if (process.env.SCREENSHOTS) {
      await page.screenshot({ path: `${process.env.SCREENSHOTS}/todos-${colorScheme}.png`, fullPage: true })
    }
    t.same(problems, [], 'it violates no Content-Security-Policy')
  }
})

// The last one: as soon as there is a key, requests need one.
t.test('a key without the scope or the operation can send no file', async (t) => {
  const { key } = JSON.parse(
    (await run(['keys', 'add', 'reader', '--scopes', 'read', '--json'], { DATABASE_URL: databaseUrl })).out,
  )
  t.teardown(() => query('delete from accepted.api_key'))
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'text/csv' }
  const response = await fetch(`${url}/imports`, { method: 'POST', headers, body: 'title\nx\n' })
  t.match([response.status, await response.json()], [403, { error: { code: 'forbidden' } }])
})
