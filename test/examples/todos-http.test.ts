import { readFileSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { get, post } from '../support/client.ts'
import { createDatabase, queryOnce } from '../support/database.ts'
import { fillVariables, type NamedResponse, parseHttpFile, toHttpyac } from '../support/http-file.ts'
import { start } from '../support/program.ts'

const directory = join(import.meta.dirname, '../../examples/todos')
const text = readFileSync(join(directory, 'todos.http'), 'utf8')

t.test('every request of todos.http gets the status that the file states', async (t) => {
  const databaseUrl = await createDatabase(t)
  const [api] = await Promise.all([
    start(t, 'api', { databaseUrl }),
    start(t, 'worker', { databaseUrl, env: { DATA_DIR: t.testdir() } }),
  ])
  const responses = new Map<string, NamedResponse>()
  const requests = parseHttpFile(text)
  t.ok(requests.length > 40)
  for (const { title, status, name, method, headers, ...request } of requests) {
    const fill = (template: string) => fillVariables(template, api.url, responses)
    const { body } = request
    const content = body && ('file' in body ? await readFile(join(directory, body.file)) : fill(body.text))
    const response = await fetch(fill(request.url), { method, headers, ...(content && { body: content }) })
    t.equal(response.status, status, title)
    if (name) responses.set(name, { headers: response.headers, body: await response.json() })
    else await response.arrayBuffer()
  }
  const titles = await queryOnce(databaseUrl, `select title from todo where status = 'ready' order by title`)
  t.same(
    titles.map(({ title }) => title),
    ['Buy flowers', 'Plant potatoes', 'Read a book', 'Read an article', 'Return the books', 'Write an article'],
    'neither the replay nor the refused requests created a todo',
  )
})

t.test('httpyac.http has the requests of todos.http', async (t) => {
  const path = join(directory, 'httpyac.http')
  // To update it: npm test -- --snapshot test/examples/todos-http.test.ts
  if (process.env.TAP_SNAPSHOT === '1') writeFileSync(path, toHttpyac(text))
  t.equal(readFileSync(path, 'utf8'), toHttpyac(text))
})

t.test('a todo and a reminder follow a job that is canceled, and impossible dates and ids are refused', async (t) => {
  const databaseUrl = await createDatabase(t)
  const api = await start(t, 'api', { databaseUrl })
  const todo = await post(`${api.url}/todos`, { title: 'x' })
  const reminder = await post(`${api.url}/todos/${todo.body.id}/reminders`, { email: 'ann@example.com' })
  for (const { body } of [reminder, todo]) {
    t.match(await post(body.links.cancel, {}), { status: 200, body: { status: 'canceled' } })
  }
  t.match(await get(`${api.url}/todos/${todo.body.id}`), { status: 200, body: { status: 'canceled' } })
  t.same(await queryOnce(databaseUrl, 'select status from reminder'), [{ status: 'canceled' }])
  const invalid = ['todo.create', 'reminder.send'].map(async (operation) => {
    const [{ id }] = await queryOnce(databaseUrl, `select accepted.enqueue($1, '{"todoId": "x"}') as id`, [operation])
    const url = `${api.url}/jobs/${id}`
    t.match(await post(`${url}/cancel`, {}), { status: 200, body: { status: 'canceled' } }, operation)
  })
  await Promise.all(invalid)

  const yearZero = await post(`${api.url}/todos`, { title: 'x', dueBy: '0000-01-01' })
  t.match(yearZero, { status: 400, body: { error: { code: 'invalid-body' } } })
  const upper = await post(`${api.url}/todos/${todo.body.id.toUpperCase()}/reminders`, { email: 'ann@example.com' })
  t.equal(upper.status, 202)
  t.match(await get(`${api.url}/%`), { status: 404, body: { error: { code: 'not-found' } } })
})
