import { defineOperation } from 'accepted'
import t from 'tap'
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
