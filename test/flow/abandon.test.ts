import { type AbandonedJob, defineOperation } from 'accepted'
import { defineHandlers, JobFailed, type Worker } from 'accepted/worker'
import { sql, type Transaction } from 'kysely'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { serve } from '../support/api.ts'
import { get, post } from '../support/client.ts'
import { run } from '../support/command.ts'
import { asRole } from '../support/database.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'
import { addToQuarantine, claimAndDie } from '../worker/maintenance/support.ts'

interface DeedTables {
  deed: {
    job_id: string
    state: string
    code: string | null
    message: string | null
    payload: unknown
    abandoned: number
  }
}

const Deed = Type.Object({ deed: Type.String() })

/** Sets the state of the domain rows, in the transaction of the end. */
async function abandon(trx: Transaction<DeedTables>, jobs: AbandonedJob<{ deed: string }>[]): Promise<void> {
  calls.push(jobs.map(({ id }) => id))
  for (const { id, status, error, payload } of jobs) {
    if (failing.has(payload?.deed)) throw new Error('password=hunter2 refused')
    await sql`
      update deed set state = ${status}, code = ${error?.code ?? null}, message = ${error?.message ?? null},
        payload = ${JSON.stringify(payload)}::jsonb, abandoned = abandoned + 1, xid = pg_current_xact_id()
      where job_id = ${id}`.execute(trx)
  }
}

/** The ids of the jobs of each call of abandon. */
const calls: string[][] = []
/** abandon fails for these deeds. */
const failing = new Set<string>()
/** A job with the deed `hangs` waits for this promise. */
const hanging = Promise.withResolvers<void>()

const common = {
  input: Deed,
  accept: async (trx: Transaction<DeedTables>, entries: { id: string; input: { deed: string } }[]) => {
    for (const { id } of entries) await sql`insert into deed (job_id) values (${id})`.execute(trx)
    return entries.map(({ id, input }) => ({ payload: input, resource: `/deeds/${id}` }))
  },
  abandon,
  retry: { limit: 1, delaySeconds: 0 },
}
const perform = defineOperation({
  ...common,
  ...{ name: 'deed.perform', route: { method: 'POST', url: '/deeds' }, timeoutSeconds: 1 },
})
const settle = defineOperation({ ...common, name: 'deed.settle', route: { method: 'POST', url: '/settled-deeds' } })
/** The worker claims none of these jobs. */
const waiting = defineOperation({ ...common, name: 'deed.wait', route: { method: 'POST', url: '/waiting-deeds' } })
const operations = { perform, settle, waiting }

const refuse = (deed: string) => {
  if (deed === 'throws') throw new Error('no way')
  if (deed === 'fails') throw new JobFailed('declined', 'The card was declined', { details: [{ reason: 'funds' }] })
}

const handlers = defineHandlers(operations, {
  'deed.perform': {
    perform: async ({ payload, signal }) => {
      refuse(payload.deed)
      if (payload.deed !== 'hangs') return
      await Promise.race([hanging.promise, new Promise((resolve) => signal.addEventListener('abort', resolve))])
    },
    settle: async (trx, jobs) => {
      for (const { id } of jobs) await trx.updateTable('deed').set({ state: 'done' }).where('job_id', '=', id).execute()
    },
  },
  'deed.settle': {
    settle: async (trx, jobs) => {
      for (const { payload } of jobs) refuse(payload.deed)
      for (const { id } of jobs) await trx.updateTable('deed').set({ state: 'done' }).where('job_id', '=', id).execute()
    },
  },
  'deed.wait': { perform: async () => {} },
})

interface Stage extends Jobs {
  url: string
  /** Posts a deed. Returns the id of its job. */
  submit(path: string, deed: string): Promise<string>
  startWorker(): Promise<Worker>
  /** Waits until a job has ended. Returns its domain row, and whether both were written by one transaction. */
  // biome-ignore lint/suspicious/noExplicitAny: a row of any shape
  outcome(id: string): Promise<any>
}

async function setUp(t: Test): Promise<Stage> {
  const api = await serve(t, { operations })
  const jobs = await openJobs(t, Object.values(operations), api.database.options.url)
  await jobs.query(`
    create table deed (
      job_id uuid primary key, state text not null default 'pending', code text, message text, payload jsonb,
      abandoned integer not null default 0, xid xid8
    );
    grant select, insert, update on deed to public`)
  return {
    ...jobs,
    url: api.url,
    submit: async (path, deed) => (await post(api.url + path, { deed })).body.id,
    startWorker: () =>
      jobs.work(handlers, {
        ...{ operations: ['deed.perform', 'deed.settle'], database: asRole(api.database.options.url, 'worker') },
      }),
    async outcome(id) {
      await jobs.ended(id)
      const rows = await jobs.query(
        `select deed.state, deed.code, deed.message, deed.payload, deed.abandoned, job.status, job.error ->> 'code' as error,
          job.xmin = deed.xid::xid as together
        from deed join accepted.job on job.id = deed.job_id where job_id = $1`,
        [id],
      )
      return rows[0]
    },
  }
}

t.test('whatever ends a job without success, abandon commits once with the end', async (t) => {
  const stage = await setUp(t)
  const { query, submit, url } = stage
  const crashed = await submit('/deeds', 'crashes')
  await addToQuarantine(stage, crashed, { crashes: 1, rescues: 7 })
  await claimAndDie(stage, perform, 1)
  const orphan = await submit('/settled-deeds', 'canceled while its worker is dead')
  await claimAndDie(stage, settle, 1)
  await query('select accepted.cancel($1)', [orphan])
  await stage.startWorker()

  const cases: Record<string, { act(): Promise<string>; code?: string; message?: RegExp }> = {
    'the last attempt fails in perform': {
      act: () => submit('/deeds', 'throws'),
      ...{ code: 'handler-error', message: /^no way$/ },
    },
    'the last attempt fails in settle': { act: () => submit('/settled-deeds', 'throws'), code: 'handler-error' },
    'JobFailed in perform': {
      act: () => submit('/deeds', 'fails'),
      ...{ code: 'declined', message: /^The card was declined$/ },
    },
    'JobFailed in settle': { act: () => submit('/settled-deeds', 'fails'), code: 'declined' },
    timeout: { act: () => submit('/deeds', 'hangs'), code: 'attempt-timeout' },
    'invalid payload': {
      async act() {
        const [{ id }] = await query(`select accepted.enqueue('deed.settle', '{"deed": 7}') as id`)
        await query('insert into deed (job_id) values ($1)', [id])
        return id
      },
      code: 'invalid-payload',
    },
    'several workers crashed': { act: async () => crashed, code: 'worker-crashed' },
    'the queue lost the job': {
      async act() {
        const id = await submit('/waiting-deeds', 'lost')
        await query('delete from accepted_queue.job where id = $1', [id])
        return id
      },
      code: 'queue-lost',
    },
    'failed by another program': {
      async act() {
        const id = await submit('/waiting-deeds', 'failed elsewhere')
        await query("update accepted_queue.job set state = 'failed', completed_on = now() where id = $1", [id])
        return id
      },
      code: 'failed-elsewhere',
    },
    'canceled by another program': {
      async act() {
        const id = await submit('/waiting-deeds', 'canceled elsewhere')
        await stage.boss.cancel(waiting.name, id)
        return id
      },
    },
    'queued and canceled over HTTP': {
      async act() {
        const id = await submit('/waiting-deeds', 'canceled over HTTP')
        const { status, body } = await post(`${url}/jobs/${id}/cancel`, {})
        t.match({ status, body }, { status: 200, body: { status: 'canceled' } })
        return id
      },
    },
    'queued and canceled in SQL': {
      async act() {
        const id = await submit('/waiting-deeds', 'canceled in SQL')
        t.same(await query('select accepted.cancel($1)::text as status', [id]), [{ status: 'queued' }])
        return id
      },
    },
    'queued and canceled on the command line': {
      async act() {
        const id = await submit('/waiting-deeds', 'canceled on the command line')
        const { code } = await run(['jobs', 'cancel', id], { DATABASE_URL: stage.database.options.url })
        t.equal(code, 0)
        return id
      },
    },
    'canceled with its batch': {
      async act() {
        const [{ batch }] = await query(`
          select accepted.enqueue_batch('[{"operation": "deed.wait", "payload": {"deed": "of a batch"}}]') as batch`)
        const [{ id }] = await query('select id from accepted.job where parent = $1', [batch])
        await query('insert into deed (job_id) values ($1)', [id])
        await query('select accepted.cancel($1)', [batch])
        return id
      },
    },
    'canceled because a job that it waits for has failed': {
      async act() {
        const after = [await submit('/settled-deeds', 'fails')]
        const id = await stage.add(waiting, { deed: 'waits' }, { after })
        await query('insert into deed (job_id) values ($1)', [id])
        return id
      },
    },
    'running and canceled over HTTP': {
      async act() {
        // An attempt times out after a second. Between two attempts, the answer is 200.
        return until(async () => {
          const id = await submit('/deeds', 'hangs')
          await until(async () => (await stage.read(id)).status === 'running')
          return (await post(`${url}/jobs/${id}/cancel`, {})).status === 202 && id
        })
      },
    },
    'canceled while its worker is dead': { act: async () => orphan },
  }
  const ran = await Promise.all(
    Object.entries(cases).map(async ([cause, one]) => ({
      cause,
      ...one,
      outcome: await stage.outcome(await one.act()),
    })),
  )
  for (const { cause, code, message, outcome } of ran) {
    const status = code ? 'failed' : 'canceled'
    const expected = { state: status, status, code: code ?? null, error: code ?? null, abandoned: 1, together: true }
    t.match(outcome, { ...expected, ...(message && { message }), payload: { deed: /./ } }, cause)
  }
  t.equal(new Set(calls.flat()).size, calls.flat().length, 'called once for each job')
  t.same(await query('select from accepted.ending'), [])
})

t.test('abandon is not called for a job that succeeds or is retried, and a retry finds its domain row', async (t) => {
  const stage = await setUp(t)
  await stage.startWorker()
  const done = await stage.submit('/deeds', 'x')
  const failed = await stage.submit('/settled-deeds', 'fails')
  t.match(await stage.outcome(done), { state: 'done', status: 'succeeded', abandoned: 0 })
  t.match(await stage.read(done), { payload: null }, 'the payload is not kept')
  t.match(await stage.outcome(failed), { state: 'failed', abandoned: 1 })
  const [{ id }] = await stage.query('select accepted.retry($1) as id', [failed])
  t.match(await stage.ended(id), { status: 'failed', retry_of: failed, resource: `/deeds/${failed}` })
})

t.test('while abandon fails, the job does not end; other jobs end, and the view stuck shows why', async (t) => {
  const stage = await setUp(t)
  const { query, submit, url } = stage
  const worker = await stage.startWorker()
  failing.add('throws')
  t.teardown(() => failing.clear())
  const inPerform = await submit('/deeds', 'throws')
  const inSettle = await submit('/settled-deeds', 'throws')
  const canceled = await submit('/waiting-deeds', 'throws')
  t.match(await post(`${url}/jobs/${canceled}/cancel`, {}), { status: 202, body: { status: 'queued' } })
  const others = await Promise.all(['fails', 'fails', 'fails'].map((deed) => submit('/settled-deeds', deed)))
  for (const id of others) t.match(await stage.outcome(id), { state: 'failed', abandoned: 1 })
  const stuck = await until(async () => {
    const rows = await query("select * from accepted.stuck where code = 'abandon-failed'")
    return rows.length === 3 && rows
  })
  t.same(stuck.map(({ job_id }) => job_id).toSorted(), [inPerform, inSettle, canceled].toSorted())
  for (const { why } of stuck) t.match(why, /^abandon has failed \d+ times: password=\S*\*+\S* refused$/)
  for (const id of [inPerform, inSettle, canceled]) t.match(await stage.read(id), { ended_at: null })
  t.match(await query('select event, detail from accepted.timeline where job_id = $1', [canceled]), [
    ...[{ event: 'accepted' }, { event: 'cancel requested' }],
    { event: 'end decided', detail: /^canceled when abandon has committed, abandon has failed/ },
  ])
  t.match((await get(`${url}/metrics`)).body, /accepted_abandon_failures_total\{operation="deed.wait"\} [1-9]/)
  t.match(await worker.metrics(), /accepted_abandon_failures_total\{operation="deed.perform"\} [1-9]/)
  failing.clear()
  for (const id of [inPerform, inSettle]) {
    t.match(await stage.outcome(id), { state: 'failed', code: 'handler-error', abandoned: 1, together: true })
  }
  t.match(await stage.outcome(canceled), { state: 'canceled', abandoned: 1, together: true })
})

t.test('a deferred constraint that abandon violates counts as its failure', async (t) => {
  const stage = await setUp(t)
  await stage.query(`
    create function refuse() returns trigger language plpgsql as $$ begin raise 'refused at commit'; end $$;
    create constraint trigger refuse after update on deed deferrable initially deferred
      for each row when (new.state = 'failed') execute function refuse();`)
  await stage.startWorker()
  const id = await stage.submit('/settled-deeds', 'fails')
  await until(async () => (await stage.query('select from accepted.ending where failures > 0')).length === 1)
  await stage.query('drop trigger refuse on deed')
  t.match(await stage.outcome(id), { state: 'failed', code: 'declined', abandoned: 1 })
})

t.test('an API without a worker ends jobs that SQL has canceled; many jobs share a call', async (t) => {
  const stage = await setUp(t)
  const ids = await Promise.all(Array.from({ length: 50 }, () => stage.submit('/waiting-deeds', 'x')))
  calls.length = 0
  await stage.query('select accepted.cancel(id) from accepted.job order by id')
  for (const id of ids) t.match(await stage.outcome(id), { state: 'canceled', abandoned: 1, together: true })
  t.ok(calls.length < 10, `${calls.length} calls`)
})

t.test('forget with cancel_pending asks for the end; the second call deletes the jobs', async (t) => {
  const stage = await setUp(t)
  const id = await stage.submit('/waiting-deeds', 'x')
  await stage.query("select accepted.forget('anonymous', true)")
  t.match(await stage.outcome(id), { state: 'canceled', abandoned: 1 })
  t.match(await stage.query("select accepted.forget('anonymous', true) as count"), [{ count: '1' }])
})
