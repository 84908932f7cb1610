import { defineOperation } from 'accepted'
import { sql } from 'kysely'
import t from 'tap'
import { openJobs, writeEffects } from '../../support/jobs.ts'
import { startCommitBreaker } from '../../support/proxy.ts'
import { until } from '../../support/until.ts'
import { handlersFor, Word } from '../support.ts'

const write = defineOperation({
  name: 'word.write',
  input: Word,
  retry: { limit: 1, delaySeconds: 0, backoff: false },
})

const words = Array.from({ length: 20 }, (_, index) => `word ${index}`)

t.test(
  'when the reply to the COMMIT of a settle is lost, each effect happens once, and no attempt fails',
  async (t) => {
    const jobs = await openJobs(t, [write])
    const ids = await Promise.all(words.map((word) => jobs.add(write, { word })))
    const breaker = await startCommitBreaker(t, jobs.database.options.url, 'mark this transaction')
    const worker = await jobs.work(
      handlersFor(write, {
        settle: async (trx, batch) => {
          await writeEffects(trx, batch)
          await sql`select 'mark this transaction'`.execute(trx)
        },
      }),
      { database: breaker.url },
    )
    for (const id of ids) t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
    await until(breaker.hasBroken)
    const next = await jobs.add(write, { word: 'after' })
    t.match(await jobs.ended(next), { status: 'succeeded', attempt: 1 }, 'the worker runs the next job')
    t.equal((await jobs.query('select from effect')).length, words.length + 1)
    t.same(await jobs.query('select from accepted.attempt'), [])
    const metrics = await worker.metrics()
    t.match(metrics, `outcome="succeeded"} ${words.length + 1}`)
    t.notMatch(metrics, /outcome="lost"} [1-9]|reason="bisected"} [1-9]/)
  },
)

t.test(
  'when the reply to the COMMIT that records a failure is lost, the failure uses up only one attempt',
  async (t) => {
    const jobs = await openJobs(t, [write])
    const id = await jobs.add(write, { word: 'x' })
    const breaker = await startCommitBreaker(t, jobs.database.options.url, 'insert into accepted.attempt')
    const worker = await jobs.work(
      handlersFor(write, {
        perform: async ({ attempt }) => {
          if (attempt === 1) throw new Error('fails at first')
        },
        settle: writeEffects,
      }),
      { database: breaker.url },
    )
    t.match(await jobs.ended(id), { status: 'succeeded', attempt: 2 })
    t.ok(breaker.hasBroken())
    t.same(await jobs.query('select attempt from accepted.attempt'), [{ attempt: 1 }])
    t.same(await jobs.query('select word from effect'), [{ word: 'x' }])
    const metrics = await worker.metrics()
    t.match(metrics, /outcome="retried"} 1\b/)
    t.notMatch(metrics, /outcome="lost"} [1-9]/)
  },
)
