import t from 'tap'
import { until } from '../support/until.ts'
import { type Answer, type Client, idAt, nothing, pending, serve, startWorker } from './support.ts'

t.jobs = 4

const service = await serve(t)
const { api, pool } = service
const ann = service.as('ann')

/** The two kinds of request that cancel a job. */
const cancelRequests: Record<
  string,
  (client: Client, id: string, headers?: Record<string, string>) => Promise<Answer>
> = {
  'POST /jobs/{id}/cancel': (client, id, headers = {}) => client.post(`/jobs/${id}/cancel`, undefined, headers),
  'DELETE /jobs/{id}': (client, id, headers = {}) => client.request(`/jobs/${id}`, { method: 'DELETE', headers }),
}

/** Submits a job that no worker claims, and returns its id. */
const queued = async (client = ann): Promise<string> => (await client.submit('/idle', { text: 'x' })).id

const retry = (client: Client, id: string, headers = {}) => client.post(`/jobs/${id}/retry`, undefined, headers)

for (const [name, cancel] of Object.entries(cancelRequests)) {
  t.test(`${name} cancels a queued job immediately and answers 200`, async (t) => {
    const id = await queued()
    const { status } = await cancel(ann, id)
    t.equal(status, 200)
    t.match(await ann.monitor(id), { status: 'canceled' })
  })

  t.test(`${name} answers 202 for a running job and sets cancelRequested`, async (t) => {
    const id = await ann.running({ stubborn: true })
    const { status } = await cancel(ann, id)
    t.equal(status, 202)
    t.equal((await ann.monitor(id)).cancelRequested, true)
  })

  t.test(`${name} aborts the signal of a running handler, and the job is canceled without effects`, async (t) => {
    const id = await ann.running()
    await cancel(ann, id)
    t.match(await ann.ended(id), { status: 'canceled' })
    t.ok(await until(async () => (await service.observations(id)).includes('aborted')))
    t.equal(await service.effects(id), 0)
  })

  t.test(`${name} prevents the effects of a handler that ignores its signal`, async (t) => {
    const id = await ann.running({ stubborn: true })
    await cancel(ann, id)
    await service.steer(id, { do: 'succeed' })
    await until(async () => (await service.observations(id)).includes('performed'))
    t.match(await ann.ended(id), { status: 'canceled' })
    t.equal(await service.effects(id), 0)
  })

  t.test(`${name} answers 200 for a job that is already canceled`, async (t) => {
    const id = await ann.endedAs('canceled')
    const before = await ann.monitor(id)
    t.equal((await cancel(ann, id)).status, 200)
    t.same(await ann.monitor(id), before)
  })

  for (const jobStatus of ['succeeded', 'failed'] as const) {
    t.test(`${name} answers 409 for a ${jobStatus} job and does not change the job`, async (t) => {
      const id = await ann.endedAs(jobStatus)
      const before = await ann.monitor(id)
      t.equal((await cancel(ann, id)).status, 409)
      t.same(await ann.monitor(id), before)
    })
  }

  t.test(`${name} answers 412 and changes nothing if If-Match does not match`, async (t) => {
    const id = await queued()
    t.equal((await cancel(ann, id, { 'if-match': '"999"' })).status, 412)
    t.match(await ann.monitor(id), { status: 'queued', cancelRequested: false })
  })

  t.test(
    `${name} answers 412 and changes nothing if If-Match has the ETag of an older version of a running job`,
    async (t) => {
      const id = await ann.running()
      const { etag } = (await ann.get(`/jobs/${id}`)).headers
      await service.steer(id, { do: 'progress', percent: 40 })
      await ann.untilJob(id, ({ percentComplete }) => percentComplete === 40)
      t.equal((await cancel(ann, id, { 'if-match': etag as string })).status, 412)
      t.match(await ann.monitor(id), { status: 'running', cancelRequested: false })
    },
  )

  t.test(`${name} cancels the job if If-Match matches`, async (t) => {
    for (const tag of [undefined, '*']) {
      const id = await queued()
      const { etag } = (await ann.get(`/jobs/${id}`)).headers
      t.equal((await cancel(ann, id, { 'if-match': tag ?? (etag as string) })).status, 200)
      t.match(await ann.monitor(id), { status: 'canceled' })
    }
  })

  t.test(`${name} answers 404 for another principal's job and for an unknown job`, async (t) => {
    const id = await queued()
    t.equal((await cancel(service.as('bob'), id)).status, 404)
    t.equal((await cancel(ann, idAt(Date.now()))).status, 404)
    t.equal((await cancel(ann, 'x')).status, 404)
    t.match(await ann.monitor(id), { status: 'queued' })
  })

  for (const [what, type, body] of bodies()) {
    t.test(`${name} ignores the request body: ${what}`, async (t) => {
      const id = await queued()
      const method = name.split(' ')[0] as string
      const path = method === 'POST' ? `/jobs/${id}/cancel` : `/jobs/${id}`
      const { status } = await ann.request(path, { method, body, headers: type ? { 'content-type': type } : {} })
      t.equal(status, 200)
      t.match(await ann.monitor(id), { status: 'canceled' })
    })
  }
}

/** Valid and invalid bodies, each with a description and a media type. */
function bodies(): [string, string | undefined, string | undefined][] {
  return [
    ['an empty body with a media type', 'application/json', ''],
    ['valid JSON', 'application/json', '{"why":"changed my mind"}'],
    ['malformed JSON', 'application/json', '{"why":'],
    ['plain text', 'text/plain', 'please'],
    ['a form', 'application/x-www-form-urlencoded', 'a=b'],
    ['XML', 'application/xml', '<please/>'],
    ['a body without a media type', undefined, 'please'],
    ['a malformed media type', 'what?', 'please'],
  ]
}

t.test('if a job is canceled while it is queued, its handler never runs', async (t) => {
  // This test has a separate database. Its worker claims jobs of `idle`, which must stay queued in the other tests.
  const separate = await serve(t, { worker: false })
  const dora = separate.as('dora')
  const first = await dora.submit('/idle', { text: 'canceled' })
  await dora.post(`/jobs/${first.id}/cancel`, undefined)
  const second = await dora.submit('/idle', { text: 'not canceled' })
  await startWorker(t, separate.databaseUrl, 'idle')
  t.match(await dora.ended(second.id), { status: 'succeeded' })
  t.match(await dora.monitor(first.id), { status: 'canceled', attempt: 0 })
  t.equal(await separate.effects(first.id), 0)
  t.equal(await separate.effects(second.id), 1)
})

t.test('DELETE never removes a job: the monitor and the result can still be read', async (t) => {
  for (const jobStatus of ['succeeded', 'failed', 'canceled'] as const) {
    const id = await ann.endedAs(jobStatus)
    await ann.request(`/jobs/${id}`, { method: 'DELETE' })
    await ann.request(`/jobs/${id}`, { method: 'DELETE' })
    t.equal((await ann.get(`/jobs/${id}`)).status, 200)
    t.not((await ann.get(`/jobs/${id}/result`)).status, 404)
  }
})

for (const jobStatus of ['failed', 'canceled'] as const) {
  t.test(
    `retrying a ${jobStatus} job answers 202 with a new job, whose retryOf is the id of the old job`,
    async (t) => {
      const id = await ann.endedAs(jobStatus)
      const { status, headers, body } = await retry(ann, id)
      t.equal(status, 202)
      t.not(body.id, id)
      t.match(body, { retryOf: id, status: 'queued' })
      t.equal(headers['operation-location'], `${api.url}/jobs/${body.id}`)
      t.equal(headers.location, `${api.url}/jobs/${body.id}/result`)
      t.match(headers['retry-after'], /^[1-9]\d*$/)
    },
  )
}

t.test('retrying does not change the old job', async (t) => {
  const id = await ann.endedAs('failed')
  const before = await ann.monitor(id)
  await retry(ann, id)
  t.same(await ann.monitor(id), before)
})

t.test('the new job of a retry has the same operation and payload as the old job', async (t) => {
  const id = await ann.running({ label: 'the same' })
  await service.steer(id, { do: 'fail', code: 'no-luck', message: 'No luck' })
  await ann.ended(id)
  const { body } = await retry(ann, id)
  await service.steer(body.id, { do: 'succeed' })
  t.match(await ann.ended(body.id), { operation: 'steered', status: 'succeeded', result: { label: 'the same' } })
})

t.test('the new job of a retry can itself be retried if it fails', async (t) => {
  const first = await ann.endedAs('failed')
  const { body: second } = await retry(ann, first)
  await service.steer(second.id, { do: 'fail', code: 'no-luck', message: 'No luck' })
  await ann.ended(second.id)
  const { status, body: third } = await retry(ann, second.id)
  t.equal(status, 202)
  t.equal(third.retryOf, second.id)
})

t.test('retrying a queued, running or succeeded job answers 409 and creates no job', async (t) => {
  const eve = service.as('eve')
  const ids = [await queued(eve), await eve.running(), await eve.endedAs('succeeded')]
  for (const id of ids) t.equal((await retry(eve, id)).status, 409)
  t.equal((await service.storedBy('eve')).jobs, ids.length)
})

t.test("retrying another principal's job or an unknown job answers 404", async (t) => {
  const id = await ann.endedAs('failed')
  t.equal((await retry(service.as('fred'), id)).status, 404)
  t.equal((await retry(ann, idAt(Date.now()))).status, 404)
  t.same(await service.storedBy('fred'), nothing)
})

t.test('retrying a job twice with the same Idempotency-Key creates one new job', async (t) => {
  const id = await ann.endedAs('failed')
  const first = await retry(ann, id, { 'idempotency-key': 'retry-once' })
  const second = await retry(ann, id, { 'idempotency-key': 'retry-once' })
  t.equal(first.headers['idempotent-replayed'], undefined)
  t.equal(second.status, 202)
  t.equal(second.headers['idempotent-replayed'], 'true')
  t.equal(second.body.id, first.body.id)
})

t.test('retrying another job with the Idempotency-Key of an earlier retry answers 422', async (t) => {
  const [one, other] = [await ann.endedAs('failed'), await ann.endedAs('failed')]
  await retry(ann, one, { 'idempotency-key': 'of-one' })
  t.equal((await retry(ann, other, { 'idempotency-key': 'of-one' })).status, 422)
})

t.test('retrying a job with a malformed Idempotency-Key answers 400 and creates no job', async (t) => {
  const gina = service.as('gina')
  const id = await gina.endedAs('failed')
  t.equal((await retry(gina, id, { 'idempotency-key': '' })).status, 400)
  t.equal((await service.storedBy('gina')).jobs, 1)
})

t.test('many simultaneous retries with the same key create one new job', async (t) => {
  const id = await ann.endedAs('failed')
  const answers = await Promise.all(Array.from({ length: 10 }, () => retry(ann, id, { 'idempotency-key': 'at-once' })))
  t.same(new Set(answers.map(({ status }) => status)), new Set([202]))
  t.equal(new Set(answers.map(({ body }) => body.id)).size, 1)
})

for (const [what, type, body] of bodies()) {
  t.test(`retrying a job ignores the request body: ${what}`, async (t) => {
    const id = await ann.endedAs('canceled')
    const headers = type ? { 'content-type': type } : {}
    const { status } = await ann.request(`/jobs/${id}/retry`, { method: 'POST', body, headers })
    t.equal(status, 202)
  })
}

/** Follows `nextLink` to the last page, and returns all pages. */
async function pagesOf(client: Client, path: string): Promise<Answer[]> {
  const pages: Answer[] = []
  for (let next: string | undefined = path; next; next = pages.at(-1)?.body.nextLink) {
    pages.push(await client.get(next))
  }
  return pages
}

const idsOf = ({ body }: Answer): string[] => body.value.map(({ id }: { id: string }) => id)

t.test(
  'while a transaction has locked a job, requests that change the job get 503 and do not delay other requests',
  async (t) => {
    const [running, canceled] = [await ann.running(), await ann.endedAs('canceled')]
    const settling = await pool.connect()
    t.teardown(() => settling.release(true))
    await settling.query('begin')
    await settling.query('select from accepted.job where id = any($1) for update', [[running, canceled]])
    const requests = [
      ...Array.from({ length: 12 }, () => ann.request(`/jobs/${running}`, { method: 'DELETE' })),
      ann.post(`/jobs/${running}/cancel`, undefined),
      ann.post(`/jobs/${canceled}/retry`, undefined),
    ].map((request) => pending(request))
    for (let number = 0; number < 3; number++) t.equal((await ann.get('/jobs?limit=1')).status, 200)
    t.notOk(requests.some((request) => request.isSettled()))
    for (const request of requests) {
      const { status, headers, body } = await request.result()
      t.equal(status, 503)
      t.match(headers['retry-after'], /^[1-9]\d*$/)
      t.equal(body.error.code, 'job-locked')
    }
    await settling.query('rollback')
    t.equal((await ann.post(`/jobs/${running}/cancel`, undefined)).status, 202)
  },
)

t.test('the list contains the monitors of the jobs, newest job first', async (t) => {
  const hugo = service.as('hugo')
  const ids = [
    await queued(hugo),
    await hugo.endedAs('succeeded'),
    await hugo.endedAs('failed'),
    await hugo.endedAs('canceled'),
  ]
  const { status, body } = await hugo.get('/jobs')
  t.equal(status, 200)
  const monitors = await Promise.all(ids.toReversed().map((id) => hugo.monitor(id)))
  t.ok(monitors.some(({ result }) => result))
  t.same(
    body.value,
    monitors.map(({ result: _, ...monitor }) => monitor),
    'the list leaves out the results',
  )
})

const mebibyte = 1024 * 1024

t.test('a page of the list leaves out large results, and still contains 100 jobs', async (t) => {
  const rob = service.as('rob')
  const { id } = await rob.submit('/echoes', { text: 'x'.repeat(900_000) })
  await rob.ended(id)
  await pool.query(
    `insert into accepted.job (id, operation, principal, max_attempts, expires_at, status, ended_at, result)
    select unnest($2::uuid[]), operation, principal, max_attempts, expires_at, status, ended_at, result
    from accepted.job where id = $1`,
    [id, Array.from({ length: 99 }, (_, n) => idAt(Date.now() + n))],
  )
  const { text, body } = await rob.get('/jobs?limit=100')
  t.equal(body.value.length, 100)
  t.notOk(body.value.some((job: object) => 'result' in job))
  t.ok(text.length < mebibyte)
  t.equal((await rob.monitor(id)).result.text.length, 900_000)
})

t.test('a page of the list ends at 1 MiB, and the pages together contain every job once', async (t) => {
  const sue = service.as('sue')
  const newest = Date.now()
  const sizes = [10, 400_000, 10, 400_000, 400_000, 3 * mebibyte, 10, 1.2 * mebibyte, 400_000, 10]
  const ids = sizes.map((_, n) => idAt(newest - n))
  await pool.query(
    `insert into accepted.job (id, operation, principal, max_attempts, expires_at, message, status, ended_at)
    select id, 'quiet', 'sue', 4, now() + interval '1 day', repeat('"', size / 2), 'canceled', now()
    from unnest($1::uuid[], $2::int[]) as given (id, size)`,
    [ids, sizes.map(Math.round)],
  )
  for (const path of ['/jobs?limit=100', '/jobs?limit=100&operation=quiet', '/jobs?limit=2&status=canceled']) {
    const pages = await pagesOf(sue, path)
    t.same(pages.flatMap(idsOf), ids, path)
    for (const page of pages) t.ok(page.text.length <= mebibyte || idsOf(page).length === 1, path)
    t.ok(pages.length < ids.length, 'small jobs share a page')
  }
})

t.test('the list of a principal without jobs is empty', async (t) => {
  const { status, body } = await service.as('newcomer').get('/jobs')
  t.equal(status, 200)
  t.same(body, { value: [] })
})

t.test('the list contains only the jobs of the caller', async (t) => {
  const ida = service.as('ida')
  const id = await queued(ida)
  await queued(service.as('jim'))
  t.same(idsOf(await ida.get('/jobs')), [id])
})

t.test('the pages of the list contain every job once, and the last page has no nextLink', async (t) => {
  const kim = service.as('kim')
  const ids: string[] = []
  for (let number = 0; number < 7; number++) ids.unshift(await queued(kim))
  const pages = await pagesOf(kim, '/jobs?limit=3')
  t.same(
    pages.slice(0, 2).map((page) => idsOf(page).length),
    [3, 3],
  )
  t.same(pages.flatMap(idsOf), ids)
  t.equal(pages.at(-1)?.body.nextLink, undefined)
})

t.test('nextLink is an absolute URL, and the Link header contains the same URL with rel="next"', async (t) => {
  const leo = service.as('leo')
  for (let number = 0; number < 3; number++) await queued(leo)
  const { headers, body } = await leo.get('/jobs?limit=2')
  t.match(body.nextLink, `${api.url}/jobs?`)
  t.match(headers.link, `<${body.nextLink}>`)
  t.match(headers.link, /;\s*rel="?next"?/)
  const last = await leo.get(body.nextLink)
  t.notMatch(last.headers.link ?? '', /rel="?next/)
})

t.test(
  'if new jobs are created between two requests, the next page still continues after the previous page',
  async (t) => {
    const max = service.as('max')
    const ids: string[] = []
    for (let number = 0; number < 6; number++) ids.unshift(await queued(max))
    const first = await max.get('/jobs?limit=3')
    await queued(max)
    await queued(max)
    const second = await max.get(first.body.nextLink)
    t.same([...idsOf(first), ...idsOf(second)], ids)
  },
)

t.test('the list can be filtered by status', async (t) => {
  const nina = service.as('nina')
  const by = {
    queued: await queued(nina),
    running: await nina.running(),
    succeeded: await nina.endedAs('succeeded'),
    failed: await nina.endedAs('failed'),
    canceled: await nina.endedAs('canceled'),
  }
  for (const [status, id] of Object.entries(by)) {
    const pages = await pagesOf(nina, `/jobs?status=${status}`)
    t.same(pages.flatMap(idsOf), [id], status)
  }
})

t.test('the list can be filtered by operation, or by operation and status', async (t) => {
  const otto = service.as('otto')
  const idle = await queued(otto)
  const canceled = await otto.endedAs('canceled')
  const steered = await otto.endedAs('failed')
  const ids = async (query: string) => (await pagesOf(otto, `/jobs?${query}`)).flatMap(idsOf)
  t.same(await ids('operation=idle'), [canceled, idle])
  t.same(await ids('operation=steered'), [steered])
  t.same(await ids('operation=idle&status=canceled'), [canceled])
  t.same(await ids('operation=idle&status=failed'), [])
})

t.test('nextLink keeps the filters and the limit', async (t) => {
  const pia = service.as('pia')
  const ids: string[] = []
  for (let number = 0; number < 4; number++) {
    ids.unshift(await queued(pia))
    await pia.endedAs('succeeded')
  }
  const pages = await pagesOf(pia, '/jobs?operation=idle&status=queued&limit=1')
  t.same(pages.flatMap(idsOf), ids)
  t.ok(pages.every((page) => idsOf(page).length <= 1))
})

t.test(
  'for a filtered page, the API examines at most 10,000 rows, and nextLink leads to the remaining rows',
  async (t) => {
    const quin = service.as('quin')
    const oldest = await queued(quin)
    const rows = 10_500
    // All these jobs are newer than `oldest`. Their ids have different creation times.
    const newest = Date.now()
    await pool.query(
      `insert into accepted.job (id, operation, principal, max_attempts, expires_at)
     select id, 'quiet', 'quin', 4, now() + interval '1 day' from unnest($1::uuid[]) as id`,
      [Array.from({ length: rows }, (_, n) => idAt(newest + 1 + n))],
    )
    const pages = await pagesOf(quin, '/jobs?operation=idle&limit=10')
    t.same(idsOf(pages[0] as Answer), [], 'no job among the first 10,000 matches')
    t.ok(pages[0]?.body.nextLink)
    t.same(pages.flatMap(idsOf), [oldest])
  },
)

t.test('a request for the list without a principal gets 401', async (t) => {
  t.equal((await service.as('nobody').get('/jobs')).status, 401)
})

const queuedId = await queued()

/** Each path with the methods that it supports. */
const routes: [string, string[]][] = [
  [`/jobs/${queuedId}`, ['GET', 'HEAD', 'DELETE']],
  [`/jobs/${queuedId}/result`, ['GET']],
  [`/jobs/${queuedId}/events`, ['GET']],
  [`/jobs/${queuedId}/cancel`, ['POST']],
  [`/jobs/${queuedId}/retry`, ['POST']],
  ['/jobs', ['GET']],
  ['/events', ['GET']],
  ['/sums', ['POST']],
  ['/notes/1', ['PUT', 'PATCH', 'DELETE']],
]

/** Returns the methods in the header Allow. */
const allowed = ({ headers }: Answer): string[] => (headers.allow ?? '').split(',').map((method) => method.trim())

for (const [path, methods] of routes) {
  const route = path.replace(queuedId, '{id}')
  t.test(`${route} answers 405 with Allow if it does not support the method`, async (t) => {
    const wrong = ['POST', 'PUT'].find((method) => !methods.includes(method)) as string
    const answer = await ann.request(path, { method: wrong })
    t.equal(answer.status, 405)
    for (const method of methods) t.ok(allowed(answer).includes(method), method)
    t.notOk(allowed(answer).includes(wrong))
  })

  t.test(`${route} answers OPTIONS with 204 and Allow`, async (t) => {
    const answer = await ann.request(path, { method: 'OPTIONS' })
    t.equal(answer.status, 204)
    t.equal(answer.text, '')
    for (const method of methods) t.ok(allowed(answer).includes(method), method)
  })
}

t.test('a request for a path without any route gets 404, not 405', async (t) => {
  t.equal((await ann.request('/nothing', { method: 'DELETE' })).status, 404)
})
