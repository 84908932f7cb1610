import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { serve } from '../../support/api.ts'
import { get, post } from '../../support/client.ts'

const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})

const setUp = (t: Test) =>
  serve(t, {
    operations: { note },
    authenticate: (request) => request.headers['x-user']?.toString() ?? 'ann',
  })

/** Follows nextLink to the last page, and returns the ids of each page. */
async function readPages(url: string): Promise<string[][]> {
  const { status, headers, body } = await get(url)
  if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`)
  const ids = body.value.map(({ id }: { id: string }) => id)
  if (headers.get('link') !== (body.nextLink ? `<${body.nextLink}>; rel="next"` : null))
    throw new Error('Link and nextLink differ')
  return body.nextLink ? [ids, ...(await readPages(body.nextLink))] : [ids]
}

t.test(
  'the pages contain each job once, newest job first, even if jobs are created between the requests',
  async (t) => {
    const { url } = await setUp(t)
    const ids: string[] = []
    for (let index = 0; index < 7; index++) ids.unshift((await post(`${url}/notes`, { text: `${index}` })).body.id)
    await post(`${url}/notes`, { text: 'theirs' }, { 'x-user': 'bob' })
    t.same(await readPages(`${url}/jobs?limit=3`), [ids.slice(0, 3), ids.slice(3, 6), ids.slice(6)])
    t.same(await readPages(`${url}/jobs?limit=7`), [ids])
    t.same(await readPages(`${url}/jobs?ignored=1`), [ids])
    const { body: first } = await get(`${url}/jobs?limit=3`)
    await post(`${url}/notes`, { text: 'new' })
    t.same((await readPages(first.nextLink)).flat(), ids.slice(3))
  },
)

t.test('the list can be filtered by status and operation, and omits expired records', async (t) => {
  const { url, database } = await setUp(t)
  const ids: string[] = []
  for (let index = 0; index < 4; index++) ids.unshift((await post(`${url}/notes`, { text: `${index}` })).body.id)
  await database.pool.query(`update accepted.job set status = 'canceled', ended_at = now() where id = any($1)`, [
    [ids[0], ids[2]],
  ])
  t.same((await readPages(`${url}/jobs?status=canceled`)).flat(), [ids[0], ids[2]])
  t.same((await readPages(`${url}/jobs?status=queued&limit=1`)).flat(), [ids[1], ids[3]])
  t.same((await readPages(`${url}/jobs?operation=note.create&status=failed`)).flat(), [])
  t.same((await readPages(`${url}/jobs?operation=none`)).flat(), [])
  await database.pool.query('update accepted.job set expires_at = now() where id = $1', [ids[0]])
  t.same((await readPages(`${url}/jobs`)).flat(), ids.slice(1))
})

t.test('for a filtered page, the API examines at most 10,000 jobs; an empty page can have a nextLink', async (t) => {
  const { url, database } = await setUp(t)
  const { body: oldest } = await post(`${url}/notes`, { text: 'oldest' })
  await database.pool.query(`
    insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    select (left(accepted.uuid_floor(now() + interval '1 s')::text, 14) || '7000-8000-' ||
        lpad(to_hex(n), 12, '0'))::uuid,
      'other', 'ann', 1, now() + interval '1 day'
    from generate_series(1, 20500) n`)
  const found = await readPages(`${url}/jobs?operation=note.create`)
  t.same(
    found.map(({ length }) => length),
    [0, 0, 1],
  )
  t.same(found.flat(), [oldest.id])
})

t.test('a request with an invalid parameter gets 400 with a pointer to the parameter', async (t) => {
  const { url } = await setUp(t)
  for (const [query, pointer] of [
    ['limit=0', '/limit'],
    ['limit=1.5', '/limit'],
    ['status=done', '/status'],
    ['status=queued&status=failed', '/status'],
    ['cursor=x', '/cursor'],
    ['operation=%00', '/operation'],
  ] as const) {
    const { status, body } = await get(`${url}/jobs?${query}`)
    t.equal(status, 400, query)
    t.match(body.error, { code: 'invalid-parameter', details: [{ pointer }] }, query)
  }
})
