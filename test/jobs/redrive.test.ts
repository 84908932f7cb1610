import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed } from 'accepted/worker'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { type RedriveOptions, type RedriveOutcome, redrive } from '../../src/jobs/redrive.ts'
import type { Operation } from '../../src/operation.ts'
import { openJobs } from '../support/jobs.ts'

const Word = Type.Object({ word: Type.String() })
const operation = defineOperation({ name: 'word.write', input: Word, retry: { limit: 0 } })
const other = defineOperation({ name: 'word.other', input: Word, retry: { limit: 0 } })
const operations = { operation, other }

/** Starts a worker whose jobs fail while `service.isBroken` is true. */
async function setUp(t: Test) {
  const jobs = await openJobs(t, Object.values(operations))
  const service = { isBroken: true }
  const effects: { word: string; key: string }[] = []
  const perform = async ({
    payload: { word },
    idempotencyKey: key,
  }: {
    payload: { word: string }
    idempotencyKey: string
  }) => {
    if (service.isBroken) throw new JobFailed(word === 'odd' ? 'odd' : 'outage', 'Not now')
    effects.push({ word, key })
  }
  await jobs.work(defineHandlers(operations, { 'word.write': { perform }, 'word.other': { perform } }))
  const all = new Map<string, Operation>(Object.values(operations).map((one) => [one.name, one]))
  return {
    jobs,
    service,
    effects,
    async fail(more?: Parameters<typeof jobs.add>[2], word = 'a', of: typeof operation | typeof other = operation) {
      const id = await jobs.add(of as typeof operation, { word }, more)
      await jobs.ended(id)
      return id
    },
    async redrive(options: Partial<RedriveOptions> = {}, defined = all) {
      const found = await jobs.database.kysely
        .transaction()
        .execute((trx) => redrive(trx, defined.keys(), { batchSize: 100, maxRedriven: 1_000, ...options }))
      const having = (outcome: RedriveOutcome) => found.filter((job) => job.outcome === outcome)
      return {
        redriven: having('redriven'),
        alreadyRetried: having('already-retried'),
        unknownOperation: having('unknown-operation'),
        missingPayload: having('missing-payload'),
        last: found.at(-1)?.id,
      }
    },
    retriesOf: (id: string) => jobs.query('select * from accepted.job where retry_of = $1 order by id', [id]),
  }
}

const ids = (found: { id: string }[]) => found.map(({ id }) => id)

t.test('a redriven job has the principal, resource, endpoint and idempotency key of the failed job', async (t) => {
  const { jobs, service, effects, fail, redrive, retriesOf } = await setUp(t)
  const webhookEndpointId = uuid7()
  const keyed = await fail({ principal: 'bob', idempotencyKey: 'k', resource: '/words/1', webhookEndpointId })
  const bare = await fail()
  service.isBroken = false
  t.same(ids((await redrive()).redriven), [keyed, bare])
  const [retry] = (await retriesOf(keyed)) as [{ id: string }]
  t.match(await jobs.ended(retry.id), {
    status: 'succeeded',
    operation: 'word.write',
    principal: 'bob',
    idempotency_key: 'k',
    resource: '/words/1',
    webhook_endpoint_id: webhookEndpointId,
  })
  const [bareRetry] = (await retriesOf(bare)) as [{ id: string }]
  await jobs.ended(bareRetry.id)
  t.same(
    effects.toSorted((a, b) => a.key.length - b.key.length),
    [
      { word: 'a', key: 'k' },
      { word: 'a', key: bare },
    ],
  )
})

t.test('repeated and concurrent redrives create one retry for each job', async (t) => {
  const { jobs, service, fail, redrive } = await setUp(t)
  for (let count = 0; count < 5; count++) await fail()
  service.isBroken = false
  const both = await Promise.all([redrive(), redrive(), redrive()])
  t.same(both.map(({ redriven }) => redriven.length).sort(), [0, 0, 5])
  t.same(both.map(({ alreadyRetried }) => alreadyRetried.length).sort(), [0, 5, 5])
  for (const { id } of await jobs.query('select id from accepted.job where retry_of is not null')) await jobs.ended(id)
  t.match(await redrive(), { redriven: [], alreadyRetried: { length: 5 } })
  t.equal((await jobs.query('select from accepted.job')).length, 10)
})

t.test('redrive retries a failed retry instead of the original job, and ignores a canceled retry', async (t) => {
  const { jobs, fail, redrive, retriesOf } = await setUp(t)
  const first = await fail()
  await redrive()
  const [second] = (await retriesOf(first)) as [{ id: string }]
  t.match(await jobs.ended(second.id), { status: 'failed' })
  await jobs.query(`select accepted.pause('word.write')`)
  t.match(await redrive(), { redriven: [{ id: second.id }], alreadyRetried: [{ id: first }] })
  const [third] = (await retriesOf(second.id)) as [{ id: string }]
  await jobs.query('select accepted.cancel($1)', [third.id])
  t.same(await retriesOf(first), [await jobs.read(second.id)])
  t.match(await redrive({ dryRun: true }), { redriven: [{ id: second.id }], alreadyRetried: [{ id: first }] })
})

t.test(
  'redrive can filter by operation, time and error, can limit batches and new jobs, and has a dry run',
  async (t) => {
    const { jobs, fail, redrive } = await setUp(t)
    const all = [await fail(), await fail({}, 'odd'), await fail({}, 'a', other)] as const
    await jobs.query(`update accepted.job set ended_at = now() - interval '2 hours' where id = $1`, [all[0]])
    const dryRun = true
    t.same(ids((await redrive({ dryRun })).redriven), all)
    t.same(ids((await redrive({ dryRun, operation: 'word.other' })).redriven), [all[2]])
    t.same(ids((await redrive({ dryRun, error: 'odd' })).redriven), [all[1]])
    const since = new Date(Date.now() - 60 * 60 * 1000)
    t.same(ids((await redrive({ dryRun, since })).redriven), [all[1], all[2]])
    t.match(await redrive({ dryRun, maxRedriven: 1 }), { redriven: [{ id: all[0] }], last: all[0] })
    t.match(await redrive({ dryRun, batchSize: 2 }), { redriven: { length: 2 }, last: all[1] })
    const { last: second } = await redrive({ dryRun, batchSize: 2 })
    const rest = await redrive({ dryRun, batchSize: 2, after: second })
    t.match(rest, { redriven: [{ id: all[2] }], last: all[2] })
    t.match(await redrive({ dryRun, after: rest.last }), { redriven: [], last: undefined })
    t.equal((await jobs.query('select from accepted.job')).length, 3)
  },
)

t.test('redrive skips jobs that cannot run again, and reports them by reason', async (t) => {
  const { jobs, service, fail, redrive } = await setUp(t)
  const [gone, bare, expired, good] = [await fail({}, 'a', other), await fail(), await fail(), await fail()]
  await jobs.query('update accepted.job set payload = null where id = $1', [bare])
  await jobs.query('update accepted.job set expires_at = now() where id = $1', [expired])
  service.isBroken = false
  const found = await redrive({}, new Map([[operation.name, operation]]))
  t.match(found, {
    unknownOperation: [{ id: gone }],
    missingPayload: [{ id: bare }],
    redriven: [{ id: good }],
    alreadyRetried: [],
  })
  t.equal(found.redriven.length, 1)
})
