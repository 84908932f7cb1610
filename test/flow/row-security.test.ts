import { type AbandonedJob, defineOperation } from 'accepted'
import { defineHandlers, JobFailed } from 'accepted/worker'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { setPrincipal } from '../../src/jobs/row-security.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { serve } from '../support/api.ts'
import { post } from '../support/client.ts'
import { asRole } from '../support/database.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

/** What app code saw in one call. */
interface Call {
  what: 'accept' | 'settle' | 'abandon'
  /** The principals of the jobs of the call. */
  principals: string[]
  jobIds: string[]
  setting: string | null
  xid: string
}

/** All calls of the app's code. */
const calls: Call[] = []
/** Jobs with these words fail their first attempt. */
const flaky = new Set<string>()

/** Does what a careless app would do: reads and changes all rows, of whichever principal. */
async function touchAll(
  what: Call['what'],
  trx: AnyTransaction,
  jobs: readonly { id: string; principal: string }[],
): Promise<void> {
  const { rows } = await sql<{ setting: string | null; xid: string }>`
    select current_setting('accepted.principal', true) as setting, pg_current_xact_id()::text as xid`.execute(trx)
  calls.push({
    what,
    principals: jobs.map(({ principal }) => principal),
    jobIds: jobs.map(({ id }) => id),
    ...(rows[0] as Pick<Call, 'setting' | 'xid'>),
  })
  await sql`update note set touched_by = touched_by || ${jobs[0]?.principal}::text`.execute(trx)
}

const Note = Type.Object({ word: Type.String(), owner: Type.Optional(Type.String()) })

const common = {
  input: Note,
  accept: async (
    trx: AnyTransaction,
    entries: { id: string; input: { word: string; owner?: string }; principal: string }[],
  ) => {
    await touchAll('accept', trx, entries)
    for (const { id, input, principal } of entries) {
      await sql`insert into note (id, owner) values (${id}, ${input.owner ?? principal})`.execute(trx)
    }
    return entries.map(({ input }) => ({ payload: input }))
  },
  abandon: (trx: AnyTransaction, jobs: AbandonedJob[]) => touchAll('abandon', trx, jobs),
  retry: { limit: 1, delaySeconds: 0, backoff: false },
}
const secured = defineOperation({
  ...{ ...common, name: 'note.secured', route: { method: 'POST', url: '/secured' }, oneByOne: true },
})
const performed = defineOperation({
  ...{ ...common, name: 'note.performed', route: { method: 'POST', url: '/performed' }, oneByOne: true },
})
const shared = defineOperation({
  ...{ ...common, name: 'note.shared', route: { method: 'POST', url: '/shared' }, oneByOne: true },
  coalesce: { key: ({ word }) => word, forSeconds: 3_600, mode: 'first' },
})
/** Has no oneByOne, and may read no rows. */
const plain = defineOperation({
  ...{ name: 'note.plain', route: { method: 'POST', url: '/plain' }, input: Note },
  accept: async (trx, entries) => {
    await touchAll('accept', trx, entries)
    return entries.map(({ input }) => ({ payload: input }))
  },
})
const next = defineOperation({ name: 'note.next', input: Note, oneByOne: true })
const operations = { secured, performed, shared, plain, next }

function failIfTold({ payload, attempt }: { payload: { word: string }; attempt: number }): void {
  if (payload.word === 'fails') throw new JobFailed('declined', 'Declined')
  if (flaky.has(payload.word) && attempt === 1) throw new Error('First attempt')
}

const handlers = defineHandlers(operations, {
  'note.secured': {
    settle: async (trx, jobs) => {
      await touchAll('settle', trx, jobs)
      for (const job of jobs) {
        failIfTold(job)
        if (job.payload.word === 'follow') await job.enqueue(trx, next, { word: 'x' }, { principal: 'bob' })
      }
      if (jobs[0]?.payload.word === 'follow') await touchAll('settle', trx, jobs)
    },
  },
  'note.performed': {
    perform: async (job) => failIfTold(job),
    settle: (trx, jobs) => touchAll('settle', trx, jobs),
  },
  'note.shared': { settle: (trx, jobs) => touchAll('settle', trx, jobs) },
  'note.plain': {
    settle: async (trx, jobs) => {
      await touchAll('settle', trx, jobs)
      for (const { payload } of jobs) if (payload.word === 'fails') throw new JobFailed('declined', 'Declined')
    },
  },
  'note.next': { settle: (trx, jobs) => touchAll('settle', trx, jobs) },
})

async function setUp(t: Test) {
  calls.length = 0
  const authenticate = (request: { headers: Record<string, unknown> }) => `${request.headers['x-user'] ?? 'ann'}`
  const { app, url, database } = await serve(t, { operations, authenticate })
  const jobs = await openJobs(t, Object.values(operations), database.options.url)
  await jobs.query(`
    create table note (id uuid primary key, owner text not null, touched_by text[] not null default '{}');
    alter table note enable row level security;
    alter table note force row level security;
    create policy own_rows on note using (owner = current_setting('accepted.principal', true));
    grant select, insert, update, delete on note to accepted_api, accepted_worker`)
  const submit = (path: string, user: string, body: object, headers = {}) =>
    post(url + path, body, { 'x-user': user, ...headers })
  const work = () => jobs.work(handlers, { database: asRole(database.options.url, 'worker') })
  const allEnded = () =>
    until(async () => (await jobs.query('select from accepted.job where ended_at is null')).length === 0)
  return { ...jobs, app, url, submit, work, allEnded, jobs }
}

/** Checks that all calls so far had one job each, and that none of them reached the row of another principal. */
async function assertIsolated(t: Test, { query }: Pick<Jobs, 'query'>): Promise<void> {
  for (const { what, principals, setting } of calls) {
    t.same(principals, [setting], `${what} gets one job, and the setting has its principal`)
  }
  t.same(await query('select from note where owner <> any(touched_by)'), [], 'no other principal has touched a row')
}

t.test('accept cannot read or write rows of other principals, however many requests arrive at once', async (t) => {
  const stage = await setUp(t)
  const users = ['ann', 'bob', 'cay']
  const sent = await Promise.all(
    Array.from({ length: 30 }, (_, index) => {
      const key: Record<string, string> = index % 2 ? { 'idempotency-key': `k${index}` } : {}
      return stage.submit('/secured', users[index % 3] as string, { word: 'x' }, key)
    }),
  )
  t.same(new Set(sent.map(({ status }) => status)), new Set([202]))
  const key = { 'idempotency-key': 'forged' }
  t.match(await stage.submit('/secured', 'ann', { word: 'x', owner: 'bob' }, key), { status: 500 })
  t.equal((await stage.submit('/secured', 'ann', { word: 'x' }, key)).status, 202, 'the failed request left nothing')
  t.same(await stage.query('select owner, count(*)::integer from note group by owner order by owner'), [
    { owner: 'ann', count: 11 },
    { owner: 'bob', count: 10 },
    { owner: 'cay', count: 10 },
  ])
  await assertIsolated(t, stage)
  // A request whose transaction waits too long for a lock runs again.
  t.ok(calls.length >= 32)
  t.equal(new Set(calls.map(({ xid }) => xid)).size, calls.length, 'each request has a transaction of its own')
  t.ok((await stage.query('select from note where cardinality(touched_by) > 5')).length > 0, 'rows were touched')
})

t.test('settle and abandon see only the rows of their principal, also in retries and after a failure', async (t) => {
  const stage = await setUp(t)
  flaky.add('flaky')
  const words = ['x', 'fails', 'flaky', 'follow']
  for (const path of ['/secured', '/performed']) {
    for (const user of ['ann', 'bob']) {
      for (const word of words) t.equal((await stage.submit(path, user, { word })).status, 202)
    }
  }
  await stage.work()
  await stage.allEnded()
  const ended = await stage.query(`
    select operation, principal, status, count(*)::integer from accepted.job
    group by operation, principal, status order by operation, principal, status`)
  const expected = (operation: string, principal: string) => [
    { operation, principal, status: 'succeeded', count: 3 },
    { operation, principal, status: 'failed', count: 1 },
  ]
  t.same(ended, [
    { operation: 'note.next', principal: 'bob', status: 'succeeded', count: 2 },
    ...expected('note.performed', 'ann'),
    ...expected('note.performed', 'bob'),
    ...expected('note.secured', 'ann'),
    ...expected('note.secured', 'bob'),
  ])
  await assertIsolated(t, stage)
  t.equal(calls.filter(({ what }) => what === 'abandon').length, 4)
  const settled = calls.filter(({ what }) => what === 'settle')
  t.match(settled, { length: 20 }, 'settle ran for each attempt, and again after each follow-up job was enqueued')
})

t.test('a cancellation over HTTP or in SQL runs abandon with the principal of its job', async (t) => {
  const stage = await setUp(t)
  const ids: string[] = []
  for (const user of ['ann', 'bob', 'ann', 'bob'])
    ids.push((await stage.submit('/secured', user, { word: 'x' })).body.id)
  const cancel = (user: string, id?: string) => stage.submit(`/jobs/${id}/cancel`, user, {})
  t.match(await cancel('ann', ids[0]), { status: 200, body: { status: 'canceled' } })
  t.match(await cancel('bob', ids[1]), { status: 200, body: { status: 'canceled' } })
  await stage.query('select accepted.cancel($1), accepted.cancel($2)', ids.slice(2))
  // The API ends them, because no worker runs.
  await stage.allEnded()
  t.same(await stage.query('select distinct status from accepted.job'), [{ status: 'canceled' }])
  t.equal(calls.filter(({ what }) => what === 'abandon').length, 4)
  await assertIsolated(t, stage)
})

t.test('requests of one principal share a job and its transaction, those of another principal do not', async (t) => {
  const stage = await setUp(t)
  const sent = await Promise.all(
    Array.from({ length: 30 }, (_, index) => stage.submit('/shared', index % 2 ? 'ann' : 'bob', { word: 'x' })),
  )
  t.same(new Set(sent.map(({ status }) => status)), new Set([202]))
  t.equal(new Set(sent.map(({ body }) => body.id)).size, 2)
  t.same(await stage.query('select principal, coalesced from accepted.job order by principal'), [
    { principal: 'ann', coalesced: 14 },
    { principal: 'bob', coalesced: 14 },
  ])
  await assertIsolated(t, stage)
})

t.test('in a batch, accept sees the principal of the batch', async (t) => {
  const stage = await setUp(t)
  const item = (operation: string, input = {}) => ({ operation, input: { word: 'x', ...input } })
  const items = [item('note.secured'), item('note.performed'), item('note.secured')]
  const onEnd = item('note.secured')
  const sent = await Promise.all(['ann', 'bob', 'cay'].map((user) => stage.submit('/batches', user, { items, onEnd })))
  t.same(
    sent.map(({ status }) => status),
    [202, 202, 202],
  )
  for (const { principals, setting } of calls) t.same(new Set(principals), new Set([setting]))
  t.same(await stage.query('select owner, count(*)::integer from note group by owner order by owner'), [
    { owner: 'ann', count: 4 },
    { owner: 'bob', count: 4 },
    { owner: 'cay', count: 4 },
  ])
  const forged = { items: [item('note.secured', { owner: 'bob' })] }
  t.match(await stage.submit('/batches', 'ann', forged), { status: 500 })
  await stage.work()
  await stage.allEnded()
  t.same(await stage.query('select from note where owner <> any(touched_by)'), [])
  t.match(await stage.query(`select from accepted.job where operation = 'note.secured'`), { length: 9 })
})

t.test('the setting reaches no other transaction of a connection, and no claim', async (t) => {
  const stage = await setUp(t)
  // Records the setting of each statement that changes the queue.
  await stage.query(`
    create table seen (operation text, principal text, setting text);
    create function record_setting() returns trigger language plpgsql security definer as $$
    declare
      job_id uuid := coalesce(new.id, old.id);
    begin
      insert into public.seen values (
        case when tg_op = 'UPDATE' and old.state < 'active' and new.state = 'active' then 'claim' else lower(tg_op) end,
        (select principal from accepted.job where id = job_id),
        nullif(current_setting('accepted.principal', true), '')
      );
      return null;
    end
    $$;
    create trigger record_setting after insert or update or delete on accepted_queue.job_common for each row
      execute function record_setting()`)
  const users = ['ann', 'bob']
  await stage.work()
  await Promise.all(
    Array.from({ length: 60 }, (_, index) => {
      const [path, word] = index % 3 ? ['/plain', index % 5 ? 'x' : 'fails'] : ['/secured', index % 7 ? 'x' : 'fails']
      return stage.submit(path, users[index % 2] as string, { word })
    }),
  )
  await stage.allEnded()
  const [ofPlain, ofSecured] = [[] as Call[], [] as Call[]]
  const securedIds = new Set((await stage.query(`select id from note`)).map(({ id }) => id))
  for (const call of calls) (call.jobIds.some((id) => securedIds.has(id)) ? ofSecured : ofPlain).push(call)
  t.ok(
    ofPlain.some(({ principals }) => principals.length > 1),
    'without oneByOne, jobs share transactions',
  )
  for (const { what, setting } of ofPlain) t.notOk(setting, `${what} without oneByOne sees no principal`)
  for (const { what, setting, principals } of ofSecured) t.same(principals, [setting], what)
  const seen = await stage.query(
    'select operation, principal = setting as is_own, count(*)::integer from seen group by 1, 2',
  )
  const find = (operation: string, isOwn: boolean | null) =>
    seen.find((row) => row.operation === operation && row.is_own === isOwn)?.count ?? 0
  t.same(
    seen.filter(({ is_own }) => is_own === false),
    [],
    'no statement of the queue sees another principal',
  )
  t.equal(find('claim', true), 0, 'no claim sees a principal')
  t.ok(find('claim', null) > 0)
  t.ok(find('insert', true) > 0, 'the row of a job is inserted in the transaction of its accept')
  const connections = await Promise.all(
    Array.from({ length: 20 }, () =>
      sql<{
        setting: string | null
      }>`select current_setting('accepted.principal', true) as setting, pg_sleep(0.1)`.execute(stage.app.accepted.db),
    ),
  )
  t.same(new Set(connections.map(({ rows }) => rows[0]?.setting || null)), new Set([null]), 'all connections are clean')
})

t.test('enqueue leaves the settings of the app in its own transaction alone', async (t) => {
  const { app, query } = await setUp(t)
  const { accepted } = app
  const read = async (trx: AnyTransaction) =>
    (await sql<{ name: string }>`select current_setting('accepted.principal', true) as name`.execute(trx)).rows[0]?.name
  await accepted.db.transaction().execute(async (trx) => {
    await sql`select set_config('accepted.principal', 'cay', true)`.execute(trx)
    await accepted.enqueue(trx, secured, { word: 'x' }, { principal: 'ann' })
    const items = [{ operation: secured, payload: { word: 'x' } }] as const
    await accepted.enqueueBatch(trx, { items, principal: 'ann' })
    await sql`select accepted.enqueue('note.secured', principal => 'ann')`.execute(trx)
    t.equal(await read(trx), 'cay')
  })
  t.same(await query('select distinct principal from accepted.job'), [{ principal: 'ann' }])
})

t.test('an app reads its own rows in a transaction with the principal of the request', async (t) => {
  const { app, submit } = await setUp(t)
  for (const user of ['ann', 'bob', 'bob']) await submit('/secured', user, { word: 'x' })
  const readAs = (principal: string) =>
    app.accepted.db.transaction().execute(async (trx) => {
      await sql`select set_config('accepted.principal', ${principal}, true)`.execute(trx)
      return trx.selectFrom('note').select('owner').execute()
    })
  t.same(await Promise.all([readAs('ann'), readAs('bob'), readAs('eve')]), [
    [{ owner: 'ann' }],
    [{ owner: 'bob' }, { owner: 'bob' }],
    [],
  ])
  t.same(await app.accepted.db.selectFrom('note').select('owner').execute(), [], 'without it, no rows')
})

t.test('jobs of several principals never share a transaction with the setting', async (t) => {
  const { database } = await setUp(t)
  const set = (operation: typeof secured | typeof plain) =>
    database.kysely
      .transaction()
      .execute((trx) => setPrincipal(trx as never, operation, [{ principal: 'ann' }, { principal: 'bob' }]))
  await t.rejects(set(secured), { message: "Jobs of 'note.secured' of several principals share a transaction" })
  await t.resolves(set(plain))
})
