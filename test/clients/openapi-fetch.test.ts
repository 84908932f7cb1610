import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import createClient from 'openapi-fetch'
import t from 'tap'
import { createDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'
import type { paths } from './paths.ts'

// `npm run check:types` is a part of this test: the code below must match the types. The types are generated from the
// OpenAPI document.

const databaseUrl = await createDatabase(t)
const dataDir = await mkdtemp(join(tmpdir(), 'accepted-mail-'))
t.teardown(() => rm(dataDir, { recursive: true }))
const [api] = await Promise.all([
  start(t, 'api', { databaseUrl }),
  start(t, 'worker', { databaseUrl, env: { DATA_DIR: dataDir, SMTP_URL: '' } }),
])
// The monitor also has an HTML and a stream representation. This client uses only the JSON representation.
const client = createClient<paths, 'application/json' | 'application/problem+json'>({ baseUrl: api.url })
const unknownId = '0199a0a0-0000-7000-8000-000000000000'

async function createTodo(title: string) {
  const { data, response } = await client.POST('/todos', { body: { title } })
  if (!data) throw new Error(`The request got ${response.status}`)
  return data
}

t.test('a request creates a job, and the monitor contains the URL of the resource', async (t) => {
  const { data: accepted, response } = await client.POST('/todos', {
    body: { title: 'Water the flowers', dueBy: '2030-01-31' },
    params: { header: { 'idempotency-key': 'water' } },
  })
  t.equal(response.status, 202)
  t.ok(accepted)
  if (!accepted) return
  const { data: job } = await client.GET('/jobs/{id}', {
    params: { path: { id: accepted.id }, header: { prefer: 'wait=55' } },
  })
  const status: 'queued' | 'running' | 'succeeded' | 'failed' | 'canceled' | undefined = job?.status
  t.equal(status, 'succeeded')
  t.equal(job?.resourceLocation, `${api.url}/todos/${accepted.id}`)
  const { data: todo } = await client.GET('/todos/{id}', { params: { path: { id: accepted.id } } })
  t.same(todo, { id: accepted.id, title: 'Water the flowers', dueBy: '2030-01-31', status: 'ready' })
  const replayed = await client.POST('/todos', {
    body: { dueBy: '2030-01-31', title: 'Water the flowers' },
    params: { header: { 'idempotency-key': 'water' } },
  })
  t.equal(replayed.data?.id, accepted.id)
  t.equal(replayed.response.headers.get('idempotent-replayed'), 'true')
})

t.test('the result of a job has a type', async (t) => {
  const todo = await createTodo('Water the flowers')
  const { data: accepted } = await client.POST('/todos/{id}/reminders', {
    params: { path: { id: todo.id } },
    body: { email: 'ann@example.com' },
  })
  // The type also allows the inline result, because a client can request it with `Prefer: return=representation`.
  if (!accepted || !('id' in accepted)) return t.fail('the response is not a job')
  const { data, response } = await client.GET('/jobs/{id}/result', {
    params: { path: { id: accepted.id }, header: { prefer: 'wait=55' } },
  })
  t.equal(response.status, 200)
  t.same(data, { messageId: `<${accepted.id}@todos.example.com>` })
  t.same(await readdir(join(dataDir, 'mail')), [`${accepted.id}@todos.example.com.eml`])
})

t.test('an error has the type of problem details', async (t) => {
  // @ts-expect-error A todo needs a title.
  const { error, data, response } = await client.POST('/todos', { body: { dueBy: 'tomorrow' } })
  t.equal(response.status, 400)
  t.equal(data, undefined)
  t.equal(error?.error.code, 'invalid-body')
  t.match(error?.error.details, [{ keyword: 'required' }])
  const missing = await client.GET('/jobs/{id}', { params: { path: { id: unknownId } } })
  t.match(missing.error?.error.code, /not-found|job-expired/)
  const refused = await client.POST('/todos/{id}/reminders', {
    params: { path: { id: unknownId } },
    body: { email: 'ann@example.com' },
  })
  t.equal(refused.response.status, 404)
  t.equal(refused.error?.error.code, 'todo-not-found')
})

t.test('jobs are listed page by page', async (t) => {
  for (const title of ['one', 'two', 'three']) await createTodo(title)
  const query = { operation: 'todo.create', limit: '2' } as const
  const { data: page } = await client.GET('/jobs', { params: { query } })
  t.equal(page?.value.length, 2)
  const cursor = URL.parse(page?.nextLink ?? '')?.searchParams.get('cursor') as string
  const { data: next } = await client.GET('/jobs', { params: { query: { ...query, cursor } } })
  t.ok(next?.value[0] && page?.value[1] && next.value[0].id < page.value[1].id, 'the next page has older jobs')
  // @ts-expect-error There is no status 'lost'.
  const { error } = await client.GET('/jobs', { params: { query: { status: 'lost' } } })
  t.equal(error?.error.code, 'invalid-parameter')
})

t.test('a job that has succeeded can be neither canceled nor retried', async (t) => {
  const { id } = await createTodo('Water the flowers')
  const params = { path: { id } }
  await client.GET('/jobs/{id}', { params: { ...params, header: { prefer: 'wait=55' } } })
  const canceled = await client.POST('/jobs/{id}/cancel', { params })
  t.equal(canceled.error?.error.code, 'job-ended')
  const deleted = await client.DELETE('/jobs/{id}', { params })
  t.equal(deleted.error?.error.code, 'job-ended')
  const retried = await client.POST('/jobs/{id}/retry', { params })
  t.equal(retried.error?.error.code, 'job-not-retryable')
})

t.test('events can be read as a stream', async (t) => {
  const { id } = await createTodo('Water the flowers')
  const streams = createClient<paths, 'text/event-stream'>({ baseUrl: api.url })
  const { data } = await streams.GET('/jobs/{id}/events', { params: { path: { id } }, parseAs: 'stream' })
  let text = ''
  for await (const chunk of data?.pipeThrough(new TextDecoderStream()) ?? []) text += chunk
  t.match(text, /^retry: 3000\n\n(event: \w+\nid: \d+\ndata: \{.*\}\n\n)+$/)
  t.match(text, `"resourceLocation":"${api.url}/todos/${id}"`)
})
