import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { get, post } from '../support/client.ts'
import { createDatabase, queryOnce } from '../support/database.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'

/** A request of todos.http, with its annotations. */
interface Step {
  title: string
  status: number
  name: string | undefined
  method: string
  url: string
  headers: Record<string, string>
  body: string | undefined
}

const text = readFileSync(join(import.meta.dirname, '../../examples/todos/todos.http'), 'utf8')
const [, ...blocks] = text.split(/^### /m).slice(1)

function parse(block: string): Step {
  const [title, ...lines] = block.split('\n') as [string, ...string[]]
  const annotation = (pattern: RegExp) => lines.map((line) => line.match(pattern)?.[1]).find(Boolean)
  const request = lines.filter((line) => !line.startsWith('#'))
  const blank = request.indexOf('')
  const [[method, url], headers] = [request[0]?.split(' ') as [string, string], request.slice(1, blank)]
  return {
    ...{ title, method, url },
    status: Number(annotation(/^# → (\d+)/)),
    name: annotation(/^# @name (\w+)/),
    headers: Object.fromEntries(headers.map((line) => line.split(': ') as [string, string])),
    body: request.slice(blank).join('\n').trim() || undefined,
  }
}

t.test('every request of todos.http gets the status that the file states', async (t) => {
  const databaseUrl = await createDatabase(t)
  const [api] = await Promise.all([
    start(t, 'api', { databaseUrl }),
    start(t, 'worker', { databaseUrl, env: { DATA_DIR: t.testdir() } }),
  ])
  const variables: Record<string, string> = { host: api.url }
  const fill = (template: string) =>
    template.replace(/\{\{(.+?)\}\}/g, (_, name) => variables[name] ?? `unknown ${name}`)

  t.ok(blocks.length > 10)
  for (const step of blocks.map(parse)) {
    const send = () => fetch(fill(step.url), { ...step, ...(step.body && { body: step.body }) } as RequestInit)
    // A result may still be pending at the first request.
    const response = await until(async () => {
      const answer = await send()
      return (step.status !== 200 || answer.status !== 202) && answer
    })
    t.equal(response.status, step.status, step.title)
    if (!step.name) continue
    const { id } = (await response.json()) as { id: string }
    variables[`${step.name}.response.body.id`] = id
    for (const [name, value] of response.headers) variables[`${step.name}.response.headers.${name}`] = value
  }
  const todos = (await fetch(`${api.url}/todos`).then((answer) => answer.json())) as { id: string }[]
  t.same(
    todos.map(({ id }) => id),
    [variables['create.response.body.id']],
    'neither the replay nor the refused requests created a todo',
  )
})

t.test('a todo and a reminder get the status of their job when it is canceled, whatever its payload', async (t) => {
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
})

t.test('an impossible date gets a 400, an invalid URL encoding gets a 404, and an upper-case id works', async (t) => {
  const databaseUrl = await createDatabase(t)
  const api = await start(t, 'api', { databaseUrl })
  const yearZero = await post(`${api.url}/todos`, { title: 'x', dueBy: '0000-01-01' })
  t.match(yearZero, { status: 400, body: { error: { code: 'invalid-body' } } })
  const { body } = await post(`${api.url}/todos`, { title: 'x' })
  const upper = await post(`${api.url}/todos/${body.id.toUpperCase()}/reminders`, { email: 'ann@example.com' })
  t.equal(upper.status, 202)
  t.match(await get(`${api.url}/%`), { status: 404, body: { error: { code: 'not-found' } } })
})
