import { defineOperation, defineSchedule } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import Type from 'typebox'
import { assertPrincipal, problemOfPrincipal } from '../../src/primitives/principal.ts'
import { serve } from '../support/api.ts'
import { openJobs } from '../support/jobs.ts'

const valid = ['ann', 'user:42', 'Zoë 李', '🙂'.repeat(255), 'schedules', 'my webhook:1', '**', 'anonymous', ' ']

const refused: Readonly<Record<string, RegExp>> = {
  '': /^must not be empty$/,
  [`${'🙂'.repeat(256)}`]: /^must have at most 255 characters$/,
  ['x'.repeat(1_000)]: /^must have at most 255 characters$/,
  'a\nb': /control characters/,
  'a\u007f': /control characters/,
  'a\u0085': /control characters/,
  '*': /^must not be '\*': .*; use another name$/,
  schedule: /^must not be 'schedule': /,
  'webhook:1': /^must not be 'webhook:1': /,
  'forgotten:1': /reserved/,
}

/** Postgres cannot store these, so they cannot reach its function. */
const refusedByTypeScript = ['a\u0000', 'a\ud800']

const note = defineOperation({ name: 'note.create', input: Type.Object({}), retry: { limit: 0 } })
const item = '[{"operation": "note.create"}]'

t.test('only free names of 1 to 255 characters can be principals', async (t) => {
  for (const name of valid) t.equal(problemOfPrincipal(name), undefined, name)
  for (const [name, problem] of Object.entries(refused)) {
    t.match(problemOfPrincipal(name), problem, JSON.stringify(name))
    t.throws(() => assertPrincipal(name), TypeError)
  }
  for (const name of refusedByTypeScript) t.match(problemOfPrincipal(name), /control characters or lone surrogates/)
  t.equal(problemOfPrincipal(undefined), 'must be a string, not undefined')
  t.equal(problemOfPrincipal(null), 'must be a string, not null')
  t.equal(problemOfPrincipal({}), 'must be a string, not object')
})

t.test('SQL accepts and refuses the same principals', async (t) => {
  const { query } = await openJobs(t, [note])
  const calls = [`enqueue('note.create', principal => $1)`, `enqueue_batch('${item}', principal => $1)`]
  for (const call of calls) {
    for (const name of valid) await t.resolves(query(`select accepted.${call}`, [name]), name)
    for (const name of [...Object.keys(refused), null]) {
      const error = { code: '22023', message: /principal/, hint: /up to 255 characters/ }
      await t.rejects(query(`select accepted.${call}`, [name]), error, `${call} ${name}`)
    }
  }
  const stored = await query('select distinct principal from accepted.job')
  t.same(new Set(stored.map(({ principal }) => principal)), new Set(valid))
})

t.test('code that enqueues is refused the same principals', async (t) => {
  const { app, database } = await serve(t, { operations: { note } })
  const { accepted } = app
  for (const [principal, problem] of Object.entries(refused)) {
    const error = { name: 'TypeError', message: new RegExp(problem.source.replace('^', '^The principal ')) }
    const inTransaction = (work: (trx: never) => Promise<unknown>) =>
      database.kysely.transaction().execute((trx) => work(trx as never))
    const items = [{ operation: note, payload: {} }] as const
    await t.rejects(
      inTransaction((trx) => accepted.enqueue(trx, note, {}, { principal })),
      error,
    )
    await t.rejects(
      inTransaction((trx) => accepted.enqueueBatch(trx, { items, principal })),
      error,
    )
    const schedule = { name: 'x', cron: '0 3 * * *', operation: note, payload: {}, principal }
    if (principal !== 'schedule')
      t.throws(
        () => defineSchedule(schedule),
        new TypeError(`Schedule 'x': the principal ${problemOfPrincipal(principal)}`),
      )
    else t.equal(defineSchedule(schedule).principal, 'schedule', 'the default of schedules')
  }
  t.same(await database.kysely.selectFrom('accepted.job').select('id').execute(), [])
})

t.test('a follow-up job may keep the reserved principal of its job, but not take another one', async (t) => {
  const operations = { note, next: defineOperation({ name: 'note.next', input: Type.Object({}) }) }
  const jobs = await openJobs(t, Object.values(operations))
  const settleWith = async (principal: string) => {
    const handlers = defineHandlers(operations, {
      'note.create': {
        settle: async (trx, settling) => {
          for (const job of settling) await job.enqueue(trx, operations.next, {}, { principal })
        },
      },
      'note.next': { settle: async () => {} },
    })
    const worker = await jobs.work(handlers)
    const job = await jobs.ended(await jobs.add(note, {}, { principal: 'schedule' }))
    await worker.stop()
    return job
  }
  t.match(await settleWith('schedule'), { status: 'succeeded' })
  t.match(await settleWith('webhook:1'), { status: 'failed', error: { message: /reserved/ } })
})
