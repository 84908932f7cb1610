import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import { openJobs } from '../support/jobs.ts'
import { Word } from './support.ts'

const say = defineOperation({ name: 'word.say', input: Word })
const operations = { say }

t.test('a worker with a missing or surplus handler does not start', async (t) => {
  const jobs = await openJobs(t, [say])
  const missing = {} as Parameters<typeof defineHandlers<typeof operations>>[1]
  await t.rejects(jobs.work(defineHandlers(operations, missing)), new TypeError('No handler is defined for word.say'))
  const surplus = { 'word.say': { perform: async () => {} }, 'word.more': {} }
  await t.rejects(
    jobs.work(defineHandlers(operations, () => surplus)),
    new TypeError('No operation is defined for the handler of word.more'),
  )
})

t.test('a worker with an invalid handler does not start', async (t) => {
  const jobs = await openJobs(t, [say])
  for (const [handler, message] of [
    [{}, /it must have perform, settle or both/],
    [{ preform: async () => {}, settle: async () => {} }, /there is no option 'preform'; the options are perform, /],
    [{ settle: 'later' }, /settle must be a function/],
    [{ perform: async () => {}, concurrency: 0 }, /concurrency must be an integer of at least 1, not 0/],
    [undefined, /it must be an object/],
  ] as const) {
    const handlers = { 'word.say': handler } as unknown as Parameters<typeof defineHandlers<typeof operations>>[1]
    await t.rejects(jobs.work(defineHandlers(operations, handlers)), { message })
  }
})

t.test('a handler may throw the errors of another copy of the package', async (t) => {
  const copy: typeof import('../../worker/errors.ts') = await import(`../../worker/errors.ts${'?copy'}`)
  const jobs = await openJobs(t, [say])
  let hasWaited = false
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        async perform({ payload }) {
          if (payload.word === 'fail') throw new copy.JobFailed('unsayable', 'It cannot be said')
          if (!hasWaited) {
            hasWaited = true
            throw new copy.RetryAfter(0)
          }
        },
      },
    }),
  )
  const [failed, retried] = [await jobs.add(say, { word: 'fail' }), await jobs.add(say, { word: 'wait' })]
  t.match(await jobs.ended(failed), { status: 'failed', attempt: 1, error: { code: 'unsayable', public: true } })
  t.match(await jobs.ended(retried), { status: 'succeeded', attempt: 1 })
  t.ok(hasWaited)
})

t.test('an app cannot define a handler for an operation that has the name of the built-in operation', async (t) => {
  const mine = defineOperation({ name: 'webhook.deliver', input: Word })
  t.throws(() => defineHandlers({ mine }, { 'webhook.deliver': { settle: async () => {} } }), TypeError)
})
