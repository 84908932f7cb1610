import { defineOperation } from 'accepted'
import t from 'tap'
import { JobFailed } from '../../../worker/errors.ts'
import type { PerformingJob } from '../../../worker/running-job.ts'
import { openJobs, writeEffects } from '../../support/jobs.ts'
import { handlersFor, Word } from '../support.ts'

const write = defineOperation({ name: 'word.write', input: Word })

t.test('a second job with the same key has an effect only if the first job has expired', async (t) => {
  const jobs = await openJobs(t, [write])
  await jobs.work(handlersFor(write, { settle: writeEffects }))
  const add = () => jobs.add(write, { word: 'x' }, { idempotencyKey: 'k' })
  const first = await add()
  await jobs.ended(first)
  await jobs.ended(await add())
  t.equal((await jobs.query('select from effect')).length, 1)
  await jobs.query("update accepted.job set expires_at = now() - interval '1 second' where id = $1", [first])
  const third = await add()
  await jobs.ended(third)
  t.same(
    (await jobs.query('select job_id from effect')).map(({ job_id }) => job_id),
    [first, third],
  )
  t.same(await jobs.query('select job_id from accepted.processed_key'), [{ job_id: third }])
})

t.test('a job is not a duplicate if its key was processed by the same job, for example after a restore', async (t) => {
  const jobs = await openJobs(t, [write])
  const id = await jobs.add(write, { word: 'a' }, { idempotencyKey: 'k' })
  await jobs.query(
    "insert into accepted.processed_key (operation, principal, key, job_id) values ($1, 'ann', 'k', $2)",
    [write.name, id],
  )
  await jobs.work(handlersFor(write, { settle: writeEffects }))
  t.match(await jobs.ended(id), { status: 'succeeded' })
  t.match(await jobs.query('select job_id from effect'), [{ job_id: id }])
})

t.test('the effect key belongs to the principal and the operation, and is the same in a retry', async (t) => {
  const other = defineOperation({ name: 'word.other', input: Word })
  const jobs = await openJobs(t, [write, other])
  const effectKeys = new Map<string, string>()
  const remember: (job: PerformingJob) => Promise<void> = async ({ id, effectKey }) =>
    void effectKeys.set(id, effectKey)
  const add = async (operation: typeof write | typeof other, more: { principal?: string; idempotencyKey?: string }) => {
    const id = await jobs.add(operation, { word: 'x' }, more)
    await jobs.ended(id)
    return id
  }
  await jobs.work(handlersFor(other, { perform: remember }))
  const perform = async (job: PerformingJob) => {
    await remember(job)
    if (job.attempt === 1) throw new JobFailed('refused', 'Refused')
  }
  await jobs.work(handlersFor(write, { perform }))
  const ann = await add(write, { principal: 'ann', idempotencyKey: 'k' })
  const bob = await add(write, { principal: 'bob', idempotencyKey: 'k' })
  const foreign = await add(other, { principal: 'ann', idempotencyKey: 'k' })
  const keyless = await add(write, { principal: 'ann' })
  const retryOf = async (id: string) => {
    const [row] = await jobs.query('select accepted.retry($1) as id', [id])
    const retry = row?.id as string
    await jobs.ended(retry)
    return retry
  }
  const keyOf = (id: string) => effectKeys.get(id) as string
  t.equal(keyOf(await retryOf(ann)), keyOf(ann))
  t.equal(keyOf(await retryOf(keyless)), keyOf(keyless))
  const different = [ann, bob, foreign, keyless].map(keyOf)
  t.equal(new Set(different).size, 4)
  for (const key of different) t.match(key, /^[\da-f]{8}-[\da-f]{4}-8[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/)
})
